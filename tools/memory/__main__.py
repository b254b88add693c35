"""The command line."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import yaml
from command_line import parser_of, say
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import DaemonProcess, free_port
from support.installation import TOKEN, a_watch
from support.postgres import SETTINGS, create_ats

from cdc_sync.demo.postgres import server

_FILL = """
INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at, source)
SELECT 'application-' || n, 'IN PROGRESS', 'job-' || n / 50, now(), now() - interval '1 day', repeat('x', {source})
  FROM generate_series(1, {rows}) n
"""
_HOUR = 3600.0


def main() -> int:
    parser = parser_of("memory")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="tables' sizes (%(default)s)")
    parser.add_argument("--source", type=int, default=12, help="characters of each row's source (%(default)s)")
    given = parser.parse_args()
    say(f"{'rows':>10} {'baseline':>20} {'sweep':>20} {'store':>10}")
    for rows in given.rows:
        with (
            tempfile.TemporaryDirectory(prefix="cdc-sync-memory-") as folder,
            server(server_binaries(), settings=SETTINGS) as own,
        ):
            measure(own.dsn, rows, Path(folder), given.source)
    return 0


def measure(dsn: str, rows: int, folder: Path, source: int) -> None:
    create_ats(dsn)
    with psycopg.connect(dsn, autocommit=True) as ats:
        ats.execute(sql.SQL(_FILL).format(rows=sql.Literal(rows), source=sql.Literal(source)))
        ats.execute("VACUUM ANALYZE public.applications")
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "database": {"dsn": dsn},
                "hellowork": {"base_url": f"http://127.0.0.1:{free_port()}"},
                "state": {"path": str(folder / "state.db")},
                "admin": {"listen": f"127.0.0.1:{port}", "token": TOKEN},
                "log": {"level": "debug", "format": "json"},
                "watches": {"applications": a_watch("poll")},
            }
        )
    )
    daemon = DaemonProcess(["--config", str(config), "run"], {}, folder / "run", port, TOKEN)
    try:
        process = psutil.Process(daemon.pid)
        baseline = peak(process, lambda: daemon.events_named("applications known"))
        sweep = peak(process, lambda: daemon.events_named("swept"))
        daemon.stop()
    finally:
        daemon.kill()
    store = (folder / "state.db").stat().st_size
    say(f"{rows:>10} {baseline:>20} {sweep:>20} {store / 2**20:>7.0f} MB")


def peak(process: psutil.Process, is_over: Callable[[], object]) -> str:
    """The seconds until its end, and the most resident memory."""
    started, most = time.monotonic(), 0
    while not is_over():
        most = max(most, process.memory_info().rss)
        if time.monotonic() - started > _HOUR:
            raise TimeoutError
        time.sleep(0.1)
    return f"{time.monotonic() - started:.0f} s, {most / 2**20:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())

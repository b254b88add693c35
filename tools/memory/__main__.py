"""The command line."""

import sys
import tempfile
import time
from pathlib import Path

import psycopg
from command_line import parser_of, say
from own_daemon import OwnDaemon, peak
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import DaemonProcess
from support.installation import a_watch
from support.postgres import SETTINGS, create_ats

from cdc_sync.demo.postgres import server

_FILL = """
INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at, source)
SELECT 'application-' || n, 'IN PROGRESS', 'job-' || n / 50, now(), now() - interval '1 day', repeat('x', {source})
  FROM generate_series(1, {rows}) n
"""


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
    own = OwnDaemon(folder, dsn, {"applications": a_watch("poll")})
    daemon = own.start()
    try:
        baseline = until(daemon, "applications known")
        sweep = until(daemon, "swept")
        daemon.stop()
    finally:
        daemon.kill()
    say(f"{rows:>10} {baseline:>20} {sweep:>20} {own.store.stat().st_size / 2**20:>7.0f} MB")


def until(daemon: DaemonProcess, event: str) -> str:
    """The seconds until an event, and the most resident memory."""
    started = time.monotonic()
    most = peak(daemon, lambda: daemon.events_named(event))
    return f"{time.monotonic() - started:.0f} s, {most / 2**20:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())

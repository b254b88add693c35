"""The command line."""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import yaml
from command_line import parser_of, say
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import DaemonProcess, free_port
from support.hellowork_server import HelloWork, hellowork
from support.installation import TOKEN, a_watch, merged
from support.postgres import SETTINGS, create_ats
from support.watched import run_script

from cdc_sync.config import load
from cdc_sync.demo.postgres import server
from cdc_sync.emulator import EmulatorOptions
from cdc_sync.source import scripts

_FILL = """
INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)
SELECT 'application-' || n, 'NEW', 'job-' || n / 50, now(), now() - interval '1 day' FROM generate_series(1, {}) n
"""
_CHANGE = "UPDATE public.applications SET status = %s, updated_at = clock_timestamp()"
_HOUR = 3600.0


def main() -> int:
    parser = parser_of("outage")
    parser.add_argument("--entries", type=int, default=100_000, help="applications that change (%(default)s)")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that HelloWork takes (%(default)s)")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="cdc-sync-outage-") as folder,
        server(server_binaries(), settings=SETTINGS) as own,
        hellowork(EmulatorOptions(latency=given.latency)) as api,
    ):
        return measure(own.dsn, api, given.entries, Path(folder))


def measure(dsn: str, api: HelloWork, entries: int, folder: Path) -> int:
    create_ats(dsn)
    port, config = free_port(), folder / "config.yaml"
    config.write_text(yaml.safe_dump(document(dsn, api.url, folder, port)))
    with psycopg.connect(dsn, autocommit=True) as ats:
        ats.execute(sql.SQL(_FILL).format(sql.Literal(entries)))
        run_script(ats, scripts.install(load(config, {})))
        first = DaemonProcess(["--config", str(config), "run"], {}, folder / "first", port, TOKEN)
        try:
            first.wait_until_ready(_HOUR)
            api.will({"kind": "status", "status": 503, "times": None})
            ats.execute(_CHANGE, ("SEEN",))
            ats.execute(_CHANGE, ("HIRED",))
            pending(first, entries)
            first.stop()
        finally:
            first.kill()
        second = DaemonProcess(["--config", str(config), "run"], {}, folder / "second", port, TOKEN)
        try:
            process = psutil.Process(second.pid)
            second.wait_until(lambda: second.readiness()[0] == 503, "the state of the endpoint", _HOUR)
            waiting = process.memory_info().rss
            api.will_work()
            return_of(second, process, api, entries)
            say(f"the daemon's memory: {waiting / 2**20:.0f} MB while it waited")
            second.stop()
        finally:
            second.kill()
    wrong = [name for name, body in api.state.items() if body["status"] != "HIRED"]
    say(f"applications without the newest state: {len(wrong)}; acknowledged: {len(api.state)}")
    return 1 if wrong or len(api.state) != entries else 0


def return_of(daemon: DaemonProcess, process: psutil.Process, api: HelloWork, entries: int) -> None:
    most = peak(process, lambda: daemon.report()["watches"][0]["pending"] == 0)
    answered = [call for call in api.calls if call.status == 200]
    began = answered[0].received
    by_tenth = Counter(int((call.received - began) * 10) for call in answered)
    seconds = answered[-1].received - began
    say(f"calls while it was down: {len(api.calls) - len(answered)}")
    say(f"calls in the first tenths of a second: {[by_tenth[tenth] for tenth in range(10)]}")
    say(f"everything sent in {seconds:.0f} s, {entries / seconds:.0f} a second")
    say(f"calls to an application that another one was under way for: {sum(call.concurrent for call in api.calls)}")
    say(f"the daemon's memory: {most / 2**20:.0f} MB at most while it sent")


def document(dsn: str, base_url: str, folder: Path, port: int) -> dict[str, object]:
    """The defaults, but a fuse without limits."""
    huge = 10**9
    return {
        "database": {"dsn": dsn},
        "hellowork": {"base_url": base_url},
        "state": {"path": str(folder / "state.db")},
        "admin": {"listen": f"127.0.0.1:{port}", "token": TOKEN},
        "log": {"level": "warning", "format": "json"},
        "watches": {"applications": merged(a_watch("notify"), {"fuse": {"max_changes": huge, "max_deletions": huge}})},
    }


def pending(daemon: DaemonProcess, entries: int) -> None:
    daemon.wait_until(
        lambda: daemon.report()["watches"][0]["pending"] == entries, "everything in the outbox", within=_HOUR
    )
    time.sleep(1)  # a last drain may still replace entries


def peak(process: psutil.Process, is_over: Callable[[], object]) -> int:
    """The most resident memory until the end."""
    started, most = time.monotonic(), 0
    while not is_over():
        most = max(most, process.memory_info().rss)
        if time.monotonic() - started > _HOUR:
            raise TimeoutError
        time.sleep(0.5)
    return most


if __name__ == "__main__":
    sys.exit(main())

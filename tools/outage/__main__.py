"""The command line."""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import psycopg
from command_line import parser_of, say
from own_daemon import HOUR, OwnDaemon, peak
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import DaemonProcess
from support.hellowork_server import HelloWork, hellowork
from support.installation import a_watch, merged
from support.postgres import SETTINGS, create_ats
from support.watched import run_script

from cdc_sync.ats import scripts
from cdc_sync.config import load
from cdc_sync.demo.postgres import server
from cdc_sync.emulator import EmulatorOptions

_FILL = """
INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)
SELECT 'application-' || n, 'NEW', 'job-' || n / 50, now(), now() - interval '1 day' FROM generate_series(1, {}) n
"""
_CHANGE = "UPDATE public.applications SET status = %s, updated_at = clock_timestamp()"


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
    # The defaults, but a fuse without limits.
    fuse = {"fuse": {"max_changes": 10**9, "max_deletions": 10**9}}
    own = OwnDaemon(folder, dsn, {"applications": merged(a_watch("notify"), fuse)}, api.url, "warning")
    with psycopg.connect(dsn, autocommit=True) as ats:
        ats.execute(sql.SQL(_FILL).format(sql.Literal(entries)))
        run_script(ats, scripts.install(load(own.config, {})))
        first = own.start("first")
        try:
            first.wait_until_ready(HOUR)
            api.will({"kind": "status", "status": 503, "times": None})
            ats.execute(_CHANGE, ("SEEN",))
            ats.execute(_CHANGE, ("HIRED",))
            pending(first, entries)
            first.stop()
        finally:
            first.kill()
        second = own.start("second")
        try:
            second.wait_until(lambda: second.readiness()[0] == 503, "the state of the endpoint", HOUR)
            waiting = psutil.Process(second.pid).memory_info().rss
            api.will_work()
            return_of(second, api, entries)
            say(f"the daemon's memory: {waiting / 2**20:.0f} MB while it waited")
            second.stop()
        finally:
            second.kill()
    wrong = [name for name, body in api.state.items() if body["status"] != "HIRED"]
    say(f"applications without the newest state: {len(wrong)}; acknowledged: {len(api.state)}")
    return 1 if wrong or len(api.state) != entries else 0


def return_of(daemon: DaemonProcess, api: HelloWork, entries: int) -> None:
    most = peak(daemon, lambda: daemon.report()["watches"][0]["pending"] == 0)
    answered = [call for call in api.calls if call.status == 200]
    began = answered[0].received
    by_tenth = Counter(int((call.received - began) * 10) for call in answered)
    seconds = answered[-1].received - began
    say(f"calls while it was down: {len(api.calls) - len(answered)}")
    say(f"calls in the first tenths of a second: {[by_tenth[tenth] for tenth in range(10)]}")
    say(f"everything sent in {seconds:.0f} s, {entries / seconds:.0f} a second")
    say(f"calls to an application that another one was under way for: {sum(call.concurrent for call in api.calls)}")
    say(f"the daemon's memory: {most / 2**20:.0f} MB at most while it sent")


def pending(daemon: DaemonProcess, entries: int) -> None:
    daemon.wait_until(
        lambda: daemon.report()["watches"][0]["pending"] == entries, "everything in the outbox", within=HOUR
    )
    time.sleep(1)  # a last drain may still replace entries


if __name__ == "__main__":
    sys.exit(main())

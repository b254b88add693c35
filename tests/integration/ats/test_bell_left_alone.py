"""A server whose commits wait for a synchronous standby: NOTIFY's lock is never asked for, and the log is read all the
same.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from support.applications import insert, update
from support.builders import WATCH
from support.eventually import eventually, in_time
from support.rig import Clock, parts_of
from support.sessions import Ats, one, run, sessions
from support.waiting import wait_until
from support.watched import a_config, install_triggers

from cdc_sync.ats.check import check_database
from cdc_sync.core.events import BellLeftAlone, CaptureStarted, Event
from cdc_sync.core.findings import Finding
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.demo.postgres import Server
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

_LEFT_ARMED = "SELECT setval('cdc_sync.bell', floor(extract(epoch FROM clock_timestamp()))::bigint + 3600) > 0"
_IS_ARMED = "SELECT last_value > extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell"
_WAITS = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@contextmanager
def notifying(dsn: str, ats: Ats) -> Iterator[None]:
    """Somebody else's commit that has notified, and waits for a standby that is not there until the block ends."""
    # Only a commit that has written something waits.
    run(ats, "CREATE TABLE public.others ()")
    run(ats, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    run(ats, "SELECT pg_reload_conf()")
    wait_until(lambda: one(ats, "SHOW synchronous_standby_names") == "nobody", "the server waits for a standby")

    over = threading.Event()

    def notify() -> None:
        with psycopg.connect(dsn, autocommit=True) as other:
            # The first ones may be too early: commits begin to wait a moment after the setting is shown.
            while not over.wait(0.05):
                other.execute("INSERT INTO public.others DEFAULT VALUES; SELECT pg_notify('somebody', '')")

    thread = threading.Thread(target=notify)
    thread.start()
    try:
        wait_until(lambda: one(ats, _WAITS), "the other one waits for it")
        yield
    finally:
        over.set()
        run(ats, "ALTER SYSTEM RESET synchronous_standby_names")
        run(ats, "SELECT pg_reload_conf()")
        thread.join()


async def test_while_the_standby_stalls_the_ats_commits_and_a_check_says_so(
    restartable_server: Server, tmp_path: Path
) -> None:
    said: list[Event] = []
    findings: list[Finding] = []
    dsn = restartable_server.dsn
    config = a_config(dsn, capture={"poll_interval": "20ms", "drain_interval": "50ms"})
    store = Store(SqliteDriver(tmp_path / "state.db"))
    parts = parts_of(config, store, said.append, Clock())

    async def told() -> dict[str, str]:
        return {
            entry.application_id: entry.content.status for entry in await store.report.entries("pending", WATCH, 10)
        }

    async def is_told(status: str) -> bool:
        return await told() == {"a1": status}

    def times(kind: type[Event]) -> int:
        return sum(isinstance(observation, kind) for observation in said)

    with sessions(dsn) as open_session:
        ats = open_session(options="-c synchronous_commit=local -c statement_timeout=10s")
        install_triggers(ats, config)
        insert(ats, 1, "a1")
        working = None
        try:
            with notifying(dsn, ats):
                assert one(ats, _LEFT_ARMED)
                update(ats, 1, status="not rung for")  # its COMMIT would wait behind the one that notified

                working = asyncio.create_task(WatchWorker(parts).run())
                await eventually(lambda: times(CaptureStarted), "capture has started")
                update(ats, 1, status="read")
                await eventually(lambda: is_told("read"), "the entry")
                assert times(BellLeftAlone) == 1
                await in_time(check_database(config, Clock(), findings.append), 60)

            await eventually(lambda: one(ats, _IS_ARMED), "the bell is armed where nothing stalls any more")
            update(ats, 1, status="rung for")
            await eventually(lambda: is_told("rung for"), "the entry")
        finally:
            if working is not None:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            await store.driver.close()

    (found,) = (finding for finding in findings if finding.check == "synchronous-standbys")
    assert found.state == "warning"
    assert "capture.wakeup: none" in (found.remedy or "")

"""A watch whose connections die without a word, in the middle of a page: it notices, connects anew, and goes on."""

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.proxy import proxy_to
from support.rig import Clock, OpenRig, parts_of
from support.sessions import Ats, one
from support.watched import a_config, install_triggers

from cdc_sync.ats.database import Database, Steps
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.config.sessions import POOL_SIZE
from cdc_sync.core.events import CaptureStarted, Event, SweepDone, WatchLost
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

_STATUS = {"sql": "t.status || public.drag(t.id)", "depends_on": ["status", "id"]}
_DRAG = """
CREATE TABLE public.drags ();
CREATE FUNCTION public.drag(id bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF id = 8 AND EXISTS (SELECT FROM public.drags) THEN
        PERFORM pg_sleep(60);
    END IF;
    RETURN '';
END $$
"""
_IN_A_PAGE = """
SELECT count(*) > 0 FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'cdc-sync' AND wait_event = 'PgSleep'
"""


@pytest.mark.parametrize("mode", ["notify", "poll"])
async def test_in_the_middle_of_a_sweeps_page(
    database: str, ats: Ats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    said: list[Event] = []

    def times(kind: type[Event]) -> int:
        return sum(isinstance(observation, kind) for observation in said)

    ats.execute(_DRAG)
    for number in range(1, 11):
        insert(ats, number, f"a{number}", updated_at="2024-01-01")
    capture = {"mode": mode, "watermark": "updated_at", "sweep": "1s"}
    async with proxy_to(database) as proxy:
        config = a_config(proxy.dsn, capture=capture, columns={"status": _STATUS})
        install_triggers(ats, config)
        store = Store(SqliteDriver(tmp_path / "state.db"))
        parts = parts_of(config, store, said.append, Clock(), Steps(compared=3))
        parts = replace(parts, database=Database(proxy.dsn, store, prove_every=0.2, answers_within=2))
        working = asyncio.create_task(WatchWorker(parts).run())
        try:
            await eventually(lambda: times(SweepDone), "the sweep at the start")
            ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
            ats.execute("INSERT INTO public.drags DEFAULT VALUES")
            await eventually(lambda: one(ats, _IN_A_PAGE), "a page that takes its time")
            proxy.forget()
            ats.execute("DELETE FROM public.drags")
            update(ats, 9, status="hired", touch=False)
            delete(ats, 1)
            swept = times(SweepDone)

            await eventually(lambda: times(WatchLost), "the loss is noticed", within=30)
            await eventually(lambda: times(SweepDone) > swept, "a sweep", within=30)

            assert working.done() is False
            assert times(CaptureStarted) == 2
            # By poll a deletion is found so: no repair.
            assert await store.operation.repairs() == {
                WATCH: {"status": 1} if mode == "poll" else {"status": 1, "gone": 1}
            }
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await store.driver.close()


async def test_in_the_middle_of_the_baselines_page(database: str, ats: Ats, tmp_path: Path) -> None:
    said: list[Event] = []
    ats.execute(_DRAG)
    for number in range(1, 11):
        insert(ats, number, f"a{number}", updated_at="2024-01-01")
    ats.execute("INSERT INTO public.drags DEFAULT VALUES")
    async with proxy_to(database) as proxy:
        config = a_config(proxy.dsn, columns={"status": _STATUS})
        install_triggers(ats, config)
        store = Store(SqliteDriver(tmp_path / "state.db"))
        parts = parts_of(config, store, said.append, Clock())
        parts = replace(parts, database=Database(proxy.dsn, store, prove_every=0.2, answers_within=2))
        working = asyncio.create_task(WatchWorker(parts).run())
        try:
            await eventually(lambda: one(ats, _IN_A_PAGE), "a page that takes its time")
            proxy.forget()
            ats.execute("DELETE FROM public.drags")

            await eventually(lambda: any(isinstance(each, WatchLost) for each in said), "the loss", within=30)
            await eventually(lambda: any(isinstance(each, CaptureStarted) for each in said), "capture", within=30)

            assert await store.report.known_of(WATCH) == 10
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await store.driver.close()


async def test_a_pool_without_a_free_connection_is_a_lost_database(open_rig: OpenRig) -> None:
    """While the others hang: whoever only looks at the triggers must not end the daemon."""
    async with open_rig(capture={"drain_interval": "10ms"}) as rig:
        pool = rig.intake.sessions.pool
        pool.timeout = 0.1
        taken = [await pool.getconn(timeout=30) for _ in range(POOL_SIZE)]

        with pytest.raises(SourceError, match="a connection after") as raised:
            await (await NotifyCapture(rig.intake, rig.drain.installed._replace(has_log=False)).jobs())["tables"]()

        assert raised.value.kind == "unreachable"
        for connection in taken:
            await pool.putconn(connection)


async def test_a_store_that_takes_no_more_is_waited_for_ever_longer(
    ats: Ats, tmp_path: Path, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can still be read, so each time the watch connects, reads the change anew, and cannot record it."""
    waits: list[float] = []

    def uniform(_shortest: float, longest: float) -> float:
        waits.append(longest)
        return 0.01

    monkeypatch.setattr(random, "uniform", uniform)
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        await rig.adopt()
        with closing(sqlite3.connect(tmp_path / "state.db")) as store:
            store.execute("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(FAIL, 'full'); END")
        update(ats, 1, status="hired")
        working = asyncio.create_task(WatchWorker(rig.intake.parts).run())
        try:
            await eventually(lambda: len(waits) >= 6, "some tries")
            assert waits[:6] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
            with closing(sqlite3.connect(tmp_path / "state.db")) as store:
                store.execute("DROP TRIGGER full")
            await eventually(lambda: rig.heard(CaptureStarted), "it works again")
            assert [entry.application_id for entry in await rig.entries()] == ["a1"]
            tries = len(waits)
            ats.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'cdc-sync'"
            )
            await eventually(lambda: len(waits) > tries, "the next loss")
            assert waits[tries] == 0.5
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

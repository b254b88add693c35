"""A watch whose connections die without a word, in the middle of a page: it notices, connects anew, and goes on."""

import asyncio
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


async def test_in_the_middle_of_a_sweeps_page(
    database: str, ats: Ats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Event] = []

    def times(kind: type[Event]) -> int:
        return sum(isinstance(observation, kind) for observation in said)

    ats.execute(_DRAG)
    for number in range(1, 11):
        insert(ats, number, f"a{number}", updated_at="2024-01-01")
    capture = {"sweep": "1s"}
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
            assert await store.operation.repairs() == {WATCH: {"status": 1, "gone": 1}}
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

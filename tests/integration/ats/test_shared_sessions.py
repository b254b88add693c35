"""All watches of a database share one lasting session and one pool: what that saves, and what no watch pays for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from psycopg import sql
from support.applications import insert
from support.eventually import eventually
from support.rig import Clock, parts_of
from support.sessions import Ats, one, run
from support.watched import COLUMNS, a_config, install_triggers, some_config

from cdc_sync.ats.connection import pooled, with_position
from cdc_sync.ats.database import Database
from cdc_sync.ats.reading import confirmed
from cdc_sync.config.models import watch_rules
from cdc_sync.core.events import CaptureStarted, Event, WatchLost
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

NAMES = [f"watch{number}" for number in range(12)]
_WAITS = "SELECT count(*) FROM pg_locks WHERE relation = 'public.applications'::regclass AND NOT granted"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cdc-sync'"


@asynccontextmanager
async def working(database: str, ats: Ats, folder: Path) -> AsyncIterator[tuple[list[Event], Store]]:
    """Watches of one table, each with its own triggers, worked by one daemon."""
    watch = {"table": "public.applications", "key": ["id"], "columns": COLUMNS}
    config = some_config(database, dict.fromkeys(NAMES, watch))
    install_triggers(ats, config)
    said: list[Event] = []
    store = Store(SqliteDriver(folder / "state.db"))
    shared = Database(database, store)
    parts = parts_of(a_config(database), store, said.append, Clock())
    workers = [
        WatchWorker(
            replace(parts, name=name, watch=config.watches[name], rules=watch_rules(config, name), database=shared)
        )
        for name in NAMES
    ]
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        await eventually(lambda: started(said) == len(NAMES), "all watches work", within=60)
        yield said, store
        assert not any(task.done() for task in tasks)
    finally:
        await end(tasks)
        await store.driver.close()


def started(said: list[Event]) -> int:
    return sum(isinstance(each, CaptureStarted) for each in said)


async def test_a_lost_database_is_said_once_and_every_watch_comes_back(database: str, ats: Ats, tmp_path: Path) -> None:
    async with working(database, ats, tmp_path) as (said, store):
        assert one(ats, SESSIONS) <= 5
        locks = (
            "SELECT count(*), count(DISTINCT l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
        )
        assert ats.execute(locks).fetchone() == (len(NAMES), 1)
        run(
            ats,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'cdc-sync'",
        )

        await eventually(lambda: started(said) == 2 * len(NAMES), "all watches work again", within=60)

        lost = [each for each in said if isinstance(each, WatchLost)]
        assert len({each.message for each in lost}) == 1, "the log has one line of it"
        assert one(ats, SESSIONS) <= 5
        insert(ats, 1, "a1")
        await eventually(lambda: is_everywhere(store), "each has captured the change", within=30)


async def is_everywhere(store: Store) -> bool:
    return len(await store.report.entries("pending", None, 100)) == len(NAMES)


async def test_reads_in_turn_leave_a_connection_to_quick_ones(database: str, ats: Ats) -> None:
    run(ats, "SELECT pg_advisory_lock(4711)")
    async with pooled(database, size=2) as pool:

        async def slow() -> None:
            async with pool.turns:
                await pool.fetch("SELECT pg_advisory_lock_shared(4711)", (), "reading")

        reading = [asyncio.create_task(slow()) for _ in range(3)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await eventually(lambda: one(ats, waiting), "the first of them")
        await pool.fetch("SELECT 1", (), "reading")
        assert not any(task.done() for task in reading)
        run(ats, "SELECT pg_advisory_unlock(4711)")
        await asyncio.gather(*reading)


async def test_who_waits_for_a_lock_has_no_turn(database: str, ats: Ats) -> None:
    """A migration may lock the tables of many watches for minutes."""
    locked = with_position(sql.SQL("SELECT count(*) FROM public.applications"), 1)
    async with pooled(database, size=2) as pool:
        with ats.transaction():
            run(ats, "LOCK public.applications")
            waiting = asyncio.create_task(confirmed(pool, "reading", locked, ()))
            await eventually(lambda: one(ats, _WAITS), "it waits")
            async with asyncio.timeout(20):
                await confirmed(pool, "reading", with_position(sql.SQL("SELECT 1"), 1), ())
            assert not waiting.done()
        await waiting

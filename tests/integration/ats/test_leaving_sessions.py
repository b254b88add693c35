"""A watch joins, leaves or loses the sessions that all share, while others come and go."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.eventually import eventually
from support.sessions import Ats, end_sessions, one

from cdc_sync.ats.connection import POSITION, Connection, ReplicaGuard, asking
from cdc_sync.ats.database import Database, Sessions
from cdc_sync.ats.errors import SourceError
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cdc-sync'"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(SqliteDriver(tmp_path / "state.db"))
    yield store
    await store.driver.close()


async def test_one_that_joins_while_the_last_other_leaves_keeps_the_sessions(
    database: str, ats: Ats, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Database(database, store)
    meets, goes_on, meet = asyncio.Event(), asyncio.Event(), ReplicaGuard.meet

    async def slow(guard: ReplicaGuard, connection: Connection) -> None:
        meets.set()
        await goes_on.wait()
        await meet(guard, connection)

    async def joins() -> None:
        async with shared.sessions("second") as sessions, sessions.pool.connection() as connection:
            await connection.execute("SELECT 1")

    async with shared.sessions("first"):
        monkeypatch.setattr(ReplicaGuard, "meet", slow)
        joining = asyncio.create_task(joins())
        await meets.wait()
    goes_on.set()
    await joining

    await eventually(lambda: one(ats, _SESSIONS) == 0, "all are closed")


async def test_one_that_joins_kept_sessions_looks_whether_the_server_is_behind_what_it_read(
    database: str, store: Store
) -> None:
    shared = Database(database, store)
    ahead = json.dumps([0, None, None, False, "4000000000:4000000000:", 1])
    async with shared.kept():
        async with shared.sessions("first"):
            await store.driver.transact(lambda t: t.write("set_position", [("second", POSITION, ahead)]))
        with pytest.raises(SourceError, match="behind"):
            async with shared.sessions("second"):
                pass


async def test_one_that_reads_on_without_its_lock_is_stopped(database: str, ats: Ats, store: Store) -> None:
    shared = Database(database, store)
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(shared.sessions("reads on"))
        end_sessions(ats, "pid = %s", [sessions.lasting.process.pid])
        await asyncio.wait([sessions.held])

        async with shared.sessions("another") as anew:
            assert anew is not sessions
            assert one(ats, _SESSIONS) == 2, "the new ones, and none of those that were lost"
            with pytest.raises(SourceError, match="closed") as closed:
                await reads_of(sessions)
            assert await sessions.why_lost(closed.value) is sessions.held.exception()


async def reads_of(sessions: Sessions) -> None:
    async with asking("reading"), sessions.pool.connection():
        pass


async def test_a_silent_connection_keeps_nobody_else_from_joining(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Database(database, store)
    stuck, meet = asyncio.Event(), ReplicaGuard.meet

    async def once_silent(guard: ReplicaGuard, connection: Connection) -> None:
        if not stuck.is_set():
            stuck.set()
            await asyncio.Event().wait()
        await meet(guard, connection)

    async def joins(watch: str) -> None:
        async with shared.sessions(watch):
            pass

    async with shared.sessions("first"):
        monkeypatch.setattr(ReplicaGuard, "meet", once_silent)
        joining = asyncio.create_task(joins("second"))
        await stuck.wait()
        async with asyncio.timeout(60):
            await joins("third")
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)

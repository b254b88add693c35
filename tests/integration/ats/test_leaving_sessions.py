"""A watch joins, leaves or loses the sessions that all share, while others come and go."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.eventually import eventually
from support.rig import Clock, parts_of
from support.sessions import Ats, end_sessions, one
from support.watched import a_config

from cdc_sync.ats import lookout
from cdc_sync.ats.beginning import connect
from cdc_sync.ats.capture import ChangedError
from cdc_sync.ats.connection import POSITION, Connection, ReplicaGuard, asking
from cdc_sync.ats.database import Database, Sessions
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import ServerFacts, server_facts
from cdc_sync.ats.intake import Intake
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.ats.session import StandbyError, own_session
from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cdc-sync'"
_LOCKS = """
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


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


async def test_sessions_are_closed_before_others_are_made(database: str, ats: Ats, store: Store) -> None:
    shared = Database(database, store, size=1)
    for _ in range(5):
        joined, leaves = asyncio.Event(), asyncio.Event()

        async def first(joined: asyncio.Event = joined, leaves: asyncio.Event = leaves) -> None:
            async with shared.sessions("first"):
                joined.set()
                await leaves.wait()

        leaving = asyncio.create_task(first())
        await joined.wait()
        leaves.set()
        await asyncio.sleep(0)
        async with shared.sessions("second") as sessions:
            assert sessions.users == 1
            assert not shared._closing
            await eventually(lambda: one(ats, _SESSIONS) <= 2, "no more than there may be")
        await leaving


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


async def test_watches_that_share_a_failed_try_to_connect_do_not_share_its_traceback(
    database: str, store: Store
) -> None:
    shared = Database(make_conninfo(database, dbname="missing"), store)

    async def frames() -> int:
        with pytest.raises(SourceError) as failed:
            async with shared.sessions("any"):
                pass
        return len(list(traceback.walk_tb(failed.value.__traceback__)))

    assert len(set(await asyncio.gather(*(frames() for _ in range(5))))) == 2, "the first one's, and each other's"


async def reads_of(sessions: Sessions) -> None:
    async with asking("reading"), sessions.pool.connection():
        pass


async def turned(shared: Database, watch: str, begun: asyncio.Event) -> None:
    async with shared.sessions(watch) as sessions, shared.turn(watch, sessions):
        begun.set()
        await asyncio.Event().wait()


async def test_the_lock_of_a_removed_watch_is_given_back_however_late(database: str, ats: Ats, store: Store) -> None:
    shared = Database(database, store, prove_every=600)
    async with shared.sessions("stays") as sessions, shared.turn("stays", sessions):
        begun = asyncio.Event()
        removed = asyncio.create_task(turned(shared, "removed", begun))
        await begun.wait()
        assert one(ats, _LOCKS) == 2
        async with sessions.lasting._turn():
            removed.cancel()
            await asyncio.sleep(0.1)
            removed.cancel()
            await asyncio.gather(removed, return_exceptions=True)
            assert one(ats, _LOCKS) == 2
        await eventually(lambda: one(ats, _LOCKS) == 1, "its lock is given back, before the next proof")


async def test_a_watch_that_stands_by_unlocks_nothing(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[psycopg.errors.Diagnostic] = []
    shared = Database(database, store)
    async with own_session(database) as other, shared.sessions("stays") as sessions:
        await other.lock("taken")
        sessions.lasting.connection.add_notice_handler(said.append)
        with pytest.raises(StandbyError):
            async with shared.turn("taken", sessions):
                raise AssertionError("it is taken")
        async with shared.sessions("another"):
            with pytest.raises(StandbyError):
                async with shared.turn("taken", sessions):
                    raise AssertionError("it is taken")

    assert [notice.message_primary for notice in said] == []


async def test_each_watch_finds_out_once_that_the_server_is_set_up_otherwise(
    database: str, store: Store, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_config(database, capture={"mode": "notify", "drain_interval": "1s"})
    shared = Database(database, store)
    parts = replace(parts_of(config, store, lambda _: None, Clock()), database=shared)

    async def otherwise(connection: Connection) -> ServerFacts:
        return replace(await server_facts(connection), waits_for_standbys=True)

    async def looks(intake: Intake) -> None:
        found = await NotifyCapture.open(intake)
        monkeypatch.setattr(lookout, "server_facts", otherwise)
        for job in (await found.jobs()).values():
            with pytest.raises(ChangedError):
                await job()

    async with shared.sessions("stays") as sessions:
        async with connect(replace(parts, name="first")) as first, connect(replace(parts, name="second")) as second:
            await asyncio.gather(looks(first), looks(second))
        assert sessions.server.waits_for_standbys
        async with shared.sessions("first") as anew:
            assert anew is sessions


async def test_a_store_that_fails_while_one_joins_is_that_watchs_alone(
    database: str, ats: Ats, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Database(database, store)

    async def fails(watch: str) -> dict[str, str]:
        raise StoreError("store-unusable", f"no {watch}")

    async with shared.sessions("first") as sessions:
        with monkeypatch.context() as patched:
            patched.setattr(store.capture, "positions", fails)
            with pytest.raises(StoreError):
                async with shared.sessions("second"):
                    pass
        assert sessions.users == 1

"""A watch joins, leaves or loses the sessions that all share, while others come and go."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from support.applications import insert
from support.eventually import eventually
from support.rig import Clock, OpenRig, parts_of
from support.sessions import Ats, end_sessions, one, run
from support.watched import COLUMNS, a_config, install_triggers, some_config

from cdc_sync.ats import lookout, notify, triggers
from cdc_sync.ats.connection import POSITION, asking, connected, pooled, with_position
from cdc_sync.ats.database import Database, Sessions
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.ats.reading import confirmed
from cdc_sync.config import sessions
from cdc_sync.config.models import watch_rules
from cdc_sync.config.sessions import POOL_SIZE
from cdc_sync.core.events import CaptureStarted, Event, WatchLost
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.postgres.schema import connect
from cdc_sync.store.sqlite import SqliteDriver

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cdc-sync'"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(SqliteDriver(tmp_path / "state.db"))
    yield store
    await store.driver.close()


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


# All watches of a database share one lasting session and one pool: what that saves, and what no watch pays for.


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


def lost(said: list[Event]) -> list[WatchLost]:
    return [each for each in said if isinstance(each, WatchLost)]


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

        assert len({each.message for each in lost(said)}) == 1, "the log has one line of it"
        assert one(ats, SESSIONS) <= 5
        insert(ats, 1, "a1")
        await eventually(lambda: is_everywhere(store), "each has captured the change", within=30)


async def is_everywhere(store: Store) -> bool:
    return len(await store.report.entries("pending", None, 100)) == len(NAMES)


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


# A watch to which the operating system refuses something: its own failure, and not the process's end.


async def test_what_the_system_refuses_is_said_and_tried_again(
    database: str, ats: Ats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = False
    looked_for = triggers.installation

    async def installation(*arguments: Any, **named: Any) -> Any:
        if refused:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await looked_for(*arguments, **named)

    monkeypatch.setattr(notify, "installation", installation)
    monkeypatch.setattr(lookout, "ROUND", 0.1)
    async with working(database, ats, tmp_path) as (said, _):
        refused = True
        ats.execute("ALTER TABLE public.applications DISABLE TRIGGER cdc_sync_watch1_row")
        ats.execute("ALTER TABLE public.applications ENABLE TRIGGER cdc_sync_watch1_row")
        await eventually(lambda: lost(said), "it says what is wrong")
        refused = False

        await eventually(lambda: started(said) > len(NAMES), "it works again")

        assert "The operating system refuses what the watch needs" in lost(said)[0].message
        assert not lost(said)[0].misconfigured


# A watch whose connections die without a word, in the middle of a page: it notices, connects anew, and goes on.


async def test_a_pool_without_a_free_connection_is_a_lost_database(
    open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the others hang: whoever only looks at the triggers must not end the daemon."""
    monkeypatch.setattr(lookout, "ROUND", 0.1)
    async with open_rig(capture={"drain_interval": "10ms"}) as rig:
        pool = rig.intake.sessions.pool
        pool.timeout = 0.1
        taken = [await pool.getconn(timeout=30) for _ in range(POOL_SIZE)]

        with pytest.raises(SourceError, match="a connection after") as raised:
            await (await NotifyCapture(rig.intake, rig.drain.installed._replace(has_log=False)).jobs())["tables"]()

        assert raised.value.kind == "unreachable"
        for connection in taken:
            await pool.putconn(connection)


# What a session of ours holds ends when its process is stopped: the server ends it, since nobody else can.


async def test_every_session_sets_what_lets_the_server_end_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as ats:
        ats.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = 0").format(sql.Identifier(ats.info.dbname)))
        version = ats.info.server_version
    expected = {
        "idle_in_transaction_session_timeout": "20s",
        "statement_timeout": "330s",
        "default_transaction_isolation": "read committed",
    }
    names = list(expected)

    async def settings(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> dict[str, object]:
        query = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
        return dict(await (await connection.execute(query, (names,))).fetchall())  # type: ignore[arg-type]

    async with connected(database) as alone, pooled(database) as pool, pool.connection() as shared:
        assert await settings(alone) == expected
        assert await settings(shared) == expected
    async with await connect(database) as store:
        # It may have to migrate, which takes as long as it takes.
        assert await settings(store) == {**expected, "statement_timeout": "0"}
    # A unix socket does not show these.
    sent = sessions.session_settings(version)
    assert b"set_config('tcp_keepalives_idle', '20', false)" in sent
    assert (b"set_config('tcp_user_timeout', '30s', false)" in sent) == (version >= 120000)

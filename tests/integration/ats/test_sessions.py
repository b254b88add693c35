"""A watch joins, leaves or loses the sessions that all share, while others come and go."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from support.applications import insert
from support.eventually import eventually
from support.pgbouncer import pgbouncer, pgbouncer_binary
from support.proxy import Direction, proxy_to
from support.rig import Clock, OpenRig, parts_of
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, end_sessions, one, run, sessions
from support.source import opened
from support.standby import Standby, standby_of
from support.watch_session import LastSession, session
from support.watched import COLUMNS, a_config, a_watch, install_triggers, some_config

from cdc_sync.ats import lookout, notify, triggers
from cdc_sync.ats import session as module
from cdc_sync.ats.connection import REPLICA, Connection, ReplicaGuard, asking, connected, pooled, rows_of, with_position
from cdc_sync.ats.database import Database, Sessions
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import server_facts
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.ats.reading import Reader, convertible, prepared
from cdc_sync.ats.session import Process, Session, _lock_number, own_session
from cdc_sync.config.dsn import POOL_SIZE, session_settings
from cdc_sync.config.models import watch_rules
from cdc_sync.core.events import CaptureStarted, Event, WatchLost
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.demo.postgres import Server
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.postgres.schema import connect
from cdc_sync.store.sqlite.driver import SqliteDriver

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cdc-sync'"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(SqliteDriver(tmp_path / "state.db"))
    yield store
    await store.driver.close()


@pytest.fixture
def nobody_may_ask_for_the_system(ats: Ats) -> Iterator[Callable[[], None]]:
    """Take a right that each new connection needs from everybody; it is given back, for the database is reused."""
    yield lambda: run(ats, "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC")
    run(ats, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO PUBLIC")


async def test_a_connection_that_is_refused_says_nothing_of_a_row(
    database: str, ats: Ats, new_role: NewRole, nobody_may_ask_for_the_system: Callable[[], None]
) -> None:
    """Otherwise a key would seem to be one that no row can have."""
    role = new_role()
    async with pooled(dsn_of(database, role)) as pool:
        nobody_may_ask_for_the_system()
        end_sessions(ats, "usename = %s", [role])
        pool.timeout = 1.0

        async def all_refused() -> bool:
            try:
                await pool.fetch("asking", "SELECT 1")
            except SourceError:
                return pool.refused is not None
            return False

        while not await all_refused():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.1)
        with pytest.raises(SourceError, match="pg_control_system"):
            await convertible(pool, [("1",)], [sql.SQL("bigint")])


async def test_one_that_joins_sessions_looks_whether_the_server_is_behind_what_it_read(
    database: str, store: Store
) -> None:
    shared = Database(a_config(database), "", store)
    ahead = json.dumps([0, None, None, False, "4000000000:4000000000:", 1])
    async with shared.sessions("first"):
        await store.driver.transact(lambda t: t.write("set_position", [("second", REPLICA, ahead)]))
        with pytest.raises(SourceError, match="behind"):
            async with shared.sessions("second"):
                pass


async def test_one_that_joins_while_the_last_other_leaves_keeps_the_sessions(
    database: str, ats: Ats, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Database(a_config(database), "", store)
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

    await eventually(lambda: one(ats, SESSIONS) == 0, "all are closed")


async def test_one_that_reads_on_without_its_lock_is_stopped(database: str, ats: Ats, store: Store) -> None:
    shared = Database(a_config(database), "", store)
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(shared.sessions("reads on"))
        end_sessions(ats, "pid = %s", [sessions.lasting.process.pid])
        await asyncio.wait([sessions.held])

        async with shared.sessions("another") as anew:
            assert anew is not sessions
            assert one(ats, SESSIONS) == 2, "the new ones, and none of those that were lost"
            with pytest.raises(SourceError, match="closed") as closed:
                await reads_of(sessions)
            assert await sessions.why_lost(closed.value) is sessions.held.exception()


async def reads_of(sessions: Sessions) -> None:
    async with asking("reading"), sessions.pool.connection():
        pass


# All watches of a database share one lasting session and one pool: what that saves, and what no watch pays for.


NAMES = [f"watch{number}" for number in range(12)]
_WAITS = "SELECT count(*) FROM pg_locks WHERE relation = 'public.applications'::regclass AND NOT granted"


@asynccontextmanager
async def working(database: str, ats: Ats, folder: Path) -> AsyncIterator[tuple[list[Event], Store]]:
    """Watches of one table, each with its own triggers, worked by one daemon."""
    watch = {"table": "public.applications", "key": ["id"], "columns": COLUMNS}
    config = some_config(database, dict.fromkeys(NAMES, watch))
    install_triggers(ats, config)
    said: list[Event] = []
    store = Store(SqliteDriver(folder / "state.db"))
    shared = Database(a_config(database), "", store)
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
    async with pooled(database, size=2) as pool:
        reader = Reader(pool, await prepared(pool, a_watch()))
        with ats.transaction():
            run(ats, "LOCK public.applications")
            waiting = asyncio.create_task(reader.by_application(["a1"]))
            await eventually(lambda: one(ats, _WAITS), "it waits")
            quick = partial(rows_of, query=with_position(sql.SQL("SELECT 1"), 1))
            async with asyncio.timeout(20):
                await pool.read("reading", quick, takes_turn=True)
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


async def test_watches_that_the_system_refuses_a_connection_retry_together(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    async def connect(_: Database) -> Sessions:
        happened.append("try")
        await asyncio.sleep(0.1)  # as a connection takes
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def report(event: Event) -> None:
        assert isinstance(event, WatchLost)
        happened.append("lost")

    parts = parts_of(a_config("host=localhost"), store, report, Clock())
    monkeypatch.setattr(Database, "_connect", connect)
    working = [asyncio.create_task(WatchWorker(parts).run()) for _ in range(3)]

    await eventually(lambda: happened.count("try") == 3, "the third try")

    assert happened[:8] == ["try", "lost", "lost", "lost"] * 2
    await end(working)


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
        version = ats.info.server_version
        for setting in ("statement_timeout = 0", *(["idle_session_timeout = 3600000"] if version >= 140000 else [])):
            ats.execute(sql.SQL(f"ALTER DATABASE {{}} SET {setting}").format(sql.Identifier(ats.info.dbname)))
    expected = {
        "idle_in_transaction_session_timeout": "20s",
        "statement_timeout": "330s",
        "default_transaction_isolation": "read committed",
        **({"idle_session_timeout": "0"} if version >= 140000 else {}),
    }

    async def settings(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> dict[str, object]:
        query = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
        return dict(await (await connection.execute(query, (list(expected),))).fetchall())  # type: ignore[arg-type]

    async with connected(database) as alone, pooled(database) as pool, pool.connection() as shared:
        assert await settings(alone) == expected
        assert await settings(shared) == expected
    async with await connect(database) as store:
        # It may have to migrate, which takes as long as it takes.
        assert await settings(store) == {**expected, "statement_timeout": "0"}
    # A unix socket does not show these.
    sent = session_settings(version)
    assert b"set_config('tcp_keepalives_idle', '20', false)" in sent
    assert (b"set_config('tcp_user_timeout', '30s', false)" in sent) == (version >= 120000)


# The lasting connection: it listens, it holds the watch's lock, and it knows when it has ended.


QUIET = 60.0
"""Seconds between proofs that no test lives to see."""


class Bell:
    """Counts how often it is rung."""

    def __init__(self) -> None:
        self.rung = 0

    def ring(self) -> None:
        self.rung += 1

    def proved(self, queue_usage: float) -> None:
        assert 0 <= queue_usage < 0.01, "other tests of this server may notify, but none fills the queue"

    async def has_rung(self, times: int) -> None:
        """Wait for it."""
        await eventually(lambda: self.rung >= times, f"{times} rings")


@asynccontextmanager
async def listening(
    dsn: str, prove_every: float = QUIET, watch: str = "applications"
) -> AsyncIterator[tuple[Bell, asyncio.Task[None], Connection]]:
    """A listener that has begun: its first ring has been heard."""
    bell = Bell()
    async with session(dsn, watch) as own:
        await own.listen(watch, bell.ring, bell.proved)
        task = asyncio.create_task(own.hold(prove_every))
        try:
            yield bell, task, own.connection
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def how_it_ended(task: asyncio.Task[None], within: float) -> SourceError:
    """How the task ended, which it must do in time."""
    done, _ = await asyncio.wait([task], timeout=within)
    assert done, f"it has not noticed within {within} s"
    error = task.exception()
    assert isinstance(error, SourceError)
    return error


async def errors_in_silence(
    database: str, number: int, directions: tuple[Direction, ...], are_impatient: Callable[[], Awaitable[None]]
) -> list[SourceError]:
    """How a listener, a holder, and a listener that begins only then end when the network falls silent."""
    async with (
        proxy_to(database) as proxy,
        listening(proxy.dsn, prove_every=0.1, watch=f"listener{number}") as (_, listener, _),
        session(proxy.dsn, f"holder{number}") as held,
        own_session(proxy.dsn) as idle,
    ):
        holder = asyncio.create_task(held.hold(prove_every=0.1))
        await are_impatient()
        proxy.fall_silent(*directions)
        beginner = asyncio.create_task(idle.listen("beginner", Bell().ring, Bell().proved))
        return list(await asyncio.gather(*(how_it_ended(task, within=30) for task in (listener, holder, beginner))))


async def test_a_notification_rings_for_its_watch_alone(database: str, ats: Ats) -> None:
    async with listening(database) as (bell, _, _), session(database, "both") as own:
        others = {name: Bell() for name in ("first", "second")}
        for name, other in others.items():
            await own.listen(name, other.ring, other.proved)
        holding = asyncio.create_task(own.hold(QUIET))

        for payload in ("somebody else's", "first", ""):
            ats.execute("SELECT pg_notify('cdc_sync', %s)", [payload])

        await others["second"].has_rung(2)
        await bell.has_rung(2)
        assert [other.rung for other in others.values()] == [3, 2], "at the beginning, and as they are named"
        assert bell.rung == 2
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


async def test_locks_are_taken_while_it_listens(database: str, ats: Ats) -> None:
    async with listening(database) as (bell, _, _), own_session(database) as own:
        holding = asyncio.create_task(own.hold(QUIET))
        await asyncio.gather(*(own.lock(f"watch{number}") for number in range(20)))
        assert (
            one(ats, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s", [own.process.pid]) == 20
        )
        ats.execute("NOTIFY cdc_sync")
        await bell.has_rung(2)
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


async def test_a_connection_that_falls_silent_is_noticed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both directions or in one only, and from the first statement on."""
    silences: tuple[tuple[Direction, ...], ...] = ((), ("requests",), ("answers",))

    all_have_begun = asyncio.Barrier(len(silences))

    async def are_impatient() -> None:
        await all_have_begun.wait()
        monkeypatch.setattr(module, "ANSWERS_WITHIN", 0.5)

    # They take their time: before they give up, the driver tries to cancel its statement, for ten seconds.
    errors = await asyncio.gather(
        *(errors_in_silence(database, number, directions, are_impatient) for number, directions in enumerate(silences))
    )

    for listener, holder, beginner in errors:
        for error in (listener, holder, beginner):
            assert error.kind == "unreachable"
            assert "has not answered within" in str(error)


async def test_comes_whenever_it_is_asked_for(database: str) -> None:
    """Between any two steps of a proof: a cancellation that got lost would keep the daemon from ending."""
    async with session(database, "applications") as own:
        await own.listen("applications", Bell().ring, Bell().proved)
        for pause in range(60):
            task = asyncio.create_task(own.hold(prove_every=0.0))
            await asyncio.sleep(0.002 + pause / 20_000)
            task.cancel()

            _, running = await asyncio.wait([task], timeout=5)

            assert not running


# Behind a pooler: a session that several clients use is no place for a lock, and nothing is left behind in it.


WATCH = "applications"

HELD = """
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def binary() -> str:
    binary = pgbouncer_binary()
    if binary is None:
        pytest.skip("there is no pgbouncer here (Debian: apt-get install pgbouncer)")
    return binary


@asynccontextmanager
async def unprobed(dsn: str, token: str) -> AsyncIterator[Session]:
    """A session that was taken for our own, since nothing gave the pooler away when it began."""
    async with connected(dsn) as connection:
        row = await (await connection.execute(module._SQL["ours"])).fetchone()
        await connection.execute(module._SQL["mark"], (token,))
        assert row is not None
        own = Session(connection, module.Process(*row), token)
        try:
            yield own
        finally:
            await own.end()


async def test_a_session_that_turns_out_to_be_shared_is_given_up(database: str, ats: Ats, binary: str) -> None:
    """The other client keeps it in a transaction, so that the next proof is given another one."""
    with pgbouncer(binary, database, "transaction") as dsn:
        async with unprobed(dsn, "ours") as own:
            await own.lock(WATCH)
            await own.listen(WATCH, lambda: None, lambda _: None)
            task = asyncio.create_task(own.hold(0.05))
            async with await AsyncConnection.connect(dsn, prepare_threshold=None) as other:
                await other.execute("SELECT 1")
                await asyncio.wait([task], timeout=30)
                error = task.exception()
        assert isinstance(error, SourceError)
        assert error.kind == "misconfigured"
        assert "lets several clients use one session" in str(error)
        await eventually(lambda: one(ats, HELD) == 0, "the lock to be gone")


async def test_a_session_that_is_shared_from_the_first_is_refused(database: str, ats: Ats, binary: str) -> None:
    with pgbouncer(binary, database, "transaction") as dsn:
        for _ in range(2):
            with pytest.raises(SourceError, match=r"Let database\.dsn lead directly to PostgreSQL"):
                async with session(dsn, WATCH):
                    pass
        assert one(ats, HELD) == 0, "the pooler has kept its session, and no lock is in it"


async def test_a_pool_in_session_mode_works_and_is_given_back_clean(database: str, ats: Ats, binary: str) -> None:
    with pgbouncer(binary, database, "session", server_reset_query="") as dsn:
        for _ in range(3):  # the pooler keeps the session, and cleans nothing up
            async with session(dsn, WATCH) as own:
                assert own.is_pooled
                task = asyncio.create_task(own.hold(0.01))
                await asyncio.wait([task], timeout=0.2)
                assert not task.done()
                assert one(ats, HELD) == 1
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert one(ats, HELD) == 0


# A lock that the server keeps for a session of our own, whose end it has not heard of.


@asynccontextmanager
async def a_session_left_behind(dsn: str, last: LastSession) -> AsyncIterator[None]:
    """Behind a silent network: we have given it up, and the server does not know."""
    async with proxy_to(dsn) as proxy:
        async with session(proxy.dsn, "applications", last):
            proxy.fall_silent()
        yield


async def test_a_session_of_our_own_gives_way(database: str, ats: Ats) -> None:
    last = LastSession()
    async with a_session_left_behind(database, last):
        assert one(ats, HELD) == 1
        before = last.process
        async with session(database, "applications", last):
            assert one(ats, HELD) == 1
            assert last.process != before


async def test_a_former_leaders_session_gives_way_also_if_the_first_try_is_cut_off(
    database: str, ats: Ats, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, former = Database(a_config(database), "", store), LastSession()
    async with session(database, "applications", former):  # and its process is frozen
        assert former.process is not None
        captured_by = [json.dumps(former.process._asdict())]

        async def begin_capture(_: object, watch: str, process: str) -> str:  # as a shared store does
            captured_by.append(process)
            return captured_by[-2]

        monkeypatch.setattr(type(store.databases), "begin_capture", begin_capture)

        async def cut_off() -> None:
            async with shared.sessions("applications") as sessions:
                end_sessions(ats, "pid = %s", [sessions.locked.process.pid])
                await shared.take_turn("applications", sessions)

        with pytest.raises(SourceError):
            await cut_off()
        async with shared.sessions("applications") as sessions:
            await shared.take_turn("applications", sessions)
            assert one(ats, HELD) == 1


async def held_by(dsn: str) -> str:
    with pytest.raises(SourceError) as refused:
        async with session(dsn, "applications"):
            pass
    return refused.value.message


async def test_a_role_that_took_the_lock_is_named_with_what_ends_it(
    database: str, ats: Ats, new_role: NewRole, open_session: OpenSession
) -> None:
    daemon, thief = new_role(), new_role()
    stolen = open_session(user=thief, password=thief, application_name="psql\x1b[2J")
    stolen.execute("SELECT pg_advisory_lock(%s)", [_lock_number("applications")])
    dsn = dsn_of(database, daemon)

    said = await held_by(dsn)

    process = stolen.info.backend_pid
    assert f"process {process} of the role {thief}" in said
    assert "\x1b" not in said
    assert f"SELECT pg_terminate_backend({process});" in said
    end_sessions(ats, "pid = %s", [process])
    async with session(dsn, "applications"):
        pass


async def test_a_process_that_only_has_the_same_number_is_left_alone(database: str, ats: Ats) -> None:
    async with session(database, "applications") as own:
        started = one(
            ats, "SELECT (backend_start - interval '1 s')::text FROM pg_stat_activity WHERE pid = %s", [own.process.pid]
        )
        other = LastSession(Process(own.process.pid, started))
        with pytest.raises(SourceError, match="Another cdc-sync works the watch"):
            async with session(database, "applications", other):
                pass
        assert one(ats, HELD) == 1


# A server that is behind what was read before is not read until it has caught up.


HAS = "SELECT count(*) > 0 FROM public.applications WHERE hellowork_id = %s"


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


async def met(dsn: str, guard: ReplicaGuard) -> bool:
    """Whether a server is far enough."""
    async with connected(dsn) as connection:
        try:
            await guard.meet(connection)
        except SourceError as error:
            return error.kind != "unreachable" or "behind what was read before" not in str(error)
    return True


async def test_a_replica_is_not_read_while_a_transaction_is_open_whose_end_was_seen(
    restartable_server: Server, standby: Standby
) -> None:
    """Its xmax is high enough by then: a later transaction has ended there."""
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, slow, replica = on_primary(), on_primary(), on_standby()
        guard = ReplicaGuard(behind_for=0.2)
        slow.execute("BEGIN; INSERT INTO public.applications (hellowork_id) VALUES ('slow')")
        run(ats, "INSERT INTO public.applications (hellowork_id) VALUES ('quick')")
        await eventually(lambda: one(replica, HAS, ["quick"]), "the replica has the quick one")
        run(replica, "SELECT pg_wal_replay_pause()")
        slow.execute("COMMIT")
        async with opened(a_config(restartable_server.dsn), guard) as source:
            assert len(await source.rows()) == 2

        with pytest.raises(SourceError, match=r"its transaction \d+ is still open"):
            async with opened(a_config(standby.dsn), guard) as source:
                await source.rows()
        run(replica, "SELECT pg_wal_replay_resume()")
        await eventually(lambda: met(standby.dsn, guard), "the replica has caught up")


async def test_each_read_is_checked_on_connections_that_are_open(restartable_server: Server, standby: Standby) -> None:
    """Behind a transaction pooler, one connection leads to several servers."""
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, replica = on_primary(), on_standby()
        run(ats, "INSERT INTO public.applications (hellowork_id, updated_at) VALUES ('a1', now())")
        await eventually(lambda: one(replica, HAS, ["a1"]), "the replica has the row")
        guard = ReplicaGuard(behind_for=0.2)
        async with (
            opened(a_config(restartable_server.dsn), guard) as there,
            opened(a_config(standby.dsn), guard) as lagging,
        ):
            (row,) = await lagging.rows()
            run(replica, "SELECT pg_wal_replay_pause()")
            run(ats, "UPDATE public.applications SET status = 'HIRED'")
            assert [row.status for row in await there.rows()] == ["HIRED"]

            polling = await lagging.watermark_reader("updated_at")
            shape = "a shape"
            for read in (
                lambda: lagging.reader.page(None, 10),
                lambda: lagging.reader.page(None, 10, shape),
                lambda: lagging.reader.digests(None, 10, shape),
                lambda: lagging.reader.by_key([row.key]),
                lambda: lagging.reader.by_key([("0",)], confirming=True),
                lambda: lagging.reader.by_application(["gone"]),
                lambda: polling.page(("2024-01-01",), 10),
                polling.look,
            ):
                with pytest.raises(SourceError, match="behind what was read before"):
                    await read()

            run(replica, "SELECT pg_wal_replay_resume()")
            guard.behind_for = 60.0
            assert [row.status for row in await lagging.rows()] == ["HIRED"]


async def test_a_primary_that_a_failover_left_behind_is_not_read(restartable_server: Server, standby: Standby) -> None:
    """It is behind by less than a crash may cost, and it may take writes."""
    standby.promote()
    guard = ReplicaGuard()
    with sessions(standby.dsn) as on_promoted:
        run(on_promoted(), "CHECKPOINT")
    assert await met(standby.dsn, guard)
    with sessions(restartable_server.dsn) as on_left:
        for _ in range(10):
            run(on_left(), "SELECT txid_current()")
    assert not await met(restartable_server.dsn, guard)


async def test_a_connection_to_another_database_is_refused(database: str, server: str) -> None:
    guard = ReplicaGuard()
    async with connected(database) as connection:
        guard.identity = (await server_facts(connection)).identity
        await guard.meet(connection)
    async with connected(server) as connection:
        with pytest.raises(SourceError, match="leads to the database postgres of cluster"):
            await guard.meet(connection)

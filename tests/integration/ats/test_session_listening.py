"""The lasting connection: it listens, it holds the watch's lock, and it knows when it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from psycopg import AsyncConnection
from support.eventually import eventually
from support.pgbouncer import pgbouncer, pgbouncer_binary
from support.proxy import Direction, proxy_to
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, end_sessions, one
from support.watch_session import LastSession, session

from cdc_sync.ats import session as module
from cdc_sync.ats.connection import Connection, connected
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.session import ANSWERS_WITHIN, Process, Session, _lock_number, own_session

QUIET = 60.0
"""Seconds between proofs that no test lives to see."""


class Bell:
    """Counts how often it is rung, and its session proved."""

    def __init__(self) -> None:
        self.rung = self.proofs = 0

    def ring(self) -> None:
        self.rung += 1

    def proved(self, queue_usage: float) -> None:
        assert 0 <= queue_usage < 0.01, "other tests of this server may notify, but none fills the queue"
        self.proofs += 1

    async def has_rung(self, times: int) -> None:
        """Wait for it."""
        await eventually(lambda: self.rung >= times, f"{times} rings")


@asynccontextmanager
async def listening(
    dsn: str, prove_every: float = QUIET, watch: str = "applications", *, within: float = ANSWERS_WITHIN
) -> AsyncIterator[tuple[Bell, asyncio.Task[None], Connection]]:
    """A listener that has begun: its first ring has been heard."""
    bell = Bell()
    async with session(dsn, watch) as own:
        await own.listen(watch, bell.ring, bell.proved)
        task = asyncio.create_task(own.hold(prove_every, within=within))
        try:
            yield bell, task, own.connection
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def lost(task: asyncio.Task[None], within: float) -> SourceError:
    """How the task ended, which it must do in time."""
    done, _ = await asyncio.wait([task], timeout=within)
    assert done, f"it has not noticed within {within} s"
    error = task.exception()
    assert isinstance(error, SourceError)
    return error


async def errors_in_silence(database: str, number: int, directions: tuple[Direction, ...]) -> list[SourceError]:
    """How a listener, a holder, and a listener that begins only then end when the network falls silent."""
    async with (
        proxy_to(database) as proxy,
        listening(proxy.dsn, prove_every=0.1, watch=f"listener{number}", within=0.3) as (_, listener, _),
        session(proxy.dsn, f"holder{number}") as held,
        own_session(proxy.dsn) as idle,
    ):
        holder = asyncio.create_task(held.hold(prove_every=0.1, within=0.3))
        proxy.fall_silent(*directions)
        beginner = asyncio.create_task(idle.listen("beginner", Bell().ring, Bell().proved, within=0.3))
        return list(await asyncio.gather(*(lost(task, within=30) for task in (listener, holder, beginner))))


class TestListen:
    async def test_a_notification_rings_for_its_watch_alone(self, database: str, ats: Ats) -> None:
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

    async def test_locks_are_taken_and_given_back_while_it_listens(self, database: str, ats: Ats) -> None:
        async with listening(database) as (bell, _, _), own_session(database) as own:
            holding = asyncio.create_task(own.hold(QUIET))
            await asyncio.gather(*(own.lock(f"watch{number}") for number in range(20)))
            assert (
                one(ats, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s", [own.process.pid])
                == 20
            )
            await own.unlock("watch0")
            async with session(database, "watch0"):
                ats.execute("NOTIFY cdc_sync")
                await bell.has_rung(2)
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)


class TestLoss:
    async def test_a_connection_that_falls_silent_is_noticed(self, database: str) -> None:
        """In both directions or in one only, and from the first statement on."""
        silences: tuple[tuple[Direction, ...], ...] = ((), ("requests",), ("answers",))

        # They take their time: before they give up, the driver tries to cancel its statement, for ten seconds.
        errors = await asyncio.gather(
            *(errors_in_silence(database, number, directions) for number, directions in enumerate(silences))
        )

        for listener, holder, beginner in errors:
            for error in (listener, holder, beginner):
                assert error.kind == "unreachable"
                assert "has not answered within" in str(error)


class TestEnd:
    async def test_comes_whenever_it_is_asked_for(self, database: str) -> None:
        """Between any two steps of a proof: a cancellation that got lost would keep the daemon from ending."""
        async with session(database, "applications") as own:
            await own.listen("applications", Bell().ring, Bell().proved)
            for pause in range(60):
                task = asyncio.create_task(own.hold(prove_every=0.0))
                await asyncio.sleep(0.002 + pause / 20_000)
                task.cancel()

                _, running = await asyncio.wait([task], timeout=5)

                assert not running


class TestLock:
    async def test_a_second_worker_of_the_watch_is_refused(self, database: str) -> None:
        async with session(database, "applications"):
            with pytest.raises(SourceError, match="Another cdc-sync works the watch applications") as raised:
                async with session(database, "applications"):
                    pass

        assert raised.value.kind == "unreachable"


# Behind a pooler: a session that several clients use is no place for a lock, and nothing is left behind in it.


WATCH = "applications"

_LEFT = """
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
        await eventually(lambda: one(ats, _LEFT) == 0, "the lock to be gone")


async def test_a_pool_in_session_mode_works_and_is_given_back_clean(database: str, ats: Ats, binary: str) -> None:
    with pgbouncer(binary, database, "session", server_reset_query="") as dsn:
        for _ in range(3):  # the pooler keeps the session, and cleans nothing up
            async with session(dsn, WATCH) as own:
                assert own.is_pooled
                task = asyncio.create_task(own.hold(0.01))
                await asyncio.wait([task], timeout=0.2)
                assert not task.done()
                assert one(ats, _LEFT) == 1
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert one(ats, _LEFT) == 0


# A lock that the server keeps for a session of our own, whose end it has not heard of.


_HOLDERS = """
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


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
        assert one(ats, _HOLDERS) == 1
        before = last.process
        async with session(database, "applications", last):
            assert one(ats, _HOLDERS) == 1
            assert last.process != before


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
            ats,
            "SELECT (backend_start - interval '1 s')::text FROM pg_stat_activity WHERE pid = %s",
            [own.process.pid],
        )
        other = LastSession(Process(own.process.pid, started))
        with pytest.raises(SourceError, match="Another cdc-sync works the watch"):
            async with session(database, "applications", other):
                pass
        assert one(ats, _HOLDERS) == 1

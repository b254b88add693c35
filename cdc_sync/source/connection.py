"""Connecting, and reading under the watch's guard: a dead peer is noticed, and nothing outlives a statement.

A read returns its server's position with its rows (`source.replica_guard`).

When a database is gone that does not say so, what notices is, from the quickest on:

- the lasting session, which proves itself (`source.session`): within 25 seconds, and 10 more in which
  the driver tries to cancel its statement. Every watch then connects anew, so this bounds a page, too, that waits
  for a server behind the same dead network.
- the kernel, for any single connection whose other end is gone: within a minute, by the settings below.
- `asking`, for a single connection that somebody in between keeps open without an answer: within 5 minutes.
"""

import asyncio
import sys
import time
from collections import abc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cdc_sync.config.dsn import check
from cdc_sync.config.problems import Mistake
from cdc_sync.config.sessions import ANSWERS_WITHIN, POOL_SIZE, completed, session_settings
from cdc_sync.source.errors import SourceError, source_error, translate
from cdc_sync.source.expressions import sections
from cdc_sync.source.replica_guard import NOW, ReplicaGuard, ReplicaPosition, ask

T = TypeVar("T")
Connection = AsyncConnection[tuple[Any, ...]]

_TRIES = 4
"""Connections made in a row, at most, to find the server that was read last among those behind one address."""

_AGAIN_AFTER = 0.1
"""Seconds between two tries of a read that meets a server that is behind."""

_FREE_WITHIN = ANSWERS_WITHIN - 60
"""Seconds within which a pool has a connection to give: the only one that it gets may be at work on a long page."""

_LONGEST_PAUSE = 5.0
"""Seconds between two tries of a read that waits for a lock, at most: each failure is a line in the server's log."""

_QUICK = 1.0
"""Seconds for which a read may have a connection and still be quick."""

_NOTHING: abc.Mapping[type[psycopg.Error], str] = MappingProxyType({})

# By task, since a context variable's values would outlive it with each timer that the event loop has cancelled.
_LIMITS: dict[asyncio.Task[Any] | None, tuple[asyncio.Timeout | None, float]] = {}
"""The limit of each task's innermost `asking`, and its seconds."""


def conninfo(dsn: str) -> str:
    """The DSN with our defaults for what it leaves open.

    Raises:
        SourceError: it leads nowhere. The text is not quoted: it may hold a password.
    """
    try:
        check(dsn)
    except Mistake as mistake:
        said = f"{mistake.message}; {mistake.suggestion}" if mistake.suggestion else mistake.message
        raise source_error("connection-string", mistake=said) from None
    return completed(dsn, "cdc-sync")


@asynccontextmanager
async def asking(
    doing: str,
    expected: abc.Mapping[type[psycopg.Error], str] = _NOTHING,
    within: float = ANSWERS_WITHIN,
) -> AsyncIterator[None]:
    """Ask the database for something that takes moments.

    Args:
        doing: what, as in "reading public.applications".
        expected: errors of which the caller knows what they mean: their message (`errors.source_error`).
        within: seconds within which the database answers.

    Raises:
        SourceError: it failed, or it has not been answered in time.
    """
    try:
        async with asyncio.timeout(within) as limit:
            task = asyncio.current_task()
            before = _LIMITS.get(task)
            _LIMITS[task] = limit, within
            try:
                yield
            finally:
                del _LIMITS[task]
                if before is not None:
                    _LIMITS[task] = before
    except PoolTimeout as error:
        raise source_error("unreachable/pool", doing=doing, within=_FREE_WITHIN) from error
    except psycopg.Error as error:
        meant = expected.get(type(error))
        raise (translate(error, doing) if meant is None else source_error(meant)) from error
    except UnicodeError as error:
        raise source_error("bytes-not-text", doing=doing) from error
    except TimeoutError as error:
        raise source_error("unanswered", doing=doing, within=within) from error


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """One connection of its own, in autocommit: for LISTEN, for session locks, for a command's few questions.

    Raises:
        SourceError: it cannot be made.
    """
    try:
        connection = await AsyncConnection.connect(conninfo(dsn), autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise translate(error, "connecting") from error
    try:
        async with asking("connecting"):
            await connection.execute(session_settings(connection.info.server_version))
        yield connection
    finally:
        await connection.close()


@dataclass(slots=True)
class Reads:
    """Reads that share their turns at a pool: those of a watch's capture, or those of its sweeps.

    Attributes:
        slow: whether the last one had a connection for long.
        always: whether they are taken for slow whatever they do: there may be many.
    """

    slow: bool = False
    always: bool = False


READS: ContextVar[Reads | None] = ContextVar("READS", default=None)
"""Whose reads this task makes, and the tasks that it begins."""


@contextmanager
def reading_as(reads: Reads) -> Iterator[None]:
    """Read on somebody's account."""
    token = READS.set(reads)
    try:
        yield
    finally:
        READS.reset(token)


class _Pool(AsyncConnectionPool[Connection]):
    """A pool in which slow reads leave a connection for quick ones; among their like all wait by turns.

    Attributes:
        refused: why the last connection could not be made, where the server has said it.
        slow_turns: one fewer than there are connections, but one at least.
    """

    refused: SourceError | psycopg.Error | None = None
    slow_turns: asyncio.Semaphore

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109 - as below
        reads = READS.get() or Reads()
        async with (
            self._slow_turn() if reads.slow or reads.always else nullcontext(),
            super().connection(timeout) as one,
        ):
            begun = time.monotonic()
            try:
                yield one
            finally:
                reads.slow = time.monotonic() - begun > _QUICK

    @asynccontextmanager
    async def _slow_turn(self) -> AsyncIterator[None]:
        """What others read before is not counted in the seconds within which the database answers."""
        limit, within = _LIMITS.get(asyncio.current_task(), (None, 0.0))
        if limit is not None:
            limit.reschedule(None)
        async with self.slow_turns:
            if limit is not None:
                limit.reschedule(asyncio.get_running_loop().time() + within)
            yield

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109 - as the base class has it
        try:
            return await super().getconn(timeout)
        except PoolTimeout as error:
            raise self.refused or error from error


def _staying_on_server(guard: ReplicaGuard, refused: Callable[[psycopg.Error | None], None]) -> type[Connection]:
    """Connections that lead to the server that was read last, where one address leads to several servers in turn.

    `refused` is told why one cannot be made, or that one could.
    """

    class StayingOnServer(AsyncConnection[tuple[Any, ...]]):
        @classmethod
        async def connect(cls, *args: Any, **kwargs: Any) -> Any:
            try:
                connection = await cls._connect_there(*args, **kwargs)
            except psycopg.Error as error:
                refused(error)
                raise
            refused(None)
            return connection

        @classmethod
        async def _connect_there(cls, *args: Any, **kwargs: Any) -> Any:
            before = ""
            for left in reversed(range(_TRIES)):
                connection = await super().connect(*args, **kwargs)
                try:
                    await connection.execute(session_settings(connection.info.server_version))
                    server = ReplicaPosition.from_text(await ask(connection)).server
                except BaseException:
                    await connection.close()
                    raise
                # The same other one twice: that is where the address leads now.
                if left == 0 or server == before or guard.is_on(server):
                    return connection
                before = server
                await connection.close()
            raise AssertionError("the last try returns")

    return StayingOnServer


@asynccontextmanager
async def pooled(
    dsn: str, guard: ReplicaGuard | None = None, *, size: int = POOL_SIZE, connects_within: float = 15.0
) -> AsyncIterator[AsyncConnectionPool[Connection]]:
    """A pool for reads, for which one connection is enough: nobody takes a second one while he holds one.

    A statement is prepared only if it asks for it (`prepare=True`), and where no pooler stands in between, which could
    lead the next one to another session of the server.

    Args:
        dsn: the database.
        guard: connections stay on the server that was read last, if it can be reached; none is made to a server that is
            behind.
        size: how many connections, at most.
        connects_within: seconds within which it has its first connection.

    Raises:
        SourceError: no connection can be made.
    """
    guard = guard or ReplicaGuard()

    def note(error: SourceError | psycopg.Error | None) -> None:
        pool.refused = error

    async def configure(connection: Connection) -> None:
        try:
            await guard.meet(connection)
        except SourceError as error:
            note(error)
            raise
        ((process, _),) = await (await connection.execute(sections("sessions.sql")["configure"])).fetchall()
        if process == connection.info.backend_pid:
            connection.prepare_threshold = sys.maxsize  # never by itself: some messages are several statements

    pool = _Pool(
        conninfo(dsn),
        connection_class=_staying_on_server(guard, note),
        kwargs={"autocommit": True, "prepare_threshold": None},
        min_size=1,
        max_size=size,
        configure=configure,
        open=False,
        timeout=_FREE_WITHIN,
        # Tried so long, ever more seldom; broken connections are found by using them, and the caller reconnects as a
        # whole.
        reconnect_timeout=_FREE_WITHIN,
    )
    pool.slow_turns = asyncio.Semaphore(max(size - 1, 1))
    try:
        try:
            await pool.open(wait=True, timeout=connects_within)
        except PoolTimeout as error:
            if isinstance(pool.refused, SourceError):
                raise pool.refused from error
            if pool.refused is not None:
                raise translate(pool.refused, "connecting") from error
            raise source_error("unreachable/first", within=connects_within) from error
        yield pool
    finally:
        await pool.close(timeout=2)


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeat what waits for a lock; in between it has no connection, and nobody queues behind it.

    Raises:
        SourceError: it failed, or the lock was not free in time.
    """
    pause, until = _AGAIN_AFTER, time.monotonic() + ANSWERS_WITHIN
    while True:
        try:
            return await attempt()
        except SourceError as error:
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
            if time.monotonic() > until:
                raise source_error("unanswered/lock", within=ANSWERS_WITHIN, said=error.message) from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


Rows = list[tuple[Any, ...]]


async def read_with_position(
    connection: Connection,
    query: sql.Composable,
    parameters: Sequence[Any] | abc.Mapping[str, Any],
    *,
    width: int,
) -> tuple[str, Rows]:
    """Run a statement and return the server's position with its rows: one statement has one snapshot.

    Args:
        connection: where it runs.
        query: the statement.
        parameters: its parameters.
        width: how many columns it has.

    Raises:
        psycopg.Error: it failed.
    """
    # In a row of its own, it comes once, and also if there are no others. As far as SQL goes, it may be any of them.
    nothing = sql.SQL(", ").join([sql.NULL] * width)
    own_row = sql.SQL("SELECT {}, {} UNION ALL SELECT NULL, r.* FROM ({}) AS r").format(NOW, nothing, query)
    fetched = await (await connection.execute(own_row, parameters)).fetchall()
    place = next(number for number, row in enumerate(fetched) if row[0] is not None)
    position = fetched.pop(place)[0]
    return position, [row[1:] for row in fetched]


async def guarded(
    pool: AsyncConnectionPool[Connection],
    guard: ReplicaGuard,
    doing: str,
    read: Callable[[Connection], Awaitable[tuple[str, Rows]]],
) -> Rows:
    """Do a read, again for moments while it meets a server that is behind.

    Args:
        pool: the connections; each may lead to another server.
        guard: what was read before.
        doing: what is read, for errors.
        read: returns the position and the rows, as `read_with_position` does.

    Raises:
        SourceError: it failed, was not answered in time, or the server is behind what was read before.
    """

    async def attempt() -> tuple[str, Rows]:
        async with asking(doing), pool.connection() as connection:
            return await read(connection)

    until = time.monotonic() + guard.behind_for
    while True:
        position, rows = await patiently(attempt)
        try:
            guard.advance(position)
        except SourceError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(_AGAIN_AFTER)
        else:
            return rows


async def guarded_fetch(
    pool: AsyncConnectionPool[Connection],
    guard: ReplicaGuard,
    query: sql.SQL | sql.Composed,
    parameters: Sequence[Any] | abc.Mapping[str, Any],
    *,
    width: int,
    doing: str,
) -> Rows:
    """Run one statement under the guard; see `read_with_position`.

    Raises:
        SourceError: as `guarded` does.
    """

    async def read(connection: Connection) -> tuple[str, Rows]:
        return await read_with_position(connection, query, parameters, width=width)

    return await guarded(pool, guard, doing, read)

"""Connections to the ATS's database, and reads under a guard.

**Reads never go back.** Every read returns its server and how far that was. Another server's rows are used only if its
snapshot shows all that was read before (decision 23). Otherwise `Pool.read` repeats the statement; then the watch
waits. The position is stored with the changes it protects.

[Decision 9](../../docs/decisions/0009-how-a-dead-database-is-noticed.md): how soon a silent database is noticed.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial, partialmethod
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.sql import SQL, Composable, Composed
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cdc_sync.config.dsn import ANSWERS_WITHIN, POOL_SIZE, completed, mistake_in, session_settings

from .errors import RowError, SourceError, source_error, translate
from .expressions import composed, sections

T = TypeVar("T")
Connection = AsyncConnection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]
Query = str | bytes | SQL | Composed
Parameters = Sequence[Any] | Mapping[str, Any]

_TRIES = 4
"""Most connections in a row until an address leads to the server that was read last."""

_AGAIN_AFTER = 0.1
"""Seconds until a read is repeated at a server that is behind."""

_CONNECTS_WITHIN = 15.0
"""Seconds for a pool's first connection."""

_FREE_WITHIN = ANSWERS_WITHIN - 60
"""Seconds to wait for a connection: the only one may be reading a long page."""

_LONGEST_PAUSE = 5.0
"""Most seconds until a locked read is repeated: each failure is a line in the server's log."""

_SQL = sections("sessions.sql")

OWN_PATH, PINNED_PATH = _SQL["own_path"], _SQL["pinned_path"]

_ALWAYS = SQL("true")

REPLICA = "replica"
"""The position's name in the store."""

NOW, IDENTITY = (SQL(sections("reading.sql")[name]) for name in ("position", "identity"))

NOW_AND_IDENTITY = composed("SELECT {}, {}", NOW, IDENTITY)

LOST_IN_A_CRASH = 1_000
"""Transaction ids that a primary may assign again after a crash, since they were not on its disk. Else an idle server
would be refused for ever.
"""


class ReplicaPosition(NamedTuple):
    """A server, and a snapshot there. Ids have their epoch (64 bits).

    Attributes:
        server: its start, in microseconds since the epoch, and its address.
        open: the open transactions from xmin to xmax; unknown for a standby.
        timeline: a primary's, by its last checkpoint; else 0.
    """

    server: str
    in_recovery: bool
    xmin: int
    xmax: int
    open: frozenset[int] = frozenset()
    timeline: int = 0

    @classmethod
    def from_text(cls, text: str) -> "ReplicaPosition":
        """From JSON: start, address, port, whether in recovery, snapshot as PostgreSQL writes it, timeline."""
        started, address, port, in_recovery, snapshot, timeline = json.loads(text)
        xmin, xmax, listed = snapshot.split(":")
        server = f"{started} {address or 'socket'} {port or ''}".rstrip()
        open_ = frozenset(int(each) for each in listed.split(",") if each)
        return cls(server, in_recovery, int(xmin), int(xmax), open_, timeline or 0)


def behind(read: ReplicaPosition, now: ReplicaPosition) -> int | None:
    """Whether a server is behind what was read at another; None if not.

    Returns the oldest transaction that is open there and may have been read as ended; 0 if the server lags.
    """
    if now.server == read.server:
        return None
    lost = 0 if now.in_recovery else LOST_IN_A_CRASH
    # A primary that a failover left behind may reach any xmax by its own writes.
    if (not now.in_recovery and now.timeline < read.timeline) or now.xmax + lost < read.xmax:
        return 0
    if now.in_recovery:
        # All from xmin on may be open; what was open before was not read. A longer range can be no subset.
        since = range(now.xmin, min(read.xmax, now.xmin + len(read.open) + 1))
        shows_all = now.xmin >= read.xmax or read.open.issuperset(since)
        return None if shows_all else now.xmin
    return min((each for each in now.open if each < read.xmax and each not in read.open), default=None)


@dataclass(slots=True)
class ReplicaGuard:
    """The furthest position that was read, as the server wrote it (`text`).

    Methods raise `SourceError` for a server that is behind. A read is repeated for `behind_for` seconds. `identity` is
    the database's; empty if unknown.
    """

    identity: str = ""
    position: ReplicaPosition | None = None
    text: str = ""
    behind_for: float = 3.0

    def load(self, text: str | None) -> None:
        """Take the store's position, unless the present one shows all that was read there.

        The first connection has met a server before: its position is no proof that it has come as far.
        """
        if not text:
            return
        stored = ReplicaPosition.from_text(text)
        here = self.position
        if here is None or here.xmax < stored.xmax or behind(stored, here) is not None:
            self.position, self.text = stored, text

    def check(self, text: str) -> ReplicaPosition:
        """Parse a position; raises for one that is behind."""
        now = ReplicaPosition.from_text(text)
        waits_for = None if self.position is None else behind(self.position, now)
        if waits_for:
            raise source_error("server-may-lag", transaction=waits_for)
        if waits_for is not None:
            raise source_error("server-behind")
        return now

    def advance(self, text: str) -> None:
        """Check a position, and require it of later reads."""
        now, before = ReplicaPosition.from_text(text), self.position
        if before is None or now.server != before.server:
            now = self.check(text)
        elif (now.xmin, now.xmax, -len(now.open)) <= (before.xmin, before.xmax, -len(before.open)):
            return  # one server's latest snapshot counts
        self.position, self.text = now, text

    async def meet(self, connection: Connection) -> None:
        """Check a connection's server and database, and stay on the first server."""
        ((text, identity),) = await rows_of(connection, NOW_AND_IDENTITY)
        if self.identity not in ("", identity):
            raise source_error("two-databases", one=identity, another=self.identity)
        self.check(text)
        if self.position is None:
            self.advance(text)


def conninfo(dsn: str) -> str:
    """The DSN with our defaults; the `SourceError` for a wrong one does not quote it, for its password."""
    if mistake := mistake_in(dsn):
        raise source_error("connection-string", mistake=mistake)
    return completed(dsn, "cdc-sync")


@asynccontextmanager
async def asking(doing: str, within: float | None = ANSWERS_WITHIN) -> AsyncIterator[None]:
    """Translate errors of an operation, as in "reading public.applications", and allow it `within` seconds."""
    try:
        async with asyncio.timeout(within):
            yield
    except psycopg.Error as error:
        raise translate(error, doing) from error
    except UnicodeError as error:
        raise source_error("bytes-not-text", RowError, doing=doing) from error
    except TimeoutError as error:
        raise source_error("unanswered", doing=doing, within=within) from error


class _Resting(AsyncConnection[tuple[Any, ...]]):
    """Sleeps until something comes; psycopg's own looks ten times a second."""

    wait = partialmethod(AsyncConnection[tuple[Any, ...]].wait, interval=5.0)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """A connection in autocommit, outside any pool."""
    async with AsyncExitStack() as stack:
        async with asking("connecting"):
            connection = await _Resting.connect(conninfo(dsn), autocommit=True, prepare_threshold=None)
            stack.push_async_callback(connection.close)
            await connection.execute(session_settings(connection.info.server_version))
        yield connection


class Pool(AsyncConnectionPool[Connection]):
    """Connections for reads. One is enough: no task takes a second while it holds one.

    Connections stay on the server that was read last, if it can be reached, and lead to none that is behind. Statements
    are prepared on request, not behind a pooler.

    Attributes:
        refused: why a server that answered refused the last connection.
        turns: of sweeps, baselines, confirming and slow reads. Of two connections or more, these leave one for quick
            reads.
    """

    def __init__(self, dsn: str, guard: ReplicaGuard, size: int) -> None:
        super().__init__(
            conninfo(dsn),
            connection_class=_StayingOnServer,
            kwargs={"pool": self},
            min_size=1,
            max_size=size,
            open=False,
            timeout=_FREE_WITHIN,
            # Broken connections are found by using them.
            reconnect_timeout=_FREE_WITHIN,
        )
        self.guard = guard
        self.refused: SourceError | None = None
        self.turns = asyncio.Semaphore(max(size - 1, 1))

    async def ask(self, doing: str, what: Callable[[Connection], Awaitable[T]], *, takes_turn: bool = False) -> T:
        """Ask on a connection, and again while others hold a lock; raises `SourceError`.

        In between it has neither connection nor turn, so nobody queues behind it.
        """
        turn = self.turns if takes_turn else nullcontext()
        pause, until = _AGAIN_AFTER, monotonic() + ANSWERS_WITHIN
        while True:
            try:
                async with turn, asking(doing), self.connection() as connection:
                    return await what(connection)
            except SourceError as error:
                if isinstance(error.__cause__, PoolTimeout) and self.refused is not None:
                    raise self.refused from error
                if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                    raise
                if monotonic() > until:
                    raise source_error("unanswered/lock", within=ANSWERS_WITHIN, message=error.message) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def fetch(self, doing: str, query: Query, parameters: Parameters | None = None) -> Rows:
        """The rows of one statement."""
        return await self.ask(doing, lambda connection: rows_of(connection, query, parameters))

    async def read(
        self, doing: str, query: Callable[[Connection], Awaitable[Rows]], *, takes_turn: bool = False
    ) -> Rows:
        """The rows of a statement `with_position`, without it.

        Raises:
            SourceError: the server stays behind; or the table that was read is not the one that the statement is for.
        """
        until = monotonic() + self.guard.behind_for
        while True:
            rows = await self.ask(doing, query, takes_turn=takes_turn)
            with_it = next(number for number, row in enumerate(rows) if row[-1] is not None)
            position = str(rows.pop(with_it)[-1])
            if not position:
                raise source_error("table-replaced", doing=doing)
            try:
                self.guard.advance(position)
            except SourceError:
                if monotonic() > until:
                    raise
                await asyncio.sleep(_AGAIN_AFTER)
            else:
                return [row[:-1] for row in rows]


class _StayingOnServer(AsyncConnection[tuple[Any, ...]]):
    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Any:
        """Connect to the server that was read last, though an address may lead to several."""
        pool: Pool = kwargs.pop("pool")
        try:
            for left in reversed(range(_TRIES)):
                async with AsyncExitStack() as unless_kept:
                    connection = await super().connect(*args, autocommit=True, prepare_threshold=None, **kwargs)
                    unless_kept.push_async_callback(connection.close)
                    await connection.execute(session_settings(connection.info.server_version))
                    ((position, _),) = await rows_of(connection, NOW_AND_IDENTITY)
                    server = ReplicaPosition.from_text(position).server
                    read_last = pool.guard.position
                    if left == 0 or read_last is None or server == read_last.server:
                        await pool.guard.meet(connection)
                        ((process, _),) = await rows_of(connection, _SQL["configure"])
                        if process == connection.info.backend_pid:
                            connection.prepare_threshold = sys.maxsize  # only on request
                        pool.refused = None
                        unless_kept.pop_all()
                        return connection
        except (psycopg.Error, SourceError) as error:
            refused = error if isinstance(error, SourceError) else translate(error, "connecting")
            # Never a `RowError`, whatever its code: nothing was read of a row.
            pool.refused = SourceError(refused.code, refused.message)
            raise


@asynccontextmanager
async def pooled(dsn: str, guard: ReplicaGuard | None = None, *, size: int = POOL_SIZE) -> AsyncIterator[Pool]:
    """A pool of at most `size` connections."""
    pool = Pool(dsn, guard or ReplicaGuard(), size)
    try:
        try:
            await pool.open(wait=True, timeout=_CONNECTS_WITHIN)
        except PoolTimeout as error:
            raise pool.refused or source_error("unreachable/first", within=_CONNECTS_WITHIN) from error
        yield pool
    finally:
        await pool.close(timeout=2)


async def rows_of(
    connection: Connection,
    query: Query,
    parameters: Parameters | None = None,
    *,
    prepare: bool | None = None,
    own_path: bool = False,
) -> Rows:
    """The rows of a statement, which may run `on_own_path`."""
    execute = partial(on_own_path, connection) if own_path else connection.execute
    return await (await execute(query, parameters, prepare=prepare)).fetchall()


async def on_own_path(
    connection: Connection, query: Query, parameters: Parameters | None = None, *, prepare: bool | None = None
) -> AsyncCursor[tuple[Any, ...]]:
    """Run a statement with expressions of the configuration, whose names mean what they mean to the login.

    What is ours in such a statement is written out: `OPERATOR(pg_catalog.=)`, `pg_catalog.left(…)`.
    """
    # One round trip, and one transaction, with which the setting ends also if the statement fails.
    async with connection.pipeline():
        await connection.execute(OWN_PATH)
        cursor = await connection.execute(query, parameters, prepare=prepare)
        await connection.execute(PINNED_PATH)
    return cursor


async def look_at_own_schemas(connection: Connection) -> None:
    """Find out again which schemas the login's own path leads to; the statements then look for tables there."""
    await on_own_path(connection, _SQL["own_schemas"])


def with_position(query: Composable, width: int, condition: Composable = _ALWAYS) -> str:
    """A query of so many columns, with its snapshot's position in one more: an empty text unless a condition holds."""
    # In a row of its own, which comes also without others.
    own = SQL("SELECT {}CASE WHEN {} THEN {} ELSE '' END UNION ALL SELECT r.*, NULL FROM ({}) AS r")
    return own.format(SQL("NULL, " * width), condition, NOW, query).as_string()

"""Connecting: the settings that make a dead peer noticed, and nothing that outlives a statement.

When a database is gone that does not say so, what notices is, from the quickest on:

- the lasting connection of each watch, which proves itself (`source.session`): within 25 seconds, and 10 more in which
  the driver tries to cancel its statement. The whole watch then connects anew, so this bounds a page, too, that waits
  for a server behind the same dead network.
- the kernel, for any single connection whose other end is gone: within a minute, by the settings below.
- `asking`, for a single connection that somebody in between keeps open without an answer: within 5 minutes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cdc_sync.config.conninfo import check
from cdc_sync.config.mistakes import Mistake
from cdc_sync.core.replica_position import ReplicaPosition
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.replica_guard import ReplicaGuard, ask

Connection = AsyncConnection[tuple[Any, ...]]

_DEFAULTS: dict[str, str | int] = {
    "application_name": "cdc-sync",
    "client_encoding": "utf8",
    "connect_timeout": 10,
    # A peer that vanished without a word is noticed within about a minute instead of the kernel's two hours.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

POOL_SIZE = 4

_TRIES = 4
"""Connections made in a row, at most, to find the server that was read last among those behind one address."""

_CONNECTS_WITHIN = 15.0
"""Seconds within which a pool has a connection to give."""

# Whatever the role or the database sets. Reads at SERIALIZABLE would take part in the conflicts of the ATS's own
# transactions, and make them fail; a standby refuses them. No SELECT of set_config(): it would be such a read itself.
# Behind a transaction pooler it reaches the sessions of our own role, which alone share its pool.
_READ_COMMITTED = "SET default_transaction_isolation = 'read committed'"

_ANSWERS_WITHIN = 300.0
"""Seconds within which any statement of ours is answered: pages are short, so long only without an index."""


def conninfo(dsn: str) -> str:
    """The DSN with our defaults for what it leaves open.

    Raises:
        SourceError: it leads nowhere. The text is not quoted: it may hold a password.
    """
    try:
        check(dsn)
    except Mistake as mistake:
        said = f"{mistake.message}; {mistake.suggestion}" if mistake.suggestion else mistake.message
        raise SourceError("misconfigured", f"The connection string {said}.") from None
    given = conninfo_to_dict(dsn)
    return make_conninfo(dsn, **{name: value for name, value in _DEFAULTS.items() if name not in given})


@asynccontextmanager
async def asking(doing: str) -> AsyncIterator[None]:
    """Ask the database for something that takes moments; `doing` tells what, as in "reading public.applications".

    Raises:
        SourceError: it failed, or it has not been answered in time.
    """
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN):
            yield
    except PoolTimeout as error:
        raise SourceError("unreachable", f"The database cannot be reached ({doing}): no free connection.") from error
    except psycopg.Error as error:
        raise translate(error, doing) from error
    except UnicodeError as error:
        raise SourceError(
            "misconfigured",
            f"The database gave bytes that are no text in its client_encoding ({doing}). Where it keeps whatever bytes "
            f'it is given (SQL_ASCII, or the type "char"), say in database.dsn what they are: client_encoding=WIN1252, '
            f"for example.",
        ) from error
    except TimeoutError as error:
        raise SourceError(
            "unreachable",
            f"The database has not answered within {_ANSWERS_WITHIN:.0f} s ({doing}). If it does work, see which of "
            f"its sessions named cdc-sync is slow or waits for a lock, and whether the key and the watermark are "
            f"indexed; else something between here and it has forgotten the connection.",
        ) from error


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
            await connection.execute(_READ_COMMITTED)
        yield connection
    finally:
        await connection.close()


def _staying_on_server(guard: ReplicaGuard) -> type[Connection]:
    """Connections that lead to the server that was read last, where one address leads to several servers in turn."""

    class StayingOnServer(AsyncConnection[tuple[Any, ...]]):
        @classmethod
        async def connect(cls, *args: Any, **kwargs: Any) -> Any:
            before = ""
            for left in reversed(range(_TRIES)):
                connection = await super().connect(*args, **kwargs)
                try:
                    await connection.execute(_READ_COMMITTED)
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
async def pooled(dsn: str, guard: ReplicaGuard | None = None) -> AsyncIterator[AsyncConnectionPool[Connection]]:
    """A small pool for reads. Prepared statements stay off: a transaction pooler may stand in between.

    Args:
        dsn: the database.
        guard: connections stay on the server that was read last, if it can be reached; none is made to a server that is
            behind.

    Raises:
        SourceError: no connection can be made.
    """
    guard = guard or ReplicaGuard()
    behind: SourceError | None = None

    async def configure(connection: Connection) -> None:
        nonlocal behind
        try:
            await guard.meet(connection)
        except SourceError as error:
            behind = error
            raise

    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        conninfo(dsn),
        connection_class=_staying_on_server(guard),
        kwargs={"autocommit": True, "prepare_threshold": None},
        min_size=1,
        max_size=POOL_SIZE,
        configure=configure,
        open=False,
        timeout=_CONNECTS_WITHIN,
        # Broken connections are found by using them; the caller reconnects as a whole.
        reconnect_timeout=5,
    )
    try:
        await pool.open(wait=True, timeout=_CONNECTS_WITHIN)
        yield pool
    except PoolTimeout as error:
        if behind is not None:
            raise behind from error
        raise SourceError(
            "unreachable", f"The database cannot be reached: no connection within {_CONNECTS_WITHIN:.0f} s."
        ) from error
    finally:
        await pool.close(timeout=2)

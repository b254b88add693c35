"""Connecting: the settings that make a dead peer noticed, and nothing that outlives a statement."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cdc_sync.source.errors import SourceError, translate

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


def conninfo(dsn: str) -> str:
    """The DSN with our defaults for what it leaves open.

    Raises:
        SourceError: it is not a DSN that libpq understands. The text is not quoted: it may hold a password.
    """
    try:
        given = conninfo_to_dict(dsn)
        whole = make_conninfo(dsn, **{name: value for name, value in _DEFAULTS.items() if name not in given})
    except psycopg.ProgrammingError:
        raise SourceError(
            "misconfigured",
            "database.dsn is not a connection string that libpq understands: expected "
            "postgresql://USER@HOST:PORT/DATABASE or key=value pairs. Special characters in a URI's password must be "
            "percent-encoded.",
        ) from None
    # What follows an unescaped @ of a password becomes a host, which messages name. An @ at the beginning is Linux's
    # sign for an abstract socket.
    if any("@" in host[1:] for host in str(given.get("host") or "").split(",")):
        raise SourceError("misconfigured", "database.dsn has one @ too many: in a URI's password it is written %40.")
    return whole


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
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def pooled(dsn: str) -> AsyncIterator[AsyncConnectionPool[Connection]]:
    """A small pool for reads. Prepared statements stay off: a transaction pooler may stand in between."""
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        conninfo(dsn),
        kwargs={"autocommit": True, "prepare_threshold": None},
        min_size=1,
        max_size=POOL_SIZE,
        open=False,
        timeout=15,
        # Broken connections are found by using them; the caller reconnects as a whole.
        reconnect_timeout=5,
    )
    try:
        await pool.open(wait=True, timeout=15)
        yield pool
    except PoolTimeout as error:
        raise SourceError("unreachable", "The database cannot be reached: no connection within 15 s.") from error
    finally:
        await pool.close(timeout=2)

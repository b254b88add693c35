"""Reads under the watch's guard: a statement returns its server's position with its rows (`source.replica_guard`)."""

import asyncio
import time
from collections import abc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.errors import SourceError
from cdc_sync.source.replica_guard import NOW, ReplicaGuard

_AGAIN_AFTER = 0.1
"""Seconds between two tries."""

FEW = 50
"""Rows up to which repeating the position in each costs less than a row of its own."""

Rows = list[tuple[Any, ...]]


async def read_with_position(
    connection: Connection,
    query: sql.Composable,
    parameters: Sequence[Any] | abc.Mapping[str, Any],
    *,
    width: int,
    most: int | None = None,
) -> tuple[str, Rows]:
    """Run a statement and return the server's position with its rows: one statement has one snapshot.

    Args:
        connection: where it runs.
        query: the statement.
        parameters: its parameters.
        width: how many columns it has.
        most: how many rows it returns at most, where that is known. Few of them have the position in each row, which is
            planned in half of the time. If there are none, the statement runs once more, as one of many rows does.

    Raises:
        psycopg.Error: it failed.
    """
    if most is not None and most <= FEW:
        beside = sql.SQL("SELECT (SELECT {}), r.* FROM ({}) AS r").format(NOW, query)
        fetched = await (await connection.execute(beside, parameters)).fetchall()
        if fetched:
            return fetched[0][0], [row[1:] for row in fetched]
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
    until = time.monotonic() + guard.behind_for
    while True:
        async with asking(doing), pool.connection() as connection:
            position, rows = await read(connection)
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
    most: int | None = None,
) -> Rows:
    """Run one statement under the guard; see `read_with_position`.

    Raises:
        SourceError: as `guarded` does.
    """

    async def read(connection: Connection) -> tuple[str, Rows]:
        return await read_with_position(connection, query, parameters, width=width, most=most)

    return await guarded(pool, guard, doing, read)

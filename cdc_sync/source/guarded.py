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

_BEHIND_FOR = 3.0
"""Seconds for which a read is repeated that meets a server that is behind."""

_AGAIN_AFTER = 0.1
"""Seconds between two tries."""

Rows = list[tuple[Any, ...]]


def with_position(query: sql.Composable, width: int) -> sql.Composed:
    """A statement of `width` columns with one more before them: NULL in its rows, the position in a row of its own.

    One statement has one snapshot, so the position is that of the rows. It comes once, and also if there are no rows.
    """
    nothing = sql.SQL(", ").join([sql.NULL] * width)
    return sql.SQL("SELECT {}, {} UNION ALL SELECT NULL, r.* FROM ({}) AS r").format(NOW, nothing, query)


async def guarded(
    pool: AsyncConnectionPool[Connection],
    guard: ReplicaGuard,
    doing: str,
    read: Callable[[Connection], Awaitable[Rows]],
) -> Rows:
    """Do a read, again for moments while it meets a server that is behind.

    Args:
        pool: the connections; each may lead to another server.
        guard: what was read before.
        doing: what is read, for errors.
        read: runs a statement that `with_position` made, and returns all that it returned.

    Returns the rows without the position.

    Raises:
        SourceError: it failed, was not answered in time, or the server is behind what was read before.
    """
    until = time.monotonic() + _BEHIND_FOR
    while True:
        async with asking(doing), pool.connection() as connection:
            fetched = await read(connection)
        # As far as SQL goes, it may be anywhere among the rows.
        place = next(number for number, row in enumerate(fetched) if row[0] is not None)
        position = fetched.pop(place)[0]
        try:
            guard.advance(position)
        except SourceError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(_AGAIN_AFTER)
        else:
            return [row[1:] for row in fetched]


async def guarded_fetch(
    pool: AsyncConnectionPool[Connection],
    guard: ReplicaGuard,
    query: sql.SQL | sql.Composed,
    parameters: Sequence[Any] | abc.Mapping[str, Any],
    *,
    width: int,
    doing: str,
) -> Rows:
    """Run one statement of `width` columns under the guard.

    Raises:
        SourceError: as `guarded` does.
    """
    statement = with_position(query, width)

    async def read(connection: Connection) -> Rows:
        return await (await connection.execute(statement, parameters)).fetchall()

    return await guarded(pool, guard, doing, read)

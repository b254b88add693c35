"""Which values, given as text, a column's type can hold.

Keys and ids do not all come from the column that they are looked for in. A related table may keep an application's
number as text, beside numbers of other things; an id may stand in a status URL while the id's own column is a uuid. A
value that the column's type cannot hold is in no row. PostgreSQL makes it an error, and one such value must not keep
all the others from being read.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.rows import Key
from cdc_sync.source.connection import Connection, asking


async def convertible(
    pool: AsyncConnectionPool[Connection], keys: Sequence[Key], types: Sequence[sql.Composable]
) -> list[Key]:
    """Those of the keys that these types, one for each part of a key, can hold.

    Found by halving, since PostgreSQL does not tell which value an error is about (`pg_input_is_valid` came with 16).

    Raises:
        SourceError: the database cannot be asked.
    """
    if await _all_convert(pool, keys, types):
        return list(keys)
    if len(keys) == 1:
        return []
    middle = len(keys) // 2
    return [*await convertible(pool, keys[:middle], types), *await convertible(pool, keys[middle:], types)]


async def _all_convert(
    pool: AsyncConnectionPool[Connection], keys: Sequence[Key], types: Sequence[sql.Composable]
) -> bool:
    query = sql.SQL("SELECT {}").format(
        sql.SQL(", ").join(sql.SQL("%s::text[]::{}[]").format(type_) for type_ in types)
    )
    values: list[Any] = [list(parts) for parts in zip(*keys, strict=True)]
    async with asking("asking which keys can exist"), pool.connection() as connection:
        try:
            await connection.execute(query, values)
        except psycopg.DataError:
            return False
    return True

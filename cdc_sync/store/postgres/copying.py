"""A copy of the shared store in one of SQLite, for a dry run: what it does to the copy harms nobody."""

from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from cdc_sync.store.postgres.connecting import connected, prepare, translate, version_of
from cdc_sync.store.postgres.transaction import Connection
from cdc_sync.store.sqlite import SqliteStore
from cdc_sync.store.sqlite.schema import copying

_COPIED = ("about", "watch", "snapshot", "outbox", "suspicion", "skipped", "position", "endpoint")
"""What decisions depend on. The history, repairs and conditions are for people, who do not look into a dry run."""

_OF_DAEMONS = {"claimed_by", "leased_by", "session"}

_PAGE = 5_000


async def copy_to_sqlite(dsn: str, copy: SqliteStore) -> None:
    """Write a consistent copy of the store in a database, as it is at one moment, into an empty store of SQLite.

    Nothing is copied of a store that does not exist yet.

    Raises:
        StoreError: it cannot be read, or the copy cannot be written.
    """
    try:
        async with connected(dsn) as connection:
            if await version_of(connection) == 0:
                return
            await prepare(dsn, read_only=True)
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                for table in _COPIED:
                    await _copy(connection, copy, table)
    except psycopg.Error as error:
        raise translate(dsn, error) from error


async def _copy(connection: Connection, copy: SqliteStore, table: str) -> None:
    columns = [each for each in await copy.transact(partial(_columns, table=table)) if each not in _OF_DAEMONS]
    # What is claimed counts as attempted, as it does at a start.
    attempted = sql.SQL("attempted OR claimed_by IS NOT NULL")
    names = sql.SQL(", ").join(attempted if name == "attempted" else sql.Identifier(name) for name in columns)
    # The table's name is one of the constant above, and the columns' are the schema's.
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    async with connection.cursor(f"cdc_sync_copy_{table}") as cursor:
        await cursor.execute(sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier("cdc_sync", table)))
        while rows := await cursor.fetchmany(_PAGE):
            await copy.transact(partial(_insert, insert=insert, rows=rows))


async def _columns(transaction: Any, *, table: str) -> list[str]:
    return [name for _, name, *_ in transaction.connection.execute(f"PRAGMA table_info({table})")]


async def _insert(transaction: Any, *, insert: str, rows: list[tuple[Any, ...]]) -> None:
    with copying():
        transaction.connection.executemany(insert, rows)

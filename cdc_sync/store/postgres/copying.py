"""A copy of the shared store in an SQLite file, for a dry run: what it does to the copy harms nobody."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg import sql

from cdc_sync.store.postgres.connecting import connected, prepare, translate, version_of
from cdc_sync.store.postgres.transaction import Connection
from cdc_sync.store.protocol import StoreError
from cdc_sync.store.sqlite.schema import connect

_COPIED = ("about", "watch", "snapshot", "outbox", "suspicion", "skipped", "position", "endpoint")
"""What decisions depend on. The history, repairs and conditions are for people, who do not look into a dry run."""

_OF_DAEMONS = {"claimed_by", "leased_by", "session"}

_PAGE = 5_000


async def copy_to_sqlite(dsn: str, target: Path) -> None:
    """Write a consistent copy of the store in a database, as it is at one moment, into an SQLite store.

    Nothing is copied of a store that does not exist yet.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        async with connected(dsn) as connection:
            if await version_of(connection) == 0:
                return
            await prepare(dsn, read_only=True)
            with closing(await asyncio.to_thread(_opened, target)) as copy:
                async with connection.transaction():
                    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    for table in _COPIED:
                        await _copy(connection, copy, table)
                copy.commit()
    except psycopg.Error as error:
        raise StoreError("store-unusable", translate(dsn, error)) from error
    except sqlite3.Error as error:
        raise StoreError(
            "store-copy", f"A dry run works on a copy of the store, which cannot be written: {error}."
        ) from error


def _opened(target: Path) -> sqlite3.Connection:
    connect(target).close()
    return sqlite3.connect(target, check_same_thread=False)


async def _copy(connection: Connection, copy: sqlite3.Connection, table: str) -> None:
    columns = [name for _, name, *_ in copy.execute(f"PRAGMA table_info({table})") if name not in _OF_DAEMONS]
    # What is claimed counts as attempted, as it does at a start.
    attempted = sql.SQL("attempted OR claimed_by IS NOT NULL")
    names = sql.SQL(", ").join(attempted if name == "attempted" else sql.Identifier(name) for name in columns)
    # The table's name is one of the constant above, and the columns' are the schema's.
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    async with connection.cursor(f"cdc_sync_copy_{table}") as cursor:
        await cursor.execute(sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier("cdc_sync", table)))
        while rows := await cursor.fetchmany(_PAGE):
            copy.executemany(insert, rows)

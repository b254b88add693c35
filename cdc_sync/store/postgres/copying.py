"""A copy of the shared store in an SQLite file, for a dry run: what it does to the copy harms nobody."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from cdc_sync.store.postgres.connecting import connected, prepare, translate
from cdc_sync.store.protocol import StoreError
from cdc_sync.store.sqlite.schema import connect

_COPIED: dict[str, tuple[str, ...]] = {
    "about": ("name", "value"),
    "watch": ("name", "fuse", "known", "changed_at"),
    "snapshot": (
        *("number", "watch", "application_id", "row_key", "in_scope", "status", "job_id", "deleted", "metadata"),
        *("acknowledged_at", "adopted", "verified"),
    ),
    "outbox": (
        *("watch", "application_id", "status", "job_id", "deleted", "metadata", "kinds", "state", "revision"),
        *("queued_at", "due_at", "attempted", "attempts", "first_attempt_at", "not_found_since", "reason", "endpoint"),
    ),
    "suspicion": ("watch", "application_id", "at", "due_at"),
    "skipped": ("watch", "row_key", "application_id", "reason", "at"),
    "position": ("watch", "name", "value"),
    "endpoint": ("endpoint", "health"),
}
"""What decisions depend on. The history, repairs and conditions are for people, who do not look into a dry run."""

_PAGE = 5_000


async def copy_to_sqlite(dsn: str, target: Path) -> None:
    """Write a consistent copy of the store in a database, as it is at one moment, into an SQLite store.

    Nothing is copied of a store that does not exist yet.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        async with connected(dsn) as connection:
            there = await (await connection.execute("SELECT to_regclass('cdc_sync.about') IS NOT NULL")).fetchone()
            if there is None or not there[0]:
                return
            await prepare(dsn, read_only=True)
            with closing(await asyncio.to_thread(_opened, target)) as copy:
                async with connection.transaction():
                    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    for table, columns in _COPIED.items():
                        await _copy(connection, copy, table, columns)
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


async def _copy(
    connection: "psycopg.AsyncConnection[tuple[Any, ...]]", copy: sqlite3.Connection, table: str, columns: Sequence[str]
) -> None:
    # What is claimed counts as attempted, as it does at a start.
    attempted = sql.SQL("attempted OR claimed_by IS NOT NULL")
    names = sql.SQL(", ").join(attempted if name == "attempted" else sql.Identifier(name) for name in columns)
    query = sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier("cdc_sync", table))
    # The table's name and the columns' are those of the constant above.
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    async with connection.cursor(f"cdc_sync_copy_{table}") as cursor:
        await cursor.execute(query)
        while rows := await cursor.fetchmany(_PAGE):
            copy.executemany(insert, rows)

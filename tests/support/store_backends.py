"""Where a store under test keeps its data, so that one suite can run on every implementation."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql

from cdc_sync.store import Store
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.postgres.schema import TABLES
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.statements import SCHEMA
from support.sessions import one

BACKENDS = ("sqlite", "postgres")
"""Every implementation that must pass the conformance suite, by its name in the configuration (`state.backend`)."""


class Backend(Protocol):
    """One store's data, which may be opened several times, also at once."""

    async def open(self) -> Store:
        """Open the store."""

    async def mark_as_newer(self) -> None:
        """Make the data look as if a newer cdc-sync had written it."""

    async def sleep(self, seconds: float) -> None:
        """Let a transaction, in which this is called, take so much longer."""


class SqliteBackend:
    """The embedded store, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"

    async def open(self) -> Store:
        return Store(SqliteDriver(self.path))

    async def mark_as_newer(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA user_version = 4711")

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - in the store's own thread


_EMPTY = "DELETE FROM {};"
_AS_NEW = """
DELETE FROM cdc_sync.about WHERE name <> 'schema';
UPDATE cdc_sync.about SET value = {};
ALTER SEQUENCE cdc_sync.snapshot_number_seq RESTART
"""


class PostgresBackend:
    """The shared store, in a database that nobody else uses meanwhile; emptied at the start, if it was used before."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        with psycopg.connect(dsn) as connection:
            if one(connection, "SELECT to_regclass('cdc_sync.about') IS NOT NULL"):
                empty = sql.SQL("").join(
                    sql.SQL(_EMPTY).format(sql.Identifier("cdc_sync", table)) for table in TABLES if table != "about"
                )
                connection.execute(empty + sql.SQL(_AS_NEW).format(str(SCHEMA)))

    async def open(self) -> Store:
        return Store(await PostgresDriver.open(self.dsn))

    async def mark_as_newer(self) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute("UPDATE cdc_sync.about SET value = '4711' WHERE name = 'schema'")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


OpenStore = Callable[[], Awaitable[Store]]
"""Opens the same store once more, as another process or the next start would."""

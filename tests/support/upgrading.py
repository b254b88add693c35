"""A store of an earlier version where a test can open it, and what its tables hold, asked by hand."""

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import psycopg
from old_stores import OldStore
from psycopg import sql
from psycopg.rows import dict_row

from cdc_sync.store import Store
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.sqlite.driver import SqliteDriver
from support.dumping import restore
from support.sessions import one

Row: TypeAlias = dict[str, Any]
Tables: TypeAlias = Mapping[str, list[Row]]
"""The rows of every table."""


class OldData(Protocol):
    """One store's data, as an earlier version left it."""

    async def open(self) -> Store:
        """Open it with this version."""

    def schema(self) -> int:
        """The number of its schema."""

    def tables(self) -> Tables:
        """What it holds."""

    def set_note(self, name: str, value: str) -> None:
        """Change a note in its table `about`."""


class OldFile:
    """A store in a file."""

    def __init__(self, old: OldStore, folder: Path) -> None:
        self.path = folder / "state.db"
        self.path.write_bytes(old.file())

    async def open(self) -> Store:
        return Store(SqliteDriver(self.path))

    def schema(self) -> int:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def tables(self) -> Tables:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            return {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for (name,) in names}  # noqa: S608 - its own tables

    def set_note(self, name: str, value: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE about SET value = ? WHERE name = ?", (value, name))


class OldSchema:
    """A store in a database, which must have no schema `cdc_sync` yet."""

    def __init__(self, old: OldStore, dsn: str) -> None:
        self.dsn = dsn
        restore(dsn, old.script())

    async def open(self) -> Store:
        return Store(await PostgresDriver.open(self.dsn))

    def schema(self) -> int:
        with psycopg.connect(self.dsn) as connection:
            return int(one(connection, "SELECT value::int FROM cdc_sync.about WHERE name = 'schema'"))

    def tables(self) -> Tables:
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            names = connection.execute(
                "SELECT relname FROM pg_class"
                " WHERE relnamespace = 'cdc_sync'::regnamespace AND relkind = 'r' ORDER BY relname"
            ).fetchall()
            return {
                row["relname"]: connection.execute(
                    sql.SQL("SELECT * FROM {} AS t ORDER BY t::text").format(sql.Identifier("cdc_sync", row["relname"]))
                ).fetchall()
                for row in names
            }

    def set_note(self, name: str, value: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute("UPDATE cdc_sync.about SET value = %s WHERE name = %s", (value, name))

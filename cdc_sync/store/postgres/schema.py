"""The store's database: connections, scripts and migrations of its schema, errors, and a copy in SQLite for a dry run.

The scripts are the DBA's; the daemon runs them itself where it may.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from textwrap import indent
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql

from cdc_sync import own_path
from cdc_sync.config.dsn import completed, session_settings, shown
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName, requoted
from cdc_sync.core.visible import visible
from cdc_sync.store.errors import remedy_for, store_error
from cdc_sync.store.sqlite.schema import copying
from cdc_sync.store.statements import MIGRATIONS, SCHEMA, schema, text

Connection = AsyncConnection[tuple[Any, ...]]

_OLDEST = 100_000

_PLANS_FOR_VALUES = 120_000
"""Before, PostgreSQL keeps the plan of a prepared statement, and nothing is prepared."""

_PREPARED_AFTER = 5
"""Executions of a statement on a connection before it is prepared there."""

TABLES = tuple(re.findall(r"CREATE TABLE IF NOT EXISTS cdc_sync\.(\w+)", schema("postgres")))
"""All tables of the store."""

_COPIED = ("about", "watch", "snapshot", "outbox", "suspicion", "skipped", "position", "endpoint", "account_fuse")
"""The input of decisions. History, repairs and conditions are for people."""

_PAGE = 5_000


async def connect(dsn: str) -> Connection:
    """A connection, set up; as a context, it is closed at the end.

    Raises:
        StoreError: it cannot be made, or leads to no server that can keep a store.
    """
    try:
        conninfo = completed(dsn, "cdc-sync store")
    except psycopg.ProgrammingError:
        raise store_error("store-dsn") from None  # it may hold a password
    with translating(dsn):
        connection = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
        try:
            await _insist_on_server(connection, shown(dsn))
            version = connection.info.server_version
            await connection.execute(session_settings(version, statements_end=False))
            await connection.execute(text("postgres/session.sql").encode())
            connection.prepare_threshold = _PREPARED_AFTER if version >= _PLANS_FOR_VALUES else None
        except BaseException:
            await connection.close()
            raise
    return connection


async def _insist_on_server(connection: Connection, place: str) -> None:
    """Refuse a server that is too old, an encoding that does not hold every text, and a pooler.

    A pooler gives a session to others, with its settings and locks, and invents the number of its process.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise store_error("store-unsuitable/encoding", place=place, encoding=encoding)
    if connection.info.server_version < _OLDEST:
        raise store_error("store-unsuitable/old", place=place)
    ((process,),) = await (await connection.execute("SELECT pg_catalog.pg_backend_pid()")).fetchall()
    if process != connection.info.backend_pid:
        raise store_error("store-pooled", place=place)


async def migrate(connection: Connection, place: str, tables: Iterable[QualifiedName]) -> None:
    """Make the store, or bring its schema up to date; the parameters are those of `PostgresDriver.open`.

    Raises:
        psycopg.Error: the database cannot be used.
        StoreError: this role may not change the schema, or an older daemon runs.
    """
    if await version_of(connection) >= SCHEMA:
        return
    try:
        await connection.execute(install(tables=tables).encode())
    except errors.ObjectNotInPrerequisiteState as error:
        facts = {"message": error.diag.message_primary, "hint": error.diag.message_hint}
        raise store_error("store-upgrade/postgres", place=place, **facts) from error
    except errors.LockNotAvailable as error:
        raise store_error("store-upgrade/locked", place=place) from error


async def insist_on_schema(connection: Connection, place: str) -> None:
    """Refuse any other schema than the present one.

    Raises:
        psycopg.Error: the database cannot be used.
        StoreError: it is older, or newer.
    """
    version = await version_of(connection)
    if version > SCHEMA:
        raise store_error("store-newer/postgres", place=place, version=version, newest=SCHEMA)
    if version < SCHEMA:
        raise store_error("store-not-set-up/postgres", place=place)


async def version_of(connection: Connection) -> int:
    """The number of the schema; 0 without a store."""
    ((there,),) = await (await connection.execute("SELECT to_regclass('cdc_sync.about') IS NOT NULL")).fetchall()
    if not there:
        return 0
    about = await connection.execute("SELECT value::integer FROM cdc_sync.about WHERE name = 'schema'")
    row = await about.fetchone()
    return 0 if row is None else int(row[0])


@contextmanager
def translating(dsn: str) -> Iterator[None]:
    """Turn psycopg's errors into a `StoreError`."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(dsn, error) from error


def translate(dsn: str, error: psycopg.Error) -> StoreError:
    """A driver's error with a remedy, and without a secret."""
    lines = [line.strip() for line in (error.diag.message_primary or str(error)).splitlines() if line.strip()]
    problem = ([line for line in lines if "FATAL:" in line] or lines or [type(error).__name__])[0].rstrip(".")
    remedy = remedy_for("postgres", lambda name: isinstance(error, getattr(errors, name)))
    return store_error("store-unusable/postgres", remedy, place=shown(dsn), message=visible(problem))


async def copy_to_sqlite(dsn: str, copy: sqlite3.Connection) -> None:
    """Copy the store in a database, if there is one, as of one moment into an empty SQLite store.

    Raises:
        StoreError: it cannot be read, or the copy cannot be written.
    """
    async with await connect(dsn) as connection:
        with translating(dsn), copying():
            if await version_of(connection) == 0:
                return
            await insist_on_schema(connection, shown(dsn))
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                copy.execute("BEGIN")
                for table in _COPIED:
                    await _copy(connection, copy, table)
                copy.execute("UPDATE watch SET session = NULL")  # a dry run ends nobody's session
                copy.execute("COMMIT")


async def _copy(connection: Connection, copy: sqlite3.Connection, table: str) -> None:
    async with connection.cursor(f"cdc_sync_copy_{table}") as cursor:
        await cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("cdc_sync", table)))
        columns = [column.name for column in cursor.description or ()]
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - our own
        while rows := await cursor.fetchmany(_PAGE):
            copy.executemany(insert, rows)


# The scripts.


def install(tables: Iterable[QualifiedName] = ()) -> str:
    """Create the store's tables, or migrate them.

    The owners of `tables`, those watched in the store's database, may read the whole store, for `pg_dump`.
    """
    tables = list(tables)
    watched = sql.SQL(", ").join([*map(own_path.oid_of, tables)] or [sql.SQL("NULL").format()]).as_string()
    script = text("postgres/install.sql").format(
        begin=own_path.begin(tables),
        tables=", ".join(TABLES),
        gives_by_default=own_path.gives_by_default("current_user"),
        known=", ".join(map(str, (0, *MIGRATIONS, SCHEMA))),
        newest=SCHEMA,
        from_0_1=_inside(text("postgres/from_0_1.sql")),
        from_0_2=_inside(text("postgres/from_0_2.sql")),
        schema=_inside(schema("postgres")),
        watched=watched,
    )
    return requoted(script, [watched])


def _inside(statements: str) -> str:
    """Statements in a block of the script."""
    return indent(statements.rstrip(), " " * 8)


def grants(role: str) -> str:
    """The least privileges of the role of the daemon and its commands."""
    return _filled("grants", role)


def uninstall() -> str:
    """Remove the store's tables, and the schema if it is empty then."""
    return _filled("uninstall")


def _filled(name: str, role: str = "") -> str:
    literal, tables = sql.Literal(role), [sql.Identifier("cdc_sync", table) for table in TABLES]
    script = sql.SQL(requoted(text(f"postgres/{name}.sql"), [literal.as_string()]))
    facts = {"tables": sql.SQL(",\n    ").join(tables), "begin": sql.SQL(own_path.begin())}
    return script.format(name=literal, role=sql.Identifier(role), **facts).as_string()

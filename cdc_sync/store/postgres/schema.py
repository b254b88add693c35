"""Connections to the store's database, migrations of its schema, its errors, and a copy in SQLite for a dry run."""

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql

from cdc_sync.config.dsn import shown
from cdc_sync.config.sessions import completed, session_settings
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.store.driver import Access
from cdc_sync.store.errors import store_error, texts
from cdc_sync.store.postgres.scripts import install
from cdc_sync.store.protocol import UPGRADING_EVERY, Upgrading, not_reported
from cdc_sync.store.sqlite import SqliteDriver
from cdc_sync.store.sqlite.schema import copying
from cdc_sync.store.statements import SCHEMA, text

Connection = AsyncConnection[tuple[Any, ...]]

_VERSION = b"SELECT value::integer FROM cdc_sync.about WHERE name = 'schema'"

_OLDEST = 100_000

_COPIED = ("about", "watch", "snapshot", "outbox", "suspicion", "skipped", "position", "endpoint", "account_fuse")
"""The input of decisions. History, repairs and conditions are for people."""

_OF_DAEMONS = {"session"}

_PAGE = 5_000

_PREPARED_AFTER = 5
"""Executions of a statement on a connection before it is prepared there."""


async def connect(dsn: str) -> Connection:
    """A connection, set up; as a context, it is closed at the end.

    Raises:
        psycopg.Error: it cannot be made.
        StoreError: libpq does not understand the DSN. It may hold a password, so the error does not quote it.
    """
    try:
        conninfo = completed(dsn, "cdc-sync store")
    except psycopg.ProgrammingError:
        raise store_error("store-dsn") from None
    connection = await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    try:
        await configure(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


async def configure(connection: Connection) -> None:
    """Set a new connection up."""
    await connection.execute(session_settings(connection.info.server_version, statements_end=False))
    # A pooler invents this number; its connections are refused where a session must be ours alone.
    process = connection.info.backend_pid
    ((*_, keeps_plans),) = await (
        await connection.execute(text("postgres/session.sql").encode(), (process,))
    ).fetchall()
    connection.prepare_threshold = _PREPARED_AFTER if keeps_plans else None


async def prepare(
    connection: Connection,
    dsn: str,
    access: Access,
    *,
    tables: Iterable[QualifiedName] = (),
    upgrading: Upgrading = not_reported,
) -> None:
    """Migrate the schema, if it is our own.

    The parameters are those of `PostgresDriver.open`; a new store is not `upgrading`.

    Raises:
        psycopg.Error: the database cannot be used.
        StoreError: the schema is newer; or it is older, and this role may not change it, or an older daemon runs.
    """
    place = shown(dsn)
    check_server(connection, dsn)
    version = await version_of(connection)
    if version < SCHEMA and access == "own":
        await _install(connection, place, tables, upgrading if version else not_reported)
        version = await version_of(connection)
    if version > SCHEMA:
        raise store_error("store-newer/postgres", place=place, version=version, newest=SCHEMA)
    if version < SCHEMA:
        raise store_error("store-not-set-up/postgres", place=place)


async def _install(connection: Connection, place: str, tables: Iterable[QualifiedName], upgrading: Upgrading) -> None:
    report = asyncio.create_task(_report(upgrading))
    try:
        await connection.execute(install(tables=tables).encode())
    except errors.ObjectNotInPrerequisiteState as error:
        facts = {"message": error.diag.message_primary, "hint": error.diag.message_hint}
        raise store_error("store-upgrade/postgres", place=place, **facts) from error
    except errors.LockNotAvailable as error:
        raise store_error("store-upgrade/locked", place=place) from error
    finally:
        report.cancel()


async def _report(upgrading: Upgrading) -> None:
    begun = time.monotonic()
    while True:
        upgrading(time.monotonic() - begun)
        await asyncio.sleep(UPGRADING_EVERY)


def check_server(connection: Connection, dsn: str) -> None:
    """Refuse a server that cannot keep a store.

    Raises:
        StoreError: it is too old, or the database's encoding does not hold every text.
    """
    place, encoding = shown(dsn), connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise store_error("store-unsuitable/encoding", place=place, encoding=encoding)
    if connection.info.server_version < _OLDEST:
        raise store_error("store-unsuitable/old", place=place)


async def version_of(connection: Connection) -> int:
    """The number of the schema; 0 without a store."""
    there = await (await connection.execute(b"SELECT to_regclass('cdc_sync.about') IS NOT NULL")).fetchone()
    if there is None or not there[0]:
        return 0
    row = await (await connection.execute(_VERSION)).fetchone()
    return 0 if row is None else int(row[0])


def translate(dsn: str, error: psycopg.Error) -> StoreError:
    """A driver's error with a remedy, and without a secret."""
    lines = [line.strip() for line in (error.diag.message_primary or str(error)).splitlines() if line.strip()]
    problem = ([line for line in lines if "FATAL:" in line] or lines or [type(error).__name__])[0].rstrip(".")
    remedies = (remedy for name, remedy in texts()["postgres"].items() if isinstance(error, getattr(errors, name)))
    return store_error("store-unusable/postgres", next(remedies, None), place=shown(dsn), message=visible(problem))


async def copy_to_sqlite(dsn: str, copy: SqliteDriver) -> None:
    """Copy the store in a database, if there is one, as of one moment into an empty SQLite store.

    Raises:
        StoreError: it cannot be read, or the copy cannot be written.
    """
    try:
        async with await connect(dsn) as connection:
            if await version_of(connection) == 0:
                return
            await prepare(connection, dsn, "read")
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                for table in _COPIED:
                    await _copy(connection, copy, table)
    except psycopg.Error as error:
        raise translate(dsn, error) from error


async def _copy(connection: Connection, copy: SqliteDriver, table: str) -> None:
    columns = [each for each in await copy.transact(partial(_columns, table=table)) if each not in _OF_DAEMONS]
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
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

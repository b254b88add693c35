"""Connecting to the store's database, bringing its schema up to date, and what is said when that fails."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, errors

from cdc_sync.config.dsn import shown
from cdc_sync.config.sessions import completed, session_settings
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.store.errors import store_error, texts
from cdc_sync.store.postgres.scripts import install, owners
from cdc_sync.store.postgres.transaction import Connection
from cdc_sync.store.protocol import UPGRADING_EVERY, Upgrading, not_reported
from cdc_sync.store.statements import migrations

# Whatever the role or the database sets: a commit is on disk when it returns.
_SETTINGS = b"""
SELECT set_config('default_transaction_read_only', 'off', false),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""

_VERSION = b"SELECT value::integer FROM cdc_sync.about WHERE name = 'schema'"

_OLDEST = 100_000


def conninfo(dsn: str) -> str:
    """The DSN with our defaults for what it leaves open.

    Raises:
        StoreError: it is not a DSN that libpq understands. The text is not quoted: it may hold a password.
    """
    try:
        return completed(dsn, "cdc-sync store")
    except psycopg.ProgrammingError:
        raise store_error("store-dsn") from None


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """One connection, set up like those of the pool.

    Raises:
        psycopg.Error: it cannot be made.
    """
    connection = await AsyncConnection.connect(conninfo(dsn), autocommit=True, prepare_threshold=None)
    try:
        await configure(connection, statements_end=False)
        yield connection
    finally:
        await connection.close()


async def configure(connection: Connection, *, statements_end: bool = True) -> None:
    """Set a new connection up; `statements_end` tells whether a statement may be ended that takes minutes."""
    await connection.execute(session_settings(connection.info.server_version, statements_end=statements_end))
    await connection.execute(_SETTINGS)


async def prepare(
    dsn: str, *, read_only: bool, tables: Iterable[QualifiedName] = (), upgrading: Upgrading = not_reported
) -> None:
    """Bring the schema up to date, unless it is only read.

    Args:
        dsn: where it is.
        read_only: whether nothing may be written.
        tables: those that are watched in the store's database, whose owners may read a store that is made here.
        upgrading: hears of it while it is done, unless the store is new.

    Raises:
        StoreError: the database cannot be used; or the schema is newer than this version, or older and may not be
            changed, by this role or because an older daemon works on it.
    """
    store, newest = f"in {shown(dsn)}", len(migrations("postgres"))
    try:
        async with connected(dsn) as connection:
            check_server(connection, dsn)
            version = await version_of(connection)
            if version < newest and not read_only:
                report = asyncio.create_task(_report(upgrading if version else not_reported))
                try:
                    await connection.execute(install(tables_owners=owners(tables)).encode())
                finally:
                    report.cancel()
                version = await version_of(connection)
    except errors.ObjectNotInPrerequisiteState as error:
        facts = {"said": error.diag.message_primary, "hint": error.diag.message_hint}
        raise store_error("store-upgrade/postgres", store=store, **facts) from error
    except psycopg.Error as error:
        raise translate(dsn, error) from error
    if version > newest:
        raise store_error("store-newer", store=store, version=version, newest=newest)
    if version < newest:
        raise store_error("store-not-set-up/postgres", store=store)


async def _report(upgrading: Upgrading) -> None:
    begun = time.monotonic()
    while True:
        upgrading(time.monotonic() - begun)
        await asyncio.sleep(UPGRADING_EVERY)


def check_server(connection: Connection, dsn: str) -> None:
    """Refuse a server that cannot keep a store.

    Raises:
        StoreError: it is too old, or the database does not hold every text.
    """
    place, encoding = shown(dsn), connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise store_error("store-unsuitable/encoding", place=place, encoding=encoding)
    if connection.info.server_version < _OLDEST:
        raise store_error("store-unsuitable/old", place=place)


async def version_of(connection: Connection) -> int:
    """How many migrations were applied; 0 where there is no store."""
    there = await (await connection.execute(b"SELECT to_regclass('cdc_sync.about') IS NOT NULL")).fetchone()
    if there is None or not there[0]:
        return 0
    row = await (await connection.execute(_VERSION)).fetchone()
    return 0 if row is None else int(row[0])


def translate(dsn: str, error: psycopg.Error) -> StoreError:
    """A driver's error with a remedy, and without a secret."""
    lines = [line.strip() for line in (error.diag.message_primary or str(error)).splitlines() if line.strip()]
    said = ([line for line in lines if "FATAL:" in line] or lines or [type(error).__name__])[0].rstrip(".")
    remedies = (remedy for name, remedy in texts()["postgres"].items() if isinstance(error, getattr(errors, name)))
    return store_error("store-unusable", store=f"in {shown(dsn)}", said=visible(said), remedy=next(remedies, ""))

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
from cdc_sync.store.postgres.scripts import install, owners
from cdc_sync.store.postgres.transaction import Connection
from cdc_sync.store.protocol import UPGRADING_EVERY, Upgrading, newer, not_reported
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
        raise StoreError(
            "store-dsn",
            "The store's database cannot be reached: state.dsn is not a connection string that libpq understands. "
            "Expected postgresql://USER@HOST:PORT/DATABASE or key=value pairs; special characters in a URI's password "
            "are percent-encoded.",
        ) from None


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
    newest = len(migrations("postgres"))
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
        raise StoreError(
            "store-upgrade",
            f"The store in {shown(dsn)} cannot be brought up to date: {error.diag.message_primary}. "
            f"{error.diag.message_hint}",
        ) from error
    except psycopg.Error as error:
        raise StoreError("store-unusable", translate(dsn, error)) from error
    if version > newest:
        raise newer(f"in {shown(dsn)}", version, newest)
    if version < newest:
        raise StoreError(
            "store-not-set-up",
            f"The store in {shown(dsn)} has not been set up by this version yet: start the daemon once, or let the DBA "
            f"run what `cdc-sync sql install --store` prints.",
        )


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
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            "store-unsuitable",
            f"The store cannot be kept in {shown(dsn)}: that database's encoding is {encoding}, which does not hold "
            f"whatever HelloWork may answer. Let state.dsn name a database with the encoding UTF8; it may be on the "
            f"same server.",
        )
    if connection.info.server_version < _OLDEST:
        raise StoreError(
            "store-unsuitable", f"The store cannot be kept in {shown(dsn)}: it needs PostgreSQL 10 or newer."
        )


async def version_of(connection: Connection) -> int:
    """How many migrations were applied; 0 where there is no store."""
    there = await (await connection.execute(b"SELECT to_regclass('cdc_sync.about') IS NOT NULL")).fetchone()
    if there is None or not there[0]:
        return 0
    row = await (await connection.execute(_VERSION)).fetchone()
    return 0 if row is None else int(row[0])


_REMEDIES: tuple[tuple[tuple[type[psycopg.Error], ...], str], ...] = (
    (
        (errors.InsufficientPrivilege, errors.UndefinedTable, errors.InvalidSchemaName),
        "Let the DBA run what `cdc-sync sql install --store` and `cdc-sync sql grants --store` print.",
    ),
    (
        (errors.ReadOnlySqlTransaction,),
        "It takes no writes: let state.dsn name the primary (target_session_attrs=read-write).",
    ),
    ((errors.DiskFull,), "Free space on the server's disk; nothing is sent until it can be written."),
    (
        (errors.InvalidCatalogName, errors.InvalidAuthorizationSpecification, errors.InvalidPassword),
        "Correct state.dsn (database.dsn, if that is null).",
    ),
    (
        (psycopg.OperationalError, psycopg.InterfaceError),
        "It is tried again; nothing is sent that could not be recorded.",
    ),
)


def translate(dsn: str, error: psycopg.Error) -> str:
    """A driver's error as a sentence with a remedy, and without a secret."""
    lines = [line.strip() for line in (error.diag.message_primary or str(error)).splitlines() if line.strip()]
    said = ([line for line in lines if "FATAL:" in line] or lines or [type(error).__name__])[0].rstrip(".")
    said = visible(said)
    remedy = next((remedy for kinds, remedy in _REMEDIES if isinstance(error, kinds)), "")
    return f"The store in {shown(dsn)} cannot be used: {said}. {remedy}".rstrip()

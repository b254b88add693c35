"""Opens the configured store.

The shared store is imported only where it is used: it takes memory.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config import Config
from cdc_sync.config.dsn import shown
from cdc_sync.config.values import UNRESOLVED
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.replies import longest_on_its_way
from cdc_sync.core.watch_names import SEPARATOR

from . import Store
from .driver import Access, Driver
from .errors import store_error
from .lead import Lead, Leader, StandingBy, held
from .sqlite.driver import SqliteDriver
from .sqlite.driver import leading as leading_sqlite
from .sqlite.schema import connect_copy, locked


def leading(config: Config, standing_by: StandingBy) -> AbstractAsyncContextManager[Lead]:
    """Stand by until this process leads, then lead.

    Raises:
        StoreError: the store cannot be used.
    """
    ours = Leader.here(configuration_of(config))
    if not _is_shared(config):
        return leading_sqlite(config.state.path, ours, standing_by)
    from .postgres.leading import leading as leading_postgres  # noqa: PLC0415 - see the header

    return leading_postgres(store_dsn(config), ours, longest_call(config), standing_by, tables=tables_beside(config))


def longest_call(config: Config) -> float:
    """Seconds in which a call's bytes may leave this host."""
    return longest_on_its_way(config.hellowork.timeout.total_seconds())


def configuration_of(config: Config) -> str:
    """A digest of what two daemons of a store must have in common: without secrets, and what belongs to their hosts."""
    of_file = config.model_dump(mode="json", exclude={"admin", "log", "state", "watches"}, warnings=False)
    # Without tenants, which each daemon finds by itself.
    watches = {name: watch for name, watch in config.watches.items() if SEPARATOR not in name} | dict(config.templates)
    of_watches = {name: watch.model_dump(mode="json", warnings=False) for name, watch in watches.items()}
    text = json.dumps([of_file, of_watches], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@asynccontextmanager
async def leading_copy(config: Config) -> AsyncIterator[Lead]:
    """The lead of a temporary SQLite copy of the store, for a dry run.

    Raises:
        StoreError: the store cannot be read, or there is no place for the copy.
    """
    copy = connect_copy(None if _is_shared(config) else config.state.path)
    driver = SqliteDriver(Path("of a dry run"), connection=copy)
    try:
        if _is_shared(config):
            from .postgres.schema import copy_to_sqlite  # noqa: PLC0415 - see the header

            await copy_to_sqlite(store_dsn(config), copy)
        async with held(Lead(driver, Leader.here(configuration_of(config)))) as lead:
            yield lead
    finally:
        await driver.close()


@asynccontextmanager
async def opened_beside(config: Config, access: Access = "read") -> AsyncIterator[Store]:
    """The store beside a daemon that may be running, for reading; a command adds requests, and writes nothing else.

    Raises:
        StoreError: it cannot be used, or does not exist yet.
    """
    driver: Driver
    if _is_shared(config):
        from .postgres.driver import PostgresDriver  # noqa: PLC0415 - see the header

        driver = await PostgresDriver.open(store_dsn(config), access)
    else:
        _insist_on_file(config)
        driver = SqliteDriver(config.state.path, access)
    try:
        yield Store(driver)
    finally:
        await driver.close()


@asynccontextmanager
async def opened_alone(config: Config) -> AsyncIterator[Store]:
    """The store with its lock, while no daemon leads.

    Raises:
        StoreError: as `opened_beside`, or one does.
    """
    if _is_shared(config):
        from .postgres.leading import alone  # noqa: PLC0415 - see the header

        async with alone(store_dsn(config), tables_beside(config)) as shared:
            yield shared
    else:
        _insist_on_file(config)
        with locked(config.state.path):
            async with opened_beside(config, "own") as store:
                yield store


def _insist_on_file(config: Config) -> None:
    """Refuse to make a store, or its lock, where no daemon has made one."""
    if not config.state.path.exists():
        raise store_error("store-missing", store=config.state.path)


def _is_shared(config: Config) -> bool:
    return config.state.backend == "postgres"


def store_dsn(config: Config) -> str:
    """The DSN of a store with backend postgres."""
    (ats, *_) = config.all_databases.values()  # several need state.dsn
    return (config.state.dsn or ats.dsn).get_secret_value()


def tables_beside(config: Config) -> list[QualifiedName]:
    """The watched tables in the store's database, or perhaps there: an unknown name may be any."""
    store = _database_in(store_dsn(config))
    found = list[QualifiedName]()
    for name, watch in config.watches.items():
        its = _database_in(config.dsn_of(config.database_name(name)))
        if its == store or not its or not store:
            found += [watch.table, *(each.table for each in watch.related)]
    return found


def _database_in(dsn: str) -> str:
    """The database's name in a DSN; "" if unknown."""
    name = str(conninfo_to_dict(dsn).get("dbname", ""))
    return "" if UNRESOLVED in name else name


def place_of(config: Config) -> str:
    """The store's place, for people."""
    return shown(store_dsn(config)) if _is_shared(config) else str(config.state.path)

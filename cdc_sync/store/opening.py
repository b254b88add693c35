"""Opens the configured store.

The shared store is imported only where it is used: it takes memory.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config import Config
from cdc_sync.config.document import UNRESOLVED
from cdc_sync.config.dsn import shown
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.replies import longest_on_its_way
from cdc_sync.store import Store
from cdc_sync.store.errors import store_error
from cdc_sync.store.protocol import Upgrading, not_reported
from cdc_sync.store.sqlite import SqliteStore
from cdc_sync.store.sqlite.schema import connect_copy, locked


@asynccontextmanager
async def opened_by_daemon(config: Config, upgrading: Upgrading = not_reported) -> AsyncIterator[Store]:
    """The store for a daemon, which is alone on SQLite.

    Raises:
        StoreError: it cannot be used, or another daemon has it.
    """
    with _locked(config):
        async with _opened(config, read_only=False, upgrading=upgrading) as store:
            await store.release_claims()
            yield store


@asynccontextmanager
async def opened_copy(config: Config) -> AsyncIterator[Store]:
    """A temporary SQLite copy of the store, for a dry run.

    Raises:
        StoreError: the store cannot be read, or there is no place for the copy.
    """
    is_shared = config.state.backend == "postgres"
    source = None if is_shared else config.state.path
    store = await asyncio.to_thread(SqliteStore, Path("of a dry run"), connected=partial(connect_copy, source))
    try:
        if is_shared:
            from cdc_sync.store.postgres import copy_to_sqlite  # noqa: PLC0415 - see the header

            await copy_to_sqlite(store_dsn(config), store)
        await store.release_claims()
        yield store
    finally:
        await store.close()


def opened_beside(config: Config, *, read_only: bool) -> AbstractAsyncContextManager[Store]:
    """The store, beside daemons that may be running.

    Raises:
        StoreError: it cannot be used, or does not exist yet.
    """
    path = config.state.path
    if config.state.backend == "sqlite" and not path.exists():
        raise store_error("store-missing", store=path)
    return _opened(config, read_only=read_only)


@asynccontextmanager
async def opened_alone(config: Config) -> AsyncIterator[Store]:
    """The store, without any daemon.

    Raises:
        StoreError: as `opened_beside`, or a daemon works on it.
    """
    with _locked(config) if config.state.path.exists() else nullcontext():
        async with opened_beside(config, read_only=False) as store:
            if config.state.backend == "postgres" and (running := await store.daemons()):
                where = ", ".join(f"process {process} on {host}" for host, process in running)
                raise store_error("store-in-use/daemons", daemons=where)
            yield store


def _locked(config: Config) -> AbstractContextManager[None]:
    return locked(config.state.path) if config.state.backend == "sqlite" else nullcontext()


@asynccontextmanager
async def _opened(config: Config, *, read_only: bool, upgrading: Upgrading = not_reported) -> AsyncIterator[Store]:
    store: Store
    if config.state.backend == "postgres":
        from cdc_sync.store.postgres import PostgresStore  # noqa: PLC0415 - see the header

        longest, tables = longest_on_its_way(config.hellowork.timeout.total_seconds()), tables_beside(config)
        store = await PostgresStore.open(
            store_dsn(config), longest_call=longest, read_only=read_only, tables=tables, upgrading=upgrading
        )
    else:
        store = SqliteStore(config.state.path, read_only=read_only, upgrading=upgrading)
    try:
        yield store
    finally:
        await store.close()


def store_dsn(config: Config) -> str:
    """The DSN of a store with backend postgres."""
    (ats, *_) = config.all_databases.values()  # several need state.dsn
    return (config.state.dsn or ats.dsn).get_secret_value()


def tables_beside(config: Config) -> list[QualifiedName]:
    """The watched tables in the store's database."""
    store = _database_in(store_dsn(config))
    # An unknown name may be any.
    beside = {
        name
        for name, section in config.all_databases.items()
        if len({store, _database_in(section.dsn.get_secret_value())} - {""}) < 2  # noqa: PLR2004 - two names
    }
    watches = [watch for name, watch in config.watches.items() if config.database_name(name) in beside]
    return [table for watch in watches for table in (watch.table, *(each.table for each in watch.related))]


def _database_in(dsn: str) -> str:
    """The database's name in a DSN; "" if unknown."""
    name = str(conninfo_to_dict(dsn).get("dbname", ""))
    return "" if UNRESOLVED in name else name


def place_of(config: Config) -> str:
    """The store's place, for people."""
    return shown(store_dsn(config)) if config.state.backend == "postgres" else str(config.state.path)

"""Opening the configured store: by a daemon, for a dry run, and beside a daemon that may be running.

The shared store is loaded where it is used: a daemon with a store of SQLite keeps no memory for it.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config import Config
from cdc_sync.config.document import UNRESOLVED
from cdc_sync.config.dsn import shown
from cdc_sync.core.delivery import longest_on_its_way
from cdc_sync.core.findings import Tell, check_unconfigured
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.lock import StoreLock
from cdc_sync.store.protocol import StoreError, StoreLockedError, Upgrading, not_reported
from cdc_sync.store.sqlite import SqliteStore, copy_store
from cdc_sync.store.sqlite import inspection as sqlite_inspection
from cdc_sync.store.store import Store
from cdc_sync.store.unconfigured import unconfigured

if TYPE_CHECKING:
    from cdc_sync.store.postgres import PostgresStore

_COPY = "dry-run-"


@asynccontextmanager
async def opened_by_daemon(config: Config, upgrading: Upgrading = not_reported) -> AsyncIterator[Store]:
    """The store for a daemon: of SQLite the only one, of PostgreSQL one of several.

    `upgrading` hears of an earlier version's store that is brought up to date.

    Raises:
        StoreError: it cannot be used, or another daemon has it.
    """
    async with AsyncExitStack() as stack:
        store: Store
        if config.state.backend == "postgres":
            store = await _postgres(config, read_only=False, upgrading=upgrading)
        else:
            stack.enter_context(StoreLock(config.state.path))
            store = SqliteStore(config.state.path, upgrading=upgrading)
        await asyncio.to_thread(_remove_copies_left_behind)
        stack.push_async_callback(store.close)
        await store.release_claims()
        yield store


@asynccontextmanager
async def opened_copy(config: Config) -> AsyncIterator[Store]:
    """A copy of the store that is thrown away: for a dry run, whatever the store is, an SQLite file.

    Raises:
        StoreError: the store cannot be read, or there is no place for the copy.
    """
    async with AsyncExitStack() as stack:
        copy = stack.enter_context(_temporary_folder()) / "state.db"
        if config.state.backend == "postgres":
            from cdc_sync.store.postgres import copy_to_sqlite  # noqa: PLC0415 - as the header says

            await copy_to_sqlite(store_dsn(config), copy)
        elif config.state.path.exists():
            await asyncio.to_thread(copy_store, config.state.path, copy)
        store = SqliteStore(copy)
        stack.push_async_callback(store.close)
        await store.release_claims()
        yield store


@asynccontextmanager
async def opened_beside(config: Config, *, read_only: bool) -> AsyncIterator[Store]:
    """The store, beside daemons that may be running.

    Raises:
        StoreError: it cannot be used, or does not exist yet.
    """
    store: Store
    if config.state.backend == "postgres":
        store = await _postgres(config, read_only=read_only)
    else:
        path = config.state.path
        if not path.exists():
            raise StoreError(
                "store-missing", f"The store {path} does not exist yet: the daemon makes it at its first start."
            )
        store = SqliteStore(path, read_only=read_only)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_alone(config: Config) -> AsyncIterator[Store]:
    """The store, while no daemon works on it.

    Raises:
        StoreError: it cannot be used, does not exist yet, or a daemon works on it.
    """
    async with AsyncExitStack() as stack:
        if config.state.backend == "sqlite" and config.state.path.exists():
            stack.enter_context(StoreLock(config.state.path))
        store = await stack.enter_async_context(opened_beside(config, read_only=False))
        if config.state.backend == "postgres" and (running := await store.daemons()):
            where = ", ".join(f"process {process} on {host}" for host, process in running)
            raise StoreLockedError(
                f"A cdc-sync works on the store: {where}. Stop it first; if it was killed, wait until its lease has "
                f"lapsed, which takes less than a minute."
            )
        yield store


def store_dsn(config: Config) -> str:
    """Where the store of backend postgres is."""
    return (config.state.dsn or config.database.dsn).get_secret_value()


def tables_beside(config: Config) -> list[QualifiedName]:
    """The watched tables that are in the store's database: none if state.dsn names another."""
    if config.state.dsn is not None:
        named = (
            str(conninfo_to_dict(dsn.get_secret_value()).get("dbname", ""))
            for dsn in (config.state.dsn, config.database.dsn)
        )
        # Where a name is not known, the tables are looked for.
        if len({name for name in named if name and UNRESOLVED not in name}) > 1:
            return []
    return [
        table
        for watch in config.watches.values()
        for table in (watch.table, *(related.table for related in watch.related))
    ]


def place_of(config: Config) -> str:
    """Where the store is, for people."""
    return shown(store_dsn(config)) if config.state.backend == "postgres" else str(config.state.path)


async def check_store(config: Config, tell: Tell) -> str | None:
    """Tell what `cdc-sync check` finds of the store.

    Returns the identity of the database that it belongs to; None if it belongs to none yet.
    """
    if config.state.backend == "postgres":
        from cdc_sync.store.postgres import inspection as postgres_inspection  # noqa: PLC0415 - as the header says

        bound = await postgres_inspection.check_store(store_dsn(config), tell, tables_beside(config))
    else:
        bound = await asyncio.to_thread(sqlite_inspection.check_store, config.state.path, tell)
    await _check_watches(config, tell)
    return bound


async def stored_positions(config: Config, name: str) -> dict[str, str]:
    """One of the capture positions, of each configured watch that has it; none if the store cannot be read."""
    try:
        async with opened_beside(config, read_only=True) as store:
            positions = {watch: await store.positions(watch) for watch in config.watches}
    except StoreError:
        return {}  # it does not exist yet, or what is wrong with it was told
    return {watch: of[name] for watch, of in positions.items() if of.get(name)}


async def _check_watches(config: Config, tell: Tell) -> None:
    """Tell of watches that are configured no more."""
    try:
        async with opened_beside(config, read_only=True) as store:
            found = await unconfigured(store, config.watches)
    except StoreError:
        return  # it does not exist yet, or what is wrong with it was told
    for finding in check_unconfigured(found):
        tell(finding)


async def _postgres(config: Config, *, read_only: bool, upgrading: Upgrading = not_reported) -> "PostgresStore":
    from cdc_sync.store.postgres import PostgresStore  # noqa: PLC0415 - as the header says

    longest = longest_on_its_way(config.hellowork.timeout.total_seconds())
    return await PostgresStore.open(
        store_dsn(config),
        longest_call=longest,
        read_only=read_only,
        tables=tables_beside(config),
        upgrading=upgrading,
    )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for a copy of the store, which is gone with the process, or after kill -9 with the next one."""
    try:
        _remove_copies_left_behind()
        folder = Path(tempfile.mkdtemp(prefix="cdc-sync-making-"))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only now by the name that others look for: a folder of that name without a lock is nobody's.
        folder = folder.rename(folder.with_name(folder.name.replace("making-", _COPY, 1)))
    except OSError as error:
        raise StoreError(
            "store-copy",
            f"A dry run works on a copy of the store, and there is no temporary folder for it: {error.strerror}. Let "
            f"TMPDIR name one that can be written.",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_copies_left_behind() -> None:
    """Remove the copies of dry runs that were killed: those of our own user whose lock went with their process."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"cdc-sync-{_COPY}*"):
            with suppress(OSError):
                file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if os.fstat(file).st_uid == os.geteuid():
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(file)

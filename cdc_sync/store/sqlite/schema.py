"""The file of a store: its lock, its pragmas and its migrations.

A lock file beside the store allows one writer. `flock` ends with the process, also by kill -9: no lock is stale.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.store.driver import Access
from cdc_sync.store.errors import remedy_for, store_error
from cdc_sync.store.statements import MIGRATIONS, SCHEMA, schema, text

_PREPARED = 256
"""Prepared statements kept: all."""

_PLACE = "-- schema.sql"
"""The present schema's place in a migration."""


def connect(path: Path, access: Access = "own") -> sqlite3.Connection:
    """Open the store; who holds its lock makes it, or migrates it.

    Raises:
        StoreError: the file is no store, was written by a newer version, or cannot be opened.
    """
    uri = path.absolute().as_uri()
    try:
        if access != "read":
            # Ids and statuses are private; the WAL's files take this mode.
            path.touch(mode=0o600, exist_ok=True)
        connection = _connection_to(f"{uri}?mode=ro" if access == "read" else uri)
    except (OSError, sqlite3.Error) as error:
        name = "store-unopenable/read-only" if access == "read" else "store-unopenable"
        raise store_error(name, store=path, message=error) from error
    with guarded(path, connection):
        if access == "own":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # KiB, instead of 2 MB, which would stay in our memory; the kernel caches the rest.
        connection.execute("PRAGMA cache_size = -512")
        # Not in a temporary folder, which anybody may fill.
        connection.execute("PRAGMA temp_store = MEMORY")
        version = version_of(connection, path)
        if version < SCHEMA and access != "own":
            raise store_error("store-not-set-up", store=path)
        _migrate(connection, version)
    return connection


def connect_copy(source: Path | None) -> sqlite3.Connection:
    """Open a copy of the store at `source`, or an empty store, for a dry run, in an unlinked temporary file.

    Raises:
        StoreError: the store cannot be read, or there is no place for the copy.
    """
    with copying():
        copy = _connection_to("")
        if source is not None and source.exists():
            _copy(source, copy)
        else:
            _migrate(copy, 0)
    return copy


@contextmanager
def copying() -> Iterator[None]:
    """Around work on a dry run's copy.

    Raises:
        StoreError: it failed.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise store_error("store-copy", message=error) from error


def _connection_to(uri: str) -> sqlite3.Connection:
    """A connection that one thread opens, and another one uses. It waits 10 s for another process's transaction."""
    return sqlite3.connect(
        uri, uri=True, timeout=10, isolation_level=None, cached_statements=_PREPARED, check_same_thread=False
    )


def copy_store(source: Path, target: Path) -> None:
    """Write a consistent copy of a store into an empty file, for a backup.

    Raises:
        StoreError: it cannot be read.
        OperationError: the copy cannot be written.
    """
    try:
        with closing(sqlite3.connect(target)) as copy:
            _copy(source, copy)
    except sqlite3.Error as error:
        raise OperationError(f"{source} cannot be copied to {target}: {error}. Name another place.") from error


def _copy(source: Path, copy: sqlite3.Connection) -> None:
    with closing(connect(source, "read")) as original:
        original.backup(copy)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The number of its schema; 0 for a new file.

    Raises:
        StoreError: it is another program's file, or a newer version's.
    """
    # Before the version: a migration in between must not make our file look foreign.
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
    ((version,),) = connection.execute("PRAGMA user_version")
    if tables and version == 0:
        raise store_error("store-foreign", store=path)
    if version not in (0, *MIGRATIONS, SCHEMA):
        raise store_error("store-newer", store=path, version=version, newest=SCHEMA)
    return int(version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a schema to the present one, in one transaction."""
    if version != SCHEMA:
        migration = text(f"sqlite/{MIGRATIONS[version]}.sql") if version else _PLACE
        script = migration.replace(_PLACE, schema("sqlite"))
        connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {SCHEMA};\nCOMMIT;")


def translate(path: Path, error: sqlite3.Error) -> StoreError:
    """An SQLite error with a remedy."""
    remedy = remedy_for("sqlite", lambda mark: mark in str(error))
    return store_error("store-unusable", remedy, store=path, message=error)


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into a `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(path, error) from error


@contextmanager
def guarded(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """The same; close the connection on any failure."""
    try:
        with translating(path):
            yield
    except BaseException:
        connection.close()
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the store at `path`.

    Raises:
        StoreError: another process holds it, or the lock file cannot be made.
    """
    file = try_lock(path)
    if file is None:
        raise store_error("store-in-use", process=holder_of(path) or "unknown", store=path)
    try:
        yield
    finally:
        os.close(file)


def try_lock(path: Path) -> int | None:
    """Take the lock of the store at `path`, for as long as the returned descriptor is open; None if another has it.

    Raises:
        StoreError: the lock file cannot be made.
    """
    lock = lock_path(path)
    try:
        # The folder's owner must not lead root to another file.
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.geteuid() == 0:
            # The daemon's user opens it, too.
            owner = lock.parent.stat()
            os.fchown(file, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise store_error("store-lock-file", file=lock, message=error.strerror) from error
    while not _flock(file, fcntl.LOCK_EX):
        # Only a daemon refuses to share: `holder_of`'s short lock must not keep one from starting.
        if not _flock(file, fcntl.LOCK_SH):
            os.close(file)
            return None
    with suppress(OSError):  # a full disk: the store reports it
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
    return file


def holder_of(path: Path) -> int | None:
    """The process id of the store's daemon, 0 if unknown; None without one."""
    try:
        file = os.open(lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return 0  # somebody else's, who may hold it
    except OSError:
        return None
    try:
        if _flock(file, fcntl.LOCK_SH):
            return None
        process = os.read(file, 32)
        return int(process) if process.isdigit() else 0
    finally:
        os.close(file)


def _flock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_path(path: Path) -> Path:
    """The file whose lock makes a process the leader of the store at `path`."""
    return path.with_name(path.name + ".lock")

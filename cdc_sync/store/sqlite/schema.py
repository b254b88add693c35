"""Opens the file: lock, pragmas, migrations, errors.

A lock file beside the store allows one daemon. `flock` ends with the process, also by kill -9: no lock is stale.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from cdc_sync.core.failures import StoreError
from cdc_sync.store.driver import Access
from cdc_sync.store.errors import store_error, texts
from cdc_sync.store.protocol import UPGRADING_EVERY, Upgrading, not_reported
from cdc_sync.store.statements import SCHEMA, text

_PREPARED = 256
"""Prepared statements kept: all."""

_BUSY_TIMEOUT_MS = 10_000
"""For another process's transaction: operator commands write beside the daemon."""

# KiB, instead of 2 MB, which would stay in our memory; the kernel caches the rest.
_SMALL_CACHE = "PRAGMA cache_size = -512"

_INSTRUCTIONS = 100_000
"""SQLite's instructions between looks at the clock: about a millisecond."""


class _Step(NamedTuple):
    """A script, and the schema to which it leads."""

    script: str
    to: int


_STEPS = {
    0: _Step("schema", SCHEMA),
    1: _Step("from_1", 2),
    2: _Step("from_2", 3),
    3: _Step("from_3", 4),
    4: _Step("from_4", SCHEMA),
    8: _Step("from_8", SCHEMA),
}
"""By the schema from which it leads."""


def connect(path: Path, access: Access = "own", *, upgrading: Upgrading = not_reported) -> sqlite3.Connection:
    """Open the store, and migrate it if it is our own, calling `upgrading`.

    Raises:
        StoreError: the file is no store, was written by a newer version, or cannot be opened.
    """
    connection = open_file(path, read_only=access == "read")
    with guarded(path, connection):
        version = version_of(connection, path)
        if version < SCHEMA:
            if access != "own":
                raise store_error("store-not-set-up", store=path)
            if version and (holder := holder_of(path)) not in {None, os.getpid()}:
                raise store_error("store-upgrade", store=path, process=holder or "unknown")
            _bring_up_to_date(connection, upgrading if version else not_reported)
    return connection


def connect_copy(source: Path | None) -> sqlite3.Connection:
    """Open a copy of the store at `source`, or an empty store, for a dry run, in an unlinked temporary file.

    Raises:
        StoreError: the store cannot be read, or there is no place for the copy.
    """
    with copying():
        copy = _connection_to("")
        copy.execute(_SMALL_CACHE)
        if source is not None and source.exists():
            with closing(connect(source, "read")) as original:
                original.backup(copy)
        _bring_up_to_date(copy, not_reported)
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


def open_file(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the file, whatever its content.

    Raises:
        StoreError: it cannot be opened.
    """
    try:
        if read_only:
            connection = _connection_to(f"{path.absolute().as_uri()}?mode=ro")
        else:
            # Ids and statuses are private; the WAL's files take this mode.
            path.touch(mode=0o600, exist_ok=True)
            connection = _connection_to(path.absolute().as_uri())
    except (OSError, sqlite3.Error) as error:
        name = "store-unopenable/read-only" if read_only else "store-unopenable"
        raise store_error(name, store=path, message=error) from error
    with guarded(path, connection):
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute(_SMALL_CACHE)
        if not read_only:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
    return connection


def _connection_to(uri: str) -> sqlite3.Connection:
    """A connection that one thread opens, and another one uses."""
    return sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=_PREPARED, check_same_thread=False)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for the sole access that this needs, whatever the busy timeout."""
    give_up_at = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.005)
        else:
            return


def copy_store(source: Path, target: Path) -> None:
    """Write a consistent copy of a store, for a backup.

    Raises:
        StoreError: it cannot be read.
    """
    target.touch(mode=0o600, exist_ok=True)
    original = connect(source, "read")
    with guarded(source, original), closing(original), closing(sqlite3.connect(target)) as copy:
        original.backup(copy)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The number of its schema; 0 for a new file.

    Raises:
        StoreError: it is another program's file, or a newer version's.
    """
    # Before the version: a migration in between must not make our file look foreign.
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    version = _applied(connection)
    if tables and version == 0:
        raise store_error("store-foreign", store=path)
    if version != SCHEMA and version not in _STEPS:
        raise store_error("store-newer", store=path, version=version, newest=SCHEMA)
    return version


def _bring_up_to_date(connection: sqlite3.Connection, upgrading: Upgrading) -> None:
    begun = reported = time.monotonic()

    def report_now_and_then() -> None:
        nonlocal reported
        if time.monotonic() - reported >= UPGRADING_EVERY:
            reported = time.monotonic()
            upgrading(reported - begun)

    upgrading(0.0)
    connection.set_progress_handler(report_now_and_then, _INSTRUCTIONS)
    connection.execute("BEGIN IMMEDIATE")
    try:
        with connection:  # ends the transaction
            # Another process may have migrated it meanwhile, a newer version too.
            while step := _STEPS.get(_applied(connection)):
                for statement in _split(_script(step.script)):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {step.to}")
    finally:
        connection.set_progress_handler(None, 0)


def _script(name: str) -> str:
    """A step's script, with the present schema where it is needed."""
    return text(f"sqlite/{name}.sql").replace("-- schema.sql\n", text("sqlite/schema.sql"))


def _split(script: str) -> Iterator[str]:
    """A script's statements: `executescript` would first commit the open transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _applied(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def translate(path: Path, error: sqlite3.Error) -> StoreError:
    """An SQLite error with a remedy."""
    remedies = (remedy for mark, remedy in texts()["sqlite"].items() if mark in str(error))
    return store_error("store-unusable", next(remedies, None), store=path, message=error)


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
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise store_error("store-lock-file", file=lock, message=error.strerror) from error
    while not _flock(file, fcntl.LOCK_EX):
        # Only a daemon refuses to share: `holder_of`'s short lock must not keep one from starting.
        if not _flock(file, fcntl.LOCK_SH):
            os.close(file)
            return None
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return file


def holder_of(path: Path) -> int | None:
    """The process id of the store's daemon, 0 if unknown; None without one."""
    try:
        file = os.open(lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _flock(file, fcntl.LOCK_SH) else _process_in(file)
    finally:
        os.close(file)


def _process_in(file: int) -> int:
    text = os.read(file, 32)
    return int(text) if text.isdigit() else 0


def _flock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_path(path: Path) -> Path:
    """The file whose lock makes a process the leader of the store at `path`."""
    return path.with_name(path.name + ".lock")

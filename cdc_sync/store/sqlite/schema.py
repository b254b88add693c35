"""Opening the file: pragmas, migrations, and what is said when it cannot be opened."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from cdc_sync.store.lock import holder_of
from cdc_sync.store.protocol import UPGRADING_EVERY, StoreError, Upgrading, not_reported
from cdc_sync.store.statements import migrations, text

_PREPARED = 256
"""Statements that stay prepared: each of the store's in a few sizes."""

_BUSY_TIMEOUT_MS = 10_000
"""How long to wait for another process's transaction: operator commands write beside the daemon."""

_INSTRUCTIONS = 100_000
"""SQLite's, between two looks at the clock while the schema is brought up to date: about a millisecond's."""


def connect(path: Path, *, read_only: bool = False, upgrading: Upgrading = not_reported) -> sqlite3.Connection:
    """Open the store, and bring its schema up to date, which `upgrading` hears of, unless it is only read.

    Raises:
        StoreError: the file is no store, was written by a newer version, or cannot be opened.
    """
    try:
        if read_only:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        else:
            # Ids and statuses are nobody else's business, and the WAL's files take the mode of the main file.
            path.touch(mode=0o600, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None, cached_statements=_PREPARED)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            "store-unopenable",
            f"The store {path} cannot be opened: {error}. Does the folder of state.path exist, and may this user "
            f"{'read' if read_only else 'write'} there?",
        ) from error
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        # Instead of 2 MB, which stay in our memory for ever; what is not there is in the kernel's cache.
        connection.execute("PRAGMA cache_size = -512")
        if not read_only:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection, path, upgrading, read_only=read_only)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError("store-unusable", translate(path, error)) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, which a new file needs to be alone for.

    SQLite does not wait for that by itself, whatever the busy timeout: two first openings at once would meet here.
    """
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
    """Write a consistent copy of a store, while its daemon goes on writing: for a dry run, or a backup.

    Raises:
        StoreError: it cannot be read.
    """
    target.touch(mode=0o600, exist_ok=True)
    with closing(connect(source, read_only=True)) as original, closing(sqlite3.connect(target)) as copy:
        try:
            original.backup(copy)
        except sqlite3.Error as error:
            raise StoreError("store-unusable", translate(source, error)) from error


def _migrate(connection: sqlite3.Connection, path: Path, upgrading: Upgrading, *, read_only: bool) -> None:
    """Apply what is missing, all of it in one transaction with the number: an older version can use what it left."""
    scripts = migrations("sqlite")
    # Before the version: a migration that commits in between must not make our own file look foreign.
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    version = version_of(connection)
    if tables and version == 0:
        raise StoreError(
            "store-foreign",
            f"The store {path} is an SQLite file of something else: it has tables, and none is cdc-sync's. Choose "
            f"another state.path.",
        )
    if version > len(scripts):
        raise StoreError(
            "store-newer",
            f"The store {path} was written by a newer cdc-sync (schema {version}; this one knows {len(scripts)}). "
            f"Run that version, or restore the store's backup from before the upgrade.",
        )
    if read_only:
        if version < len(scripts):
            raise StoreError(
                "store-not-set-up", f"The store {path} has not been set up by this version yet: start the daemon once."
            )
        return
    if version == len(scripts):
        return
    if version and (holder := holder_of(path)) not in {None, os.getpid()}:
        raise StoreError(
            "store-upgrade",
            f"The store {path} cannot be brought up to date: an older cdc-sync (process {holder or 'unknown'}) works "
            f"on it. Stop it, then try again.",
        )
    _bring_up_to_date(connection, scripts, upgrading if version else not_reported)


def _bring_up_to_date(connection: sqlite3.Connection, scripts: Sequence[str], upgrading: Upgrading) -> None:
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
        # Another process may open it at the same moment, and be faster. No migration is applied twice: a later one may
        # have dropped what it makes.
        missing = scripts[version_of(connection) :]
        for script in missing:
            for statement in _split(text(script)):
                connection.execute(statement)
        if missing:  # else the other process may be of a newer version, with a higher number
            connection.execute(f"PRAGMA user_version = {len(scripts)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.set_progress_handler(None, 0)


def _split(script: str) -> Iterator[str]:
    """The statements of a script. `executescript` would commit what is open before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations were applied; 0 for a new file, or one of something else."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


_REMEDIES = (
    ("disk is full", "Free space on its disk; nothing is sent until it can be written."),
    (
        "readonly",
        "Let the daemon's user write the file and its folder, and see that the disk is not mounted read-only.",
    ),
    ("malformed", "Its disk or a copy of it is damaged: restore a backup, or move it away for a new baseline."),
    ("not a database", "state.path names a file that is something else: choose another path."),
    ("locked", "Another process keeps it locked: a backup or an SQLite shell with an open transaction?"),
    ("disk I/O", "Its disk fails: see the kernel's log (dmesg); nothing is sent until it can be written."),
    ("unable to open", "Is the folder of state.path there, and may this user write in it?"),
)


def translate(path: Path, error: sqlite3.Error) -> str:
    """An SQLite error as a sentence with a remedy."""
    remedy = next((remedy for mark, remedy in _REMEDIES if mark in str(error)), "")
    return f"The store {path} cannot be used: {error}. {remedy}".rstrip()

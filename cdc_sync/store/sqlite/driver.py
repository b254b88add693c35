"""The store's driver for SQLite: a transaction is one job in the store's thread, and runs there without a pause."""

import json
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cdc_sync.core.outbox import Entry
from cdc_sync.store.clock import Clock, boot_id, uptime, wall_clock
from cdc_sync.store.delivery import expire
from cdc_sync.store.driver import Row, Transaction, Whose, Work
from cdc_sync.store.protocol import StoreError, StoreGoneError
from cdc_sync.store.sqlite.schema import connect, translate
from cdc_sync.store.sqlite.thread import SqliteThread
from cdc_sync.store.statements import Statement, statements

T = TypeVar("T")

_DAEMON = 1
"""The number of the one daemon that has the file."""


class SqliteTransaction:
    """See `Transaction`. Its coroutines never suspend."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._statements = statements("sqlite")

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        return self._execute(name, parameters).fetchall()

    async def run(self, name: str, /, **parameters: Any) -> None:
        """See `Transaction`."""
        if self._statements[name].text:
            self._execute(name, parameters)

    async def count(self, name: str, /, **parameters: Any) -> int:
        """See `Transaction`."""
        return self._execute(name, parameters).rowcount

    async def write(self, name: str, rows: Iterable[Row]) -> None:
        """See `Transaction`."""
        if rows:
            self._connection.executemany(self._statements[name].text, rows)

    def _execute(self, name: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
        statement = self._statements[name]
        return self._connection.execute(statement.text, {key: _bound(value) for key, value in parameters.items()})


class SqliteDriver:
    """See `Driver`; the file at `path` is made if it is missing.

    It may be opened several times (operator commands work beside the daemon); that only one daemon sends is
    `lock.StoreLock`'s business.

    Raises:
        StoreError: the file cannot be used; the message says why.
    """

    under_way: Collection[Whose] = frozenset()
    """See `Driver`: what is claimed is claimed in the file."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.name = str(path)
        self.moves = 0
        self.clock: Clock
        self._path = path
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._gone: StoreGoneError | None = None
        self._thread = SqliteThread(
            lambda: self._connect(read_only=read_only), "BEGIN" if read_only else "BEGIN IMMEDIATE"
        )

    async def transact(self, work: Work[T]) -> T:
        """See `Driver`."""
        # What a lost file knows counts no more: a change that is no news to it must stay in the log, also if the file
        # was lost while the work was done.
        self._look()
        try:
            result: T = await self._thread.run(partial(_stepped, work))
        except sqlite3.Error as error:
            raise StoreError("store-unusable", translate(self._path, error)) from error
        self._look()
        return result

    async def daemon(self) -> int:
        """See `Driver`."""
        return _DAEMON

    def claiming(self) -> AbstractAsyncContextManager[int]:
        """See `Driver`. Transactions come one after the other anyway."""
        return nullcontext(_DAEMON)

    def claimed(self, entries: Iterable[Entry], daemon: int) -> None:
        """See `Driver`."""

    def ending(self, of: Iterable[Whose]) -> AbstractAsyncContextManager[set[Whose]]:
        """See `Driver`."""
        return nullcontext(set(of))

    def claimants(self, of: Iterable[Whose]) -> dict[Whose, int | None]:
        """See `Driver`. Whatever is claimed."""
        return dict.fromkeys(of, _DAEMON)

    def holds(self, entry: Entry) -> bool:  # noqa: ARG002 - whatever was claimed
        """See `Store`. Nobody else can claim it: one daemon has the file."""
        return True

    def expect(self, longest_call: float) -> None:
        """See `Store`. Nobody else could claim anything meanwhile."""

    async def release_claims(self) -> None:
        """See `Store`."""
        await self.transact(lambda t: expire(t, _DAEMON, self.clock(), self.clock.shift))

    async def check_place(self) -> None:
        """See `Store`."""
        self._look()

    async def close(self) -> None:
        """See `Store`. SQLite then removes the files beside the store's."""
        self._files = {}
        await self._thread.close()

    def _look(self) -> None:
        for path, opened in self._files.items():
            if self._gone is None and _identity(path, opened) != opened:
                self._gone = StoreGoneError.from_under(self.name, str(path))
        if self._gone is not None:
            raise self._gone

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        connection = connect(self._path, read_only=read_only)
        try:
            self.clock = _clock(connection, keep=not read_only)
        except sqlite3.Error as error:
            connection.close()
            raise StoreError("store-unusable", translate(self._path, error)) from error
        # Without a journal of its own, a reader has no file that is its.
        self._files = {} if read_only else _files_of(self._path)
        return connection


def run(connection: sqlite3.Connection, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement of `sql/` by its name, outside of a driver."""
    found: Statement = statements("sqlite")[statement]
    return connection.execute(found.text, {key: _bound(value) for key, value in parameters.items()}).fetchall()


def _stepped(work: Work[T], connection: sqlite3.Connection) -> T:
    """Run a coroutine that does not suspend from its beginning to its end."""
    transaction: Transaction = SqliteTransaction(connection)
    coroutine = work(transaction)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("the store's logic waits for something else than its transaction")


def _bound(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _clock(connection: sqlite3.Connection, *, keep: bool) -> Clock:
    """The clock of this boot, as the store has it, or begun and, with `keep`, kept in the store."""
    if keep:
        connection.execute("BEGIN IMMEDIATE")
    try:
        rows = run(connection, "about", name="clock")
        boot, _, base = (str(rows[0][0]) if rows else "").partition(" ")
        if boot and boot == boot_id():
            return Clock(int(base))
        newest = run(connection, "newest_event")
        begun = max([wall_clock(), *(int(at) for (at,) in newest)]) - uptime()
        if keep:
            run(connection, "set_about", name="clock", value=f"{boot_id()} {begun}")
        return Clock(begun)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _files_of(path: Path) -> dict[Path, tuple[int, int] | None]:
    """The store's file and those that SQLite keeps beside it while it is open, with what each is."""
    files = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
    return {file: _identity(file) for file in files}


def _identity(path: Path, otherwise: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file, `otherwise` if nobody can tell."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return otherwise
    return found.st_dev, found.st_ino

"""The store's driver for SQLite: one connection, used by one thread beside the event loop (decision 5).

A group has no savepoints: they would copy every changed page (decision 18).
"""

import asyncio
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cdc_sync.store.clock import Clock, boot_id, uptime
from cdc_sync.store.driver import Access, Driver, Row, RunGroup
from cdc_sync.store.errors import store_error
from cdc_sync.store.protocol import Upgrading, not_reported
from cdc_sync.store.sqlite.schema import connect, guarded, holder_of, lock_path, translate, translating
from cdc_sync.store.statements import statements
from cdc_sync.wall_clock import wall_clock

T = TypeVar("T")

_STATEMENTS = statements("sqlite")


@dataclass(slots=True)
class SqliteTransaction:
    """See `Transaction`. Its coroutines never suspend."""

    connection: sqlite3.Connection

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        return self._execute(name, parameters).fetchall()

    run = rows

    async def count(self, name: str, /, **parameters: Any) -> int:
        """See `Transaction`."""
        return self._execute(name, parameters).rowcount

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """See `Transaction`."""
        statement = _STATEMENTS[name].text
        for row in rows:
            self.connection.execute(statement, row)

    def _execute(self, name: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
        for key, value in parameters.items():
            if isinstance(value, list):
                parameters[key] = json.dumps(value, ensure_ascii=False)
        return self.connection.execute(_STATEMENTS[name].text, parameters)


class _Thread:
    """Does one thing after the other. On a dead disk it hangs, and does not keep the process alive."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    async def run(self, do: Callable[[], T]) -> T:
        """Do this in the thread."""
        future = Future[T]()
        self._waiting.put((do, future))
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """Wait for the end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            do, future = waiting
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(do())
            except Exception as error:  # noqa: BLE001 - handed to whom it concerns
                future.set_exception(error)


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("the store's logic waits for something else than its transaction")


class SqliteDriver(Driver):
    """The store in the file at `path`, which is made if it is missing; `connected` makes another one for a dry run.

    `schema.locked` ensures that only one daemon sends.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        access: Access = "own",
        *,
        upgrading: Upgrading = not_reported,
        connected: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        super().__init__(str(path), access)
        self._path = path
        self._connection = (connected or partial(connect, path, access, upgrading=upgrading))()
        is_own = access == "own"
        with guarded(path, self._connection):
            self.clock = _clock(self._connection, keep=is_own)
        self._begin = "BEGIN IMMEDIATE" if is_own else "BEGIN"
        # A reader has no journal, so no file of its own.
        self._files = _files_of(path) if is_own else {}
        self._thread = _Thread()

    async def leads(self) -> bool:
        """See `Driver`."""
        return holder_of(self._path) is not None

    async def close(self) -> None:
        """See `Driver`. What was handed in before is done."""
        if self._working is not None:
            await asyncio.wait([self._working])
        await self._stop(translate(self._path, sqlite3.ProgrammingError("it was closed before")))
        await asyncio.to_thread(self._thread.end)
        self._connection.close()

    async def _commit(self, run: RunGroup) -> list[Any]:
        results = await self._thread.run(partial(self._transact, run))
        self.check_place()
        return results

    def _transact(self, run: RunGroup) -> list[Any]:
        with translating(self._path), self._connection:  # ends the transaction
            self._connection.execute(self._begin)
            return _finished(run(SqliteTransaction(self._connection)))

    def check_place(self) -> None:
        """See `Driver`. A file may be deleted or replaced, and what it knows is void then."""
        for path, opened in self._files.items():
            if self.lost is None and _is_another(path, opened):
                self.lose(store_error("store-gone", store=self.name, missing=path))
        super().check_place()


def _is_another(path: str, opened: tuple[int, int]) -> bool:
    """Whether a file is surely gone, or not the one that was opened."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path takes twice as long
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return (found.st_dev, found.st_ino) != opened


async def opened(make: Callable[[], SqliteDriver]) -> SqliteDriver:
    """Open a store in a thread. Who is cancelled meanwhile waits, and leaves nothing open.

    Raises:
        StoreError: it cannot be used.
    """
    opening, interrupted = asyncio.create_task(asyncio.to_thread(make), name="opening the store"), False
    while not opening.done():
        try:
            await asyncio.wait([opening])
        except asyncio.CancelledError:
            interrupted = True
    if not interrupted:
        return opening.result()
    if opening.exception() is None:
        await opening.result().close()
    raise asyncio.CancelledError


def run(connection: sqlite3.Connection, statement: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement by its name, without a driver."""
    return connection.execute(_STATEMENTS[statement].text, parameters).fetchall()


def _clock(connection: sqlite3.Connection, *, keep: bool) -> Clock:
    """This boot's clock from the store, or a new one, which the store keeps with `keep`."""
    if keep:
        connection.execute("BEGIN IMMEDIATE")
    with connection:  # ends the transaction
        rows = run(connection, "about", name="clock")
        boot, _, base = (str(rows[0][0]) if rows else "").partition(" ")
        if boot and boot == boot_id():
            return Clock(int(base))
        newest = run(connection, "newest_event")
        begun = max([wall_clock(), *(int(at) for (at,) in newest)]) - uptime()
        if keep:
            run(connection, "set_about", name="clock", value=f"{boot_id()} {begun}")
        return Clock(begun)


def _files_of(path: Path) -> dict[str, tuple[int, int]]:
    """The store's file and those that SQLite keeps beside it, with devices and inodes; without missing ones."""
    files: dict[str, tuple[int, int]] = {}
    # Who removes the lock's file lets another daemon lock a new one.
    for file in (str(path), f"{path}-wal", f"{path}-shm", str(lock_path(path))):
        with suppress(OSError):
            found = os.stat(file)  # noqa: PTH116 - as above
            files[file] = (found.st_dev, found.st_ino)
    return files

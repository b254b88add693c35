"""The store's driver for SQLite: off the event loop, with a group commit.

One thread owns the one connection (decision 5). A transaction is one job without a pause. Jobs that arrive during
earlier jobs, or a commit, share one commit.

If a job or the commit fails, the whole group is undone, and each job runs once more, alone: a failing write must not
fail a job that only reads. Savepoints would copy every changed page (decision 18).
"""

import asyncio
import concurrent.futures
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cdc_sync.core.failures import StoreError
from cdc_sync.store.clock import Clock, boot_id, uptime
from cdc_sync.store.driver import Driver, Effect, Row, Work, no_effect
from cdc_sync.store.errors import store_error
from cdc_sync.store.protocol import Upgrading, not_reported
from cdc_sync.store.sqlite.schema import connect, guarded, holder_of, lock_path, translate
from cdc_sync.store.statements import statements
from cdc_sync.wall_clock import wall_clock

T = TypeVar("T")

_LARGEST_GROUP = 256

_ROWS_AT_ONCE = (64, 16, 4, 1)
"""Rows of one statement: few different numbers, so that all stay prepared. More are no quicker."""

_STATEMENTS = statements("sqlite")


class _Job(NamedTuple):
    work: Work[Any]
    effect: Effect[Any]
    future: asyncio.Future[object]


Result = tuple[_Job, object]
"""A job and its result or exception."""


@dataclass(slots=True)
class SqliteTransaction:
    """See `Transaction`. Its coroutines never suspend."""

    connection: sqlite3.Connection

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`. An empty statement does nothing."""
        statement = _STATEMENTS[name]
        if not statement.text:
            return []
        for key, value in parameters.items():
            if isinstance(value, list):
                parameters[key] = json.dumps(value, ensure_ascii=False)
        rows = self.connection.execute(statement.text, parameters).fetchall()
        return json.loads(rows[0][0]) if statement.as_json else rows

    run = rows

    async def count(self, name: str, /, **parameters: Any) -> int:
        """See `Transaction`."""
        return self.connection.execute(_STATEMENTS[name].text, parameters).rowcount

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """See `Transaction`. It takes few statements: each waits for the interpreter's lock (decision 18)."""
        done = 0
        for number in _ROWS_AT_ONCE:
            while len(rows) - done >= number:
                values = list(chain.from_iterable(rows[done : done + number]))
                self.connection.execute(of_rows(name, number), values)
                done += number


@cache
def of_rows(name: str, number: int) -> str:
    """A statement for so many rows."""
    statement = _STATEMENTS[name]
    return statement.text.replace("@rows", ", ".join([statement.row] * number))


class SqliteThread:
    """Runs jobs on a connection that `connect` makes; `begin` opens a transaction.

    Raises:
        Exception: any exception of `connect`.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], begin: str) -> None:
        self._begin = begin
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connected: concurrent.futures.Future[None] = concurrent.futures.Future()
        # A job that hangs on a dead disk must not keep the process alive.
        self._thread = threading.Thread(target=self._work, args=(connect,), name="store", daemon=True)
        self._thread.start()
        self._connected.result()

    async def run(self, work: Work[T], effect: Effect[T] = no_effect) -> T:
        """See `Driver.transact`.

        Raises:
            sqlite3.Error: the work or the commit failed, and nothing is kept; or this was closed before.
        """
        if self._closed:
            effect(None)
            raise sqlite3.ProgrammingError("it was closed before")
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, effect, future))
        return await future  # type: ignore[return-value] # the future carries what `work` returned

    async def close(self) -> None:
        """Finish the jobs, and close the connection."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self, connect: Callable[[], sqlite3.Connection]) -> None:
        try:
            connection = connect()
        except Exception as error:  # noqa: BLE001 - handed to the constructor, which raises it
            self._connected.set_exception(error)
            return
        self._connected.set_result(None)
        transaction = SqliteTransaction(connection)
        while (job := self._jobs.get()) is not None:
            goes_on, results, undone = _run(transaction, job, self._begin, self._jobs)
            for each in undone:
                results += _run(transaction, each, self._begin, None)[1]
            # Together for each event loop: waking it costs a system call.
            of_loops: dict[asyncio.AbstractEventLoop, list[Result]] = {}
            for result in results:
                of_loops.setdefault(result[0].future.get_loop(), []).append(result)
            for loop, of_loop in of_loops.items():
                # The process ends (a second SIGTERM).
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(_resolve, of_loop)
            if not goes_on:
                break
        connection.close()


def _run(
    transaction: SqliteTransaction, first: _Job, begin: str, jobs: "queue.SimpleQueue[_Job | None] | None"
) -> tuple[bool, list[Result], list[_Job]]:
    """Run a job, and those that arrive meanwhile in `jobs`, in one transaction.

    Returns False after `close`, jobs with their results, and an undone group's jobs.
    """
    done: list[Result] = []
    job: _Job | None = first
    connection = transaction.connection
    try:
        connection.execute(begin)
        while job is not None:
            done.append((job, None))  # for its waiter, if it fails
            coroutine = job.work(transaction)
            try:
                coroutine.send(None)
            except StopIteration as stop:
                done[-1] = (job, stop.value)
            else:
                coroutine.close()
                raise AssertionError("the store's logic waits for something else than its transaction")
            if jobs is None or len(done) == _LARGEST_GROUP:
                break
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                break
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - handed to the job's waiter, if it is alone
        # If the rollback fails too, the next group cannot begin, and its failure rolls back. This thread must go on.
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if len(done) > 1:
            return job is not None, [], [each for each, _ in done]
        return job is not None, [(first, error)], []
    return job is not None, done, []


def _resolve(results: list[Result]) -> None:
    for (_, effect, future), result in results:
        effect(None if isinstance(result, BaseException) else result)
        if future.done():  # its waiter was cancelled
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


class SqliteDriver(Driver):
    """The store in the file at `path`, which is made if it is missing; `connected` makes another one for a dry run.

    `schema.locked` ensures that only one daemon sends.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        upgrading: Upgrading = not_reported,
        connected: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        super().__init__(str(path))
        self.is_read_only = read_only
        self._path = path
        self._files: dict[str, tuple[int, int]] = {}
        self._gone: StoreError | None = None
        made = connected or partial(connect, path, read_only=read_only, upgrading=upgrading)
        self._thread = SqliteThread(
            lambda: self._opened(made(), read_only=read_only), "BEGIN" if read_only else "BEGIN IMMEDIATE"
        )

    async def transact(self, work: Work[T], effect: Effect[T] = no_effect) -> T:
        """See `Driver`. What a lost file knows is void: its changes must stay in the change log."""

        def take_effect(result: T | None) -> None:
            effect(result if self._is_there() else None)

        try:
            result = await self._thread.run(work, take_effect)
        except sqlite3.Error as error:
            raise translate(self._path, error) from error
        self._raise_if_gone()
        return result

    async def leads(self) -> bool:
        """See `Driver`."""
        return holder_of(self._path) is not None

    def check_place(self) -> None:
        """Check that the next start will find what is written now.

        Raises:
            StoreError: it will not: the store was deleted or replaced.
        """
        self._is_there()
        self._raise_if_gone()

    async def close(self) -> None:
        """See `Driver`."""
        self._files = {}
        await self._thread.close()

    def _is_there(self) -> bool:
        for path, opened in self._files.items():
            try:
                found = os.stat(path)  # noqa: PTH116 - a Path takes twice as long
            except OSError as error:
                is_there = not isinstance(error, FileNotFoundError | NotADirectoryError)  # else it is unknown
            else:
                is_there = (found.st_dev, found.st_ino) == opened
            if not is_there:
                self._gone = self._gone or store_error("store-gone", store=self.name, missing=path)
        return self._gone is None

    def _raise_if_gone(self) -> None:
        if self._gone is not None:
            raise self._gone

    def _opened(self, connection: sqlite3.Connection, *, read_only: bool) -> sqlite3.Connection:
        with guarded(self._path, connection):
            self.clock = _clock(connection, keep=not read_only)
        # A reader has no journal, so no file of its own.
        self._files = {} if read_only else _files_of(self._path)
        return connection


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

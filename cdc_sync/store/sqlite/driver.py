"""The store in an SQLite file: its driver, and the lead, which is the file's lock.

The driver has one connection, used by one thread beside the event loop (decision 5). A group has no savepoints: they
would copy every changed page (decision 18). The lock ends with its process, also by kill -9.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.clock import Clock
from cdc_sync.store.driver import Access, Driver, Row, RunGroup
from cdc_sync.store.encoding import as_json, of_json
from cdc_sync.store.errors import store_error
from cdc_sync.store.lead import LOOKS_EVERY, Lead, Leader, Standby, StandingBy, begin_to_lead, held, leader_in
from cdc_sync.store.statements import statements
from cdc_sync.wall_clock import wall_clock

from .schema import connect, guarded, holder_of, lock_path, translating, try_lock

T = TypeVar("T")

_STATEMENTS = statements("sqlite")

_MADE_WITHIN = 5.0
"""Seconds for a leader that has just started to make the store, or to bring it up to date."""


_IN_ONE_ROW: dict[str, str] = {}
"""Statements that return their rows as one JSON list, by name.

`sqlite3` gives the GIL away before each row, and the event loop takes it: that cost a sixth of a change's time.
"""


@dataclass(slots=True)
class SqliteTransaction:
    """See `Transaction`. Its coroutines never suspend."""

    connection: sqlite3.Connection

    async def run(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        for key, value in parameters.items():
            if isinstance(value, list):
                parameters[key] = as_json(value)
        text = _STATEMENTS[name].text
        if not text.startswith(("SELECT", "WITH")):
            self.connection.execute(text, parameters)
            return []
        if name not in _IN_ONE_ROW:
            none = self.connection.execute(f"SELECT * FROM ({text}) LIMIT 0", parameters)  # noqa: S608 - our own
            _IN_ONE_ROW[name] = _in_one_row(text, len(none.description))
        ((rows,),) = self.connection.execute(_IN_ONE_ROW[name], parameters)
        return list(map(tuple, of_json(rows)))

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """See `Transaction`."""
        if rows:
            self.connection.execute(_STATEMENTS[name].text, [as_json(rows)])


def _in_one_row(statement: str, columns: int) -> str:
    names = ", ".join(f"c{place}" for place in range(columns))
    return f"WITH r ({names}) AS ({statement}) SELECT json_group_array(json_array({names})) FROM r"  # noqa: S608 - our own


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
    """The store in the file at `path`, which is made if it is missing; or on a `connection` for a dry run.

    Who opens it as their own holds its lock (`schema.try_lock`).

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path, access: Access = "own", connection: sqlite3.Connection | None = None) -> None:
        super().__init__(str(path), access)
        self._path = path
        self._connection = connect(path, access) if connection is None else connection
        with guarded(path, self._connection):
            ((newest,),) = self._connection.execute(_STATEMENTS["newest_event"].text)
        self.clock = Clock(max(wall_clock(), newest))
        self._begin = "BEGIN IMMEDIATE" if access == "own" else "BEGIN"
        if access == "own":
            # A leader that is to end waits for each of its last writes.
            self._connection.execute("PRAGMA busy_timeout = 2000")
        # A reader has no journal, so no file of its own.
        self._files = _files_of(path) if access == "own" else {}
        self._thread = ThreadPoolExecutor(1, "store")

    async def leads(self, backend: int | None) -> bool:  # noqa: ARG002 - a file has a lock of its own
        """See `Driver`."""
        return holder_of(self._path) is not None

    async def close(self) -> None:
        """See `Driver`. What was handed in before is done, also if this is cancelled: then the lock may go."""
        await _to_its_end(asyncio.create_task(self._close(), name="closing the store"))

    async def _close(self) -> None:
        if self._working is not None:
            await asyncio.wait([self._working])
        await self._stop(store_error("store-unusable", store=self.name, message="it was closed before"))
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()

    async def _commit(self, run: RunGroup) -> list[Any]:
        results = await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, run)
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


def _is_another(path: str, opened: os.stat_result) -> bool:
    """Whether a file is surely gone, or not the one that was opened."""
    try:
        return not os.path.samestat(os.stat(path), opened)  # noqa: PTH116 - a Path takes twice as long
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)


def _files_of(path: Path) -> dict[str, os.stat_result]:
    """The store's file and those that SQLite keeps beside it; without missing ones."""
    files: dict[str, os.stat_result] = {}
    # Who removes the lock's file lets another daemon lock a new one.
    for file in (str(path), f"{path}-wal", f"{path}-shm", str(lock_path(path))):
        with suppress(OSError):
            files[file] = Path(file).stat()
    return files


async def _to_its_end(task: "asyncio.Task[T]") -> T:
    """The result of a task, which ends first, also if this is cancelled."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


@asynccontextmanager
async def leading(path: Path, ours: Leader, standing_by: StandingBy) -> AsyncIterator[Lead]:
    """Stand by until this process leads, then lead.

    Raises:
        StoreError: the store cannot be used.
    """
    lock = await _take(path, ours, standing_by)
    try:
        driver = await _opened(path)
        try:
            async with held(Lead(driver, await begin_to_lead(driver, ours))) as lead:
                yield lead
        finally:
            await driver.close()
    finally:
        os.close(lock)


async def _opened(path: Path) -> SqliteDriver:
    """Open a store as its leader, in a thread. Who is cancelled meanwhile waits, and leaves nothing open.

    Raises:
        StoreError: it cannot be used.
    """
    opening = asyncio.create_task(asyncio.to_thread(SqliteDriver, path), name="opening the store")
    try:
        return await _to_its_end(opening)
    except asyncio.CancelledError:
        if opening.exception() is None:
            await opening.result().close()
        raise


async def _take(path: Path, ours: Leader, standing_by: StandingBy) -> int:
    """Stand by until the lock is ours; returns its descriptor."""
    if (lock := try_lock(path)) is not None:
        return lock
    read = await _opened_to_read(path)
    try:
        while (lock := try_lock(path)) is None:
            await standing_by(Standby(Store(read), await read.transact(leader_in), ours))
            await asyncio.sleep(LOOKS_EVERY)
        return lock
    finally:
        await read.close()


async def _opened_to_read(path: Path) -> SqliteDriver:
    """The store, to be read beside its leader.

    Raises:
        StoreError: the leader is of an earlier version, and has to end first.
    """
    give_up_at = time.monotonic() + _MADE_WITHIN
    while True:
        try:
            return SqliteDriver(path, "read")
        except StoreError as error:
            if error.code not in {"store-not-set-up", "store-unopenable"}:
                raise
            if time.monotonic() > give_up_at:
                raise store_error("store-upgrade", store=path, process=holder_of(path) or "unknown") from error
        await asyncio.sleep(LOOKS_EVERY)

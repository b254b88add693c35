"""Jobs share commits, and nothing else: neither their failures nor their undoing."""

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cdc_sync.core.failures import StoreError
from cdc_sync.store.driver import Transaction
from cdc_sync.store.sqlite.driver import SqliteDriver, SqliteTransaction
from cdc_sync.store.sqlite.schema import connect

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], Any]

DEFERRED = """
    CREATE TABLE parent (id INTEGER PRIMARY KEY);
    CREATE TABLE child (parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    PRAGMA foreign_keys = ON;
"""


class Jobs(SqliteDriver):
    """A store whose jobs have the connection itself."""

    def __init__(self, path: Path, statements: "Statements") -> None:
        super().__init__(path, connection=statements.connect(path))

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        async def on_connection(transaction: Transaction) -> T:
            assert isinstance(transaction, SqliteTransaction)
            return work(transaction.connection)

        return await self.transact(on_connection)


class Statements(Counter[str]):
    """Counts the statements that SQLite itself reports."""

    def connect(self, path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.executescript(DEFERRED)
        connection.set_trace_callback(lambda statement: self.update([statement]))
        return connection


@pytest.fixture
def statements() -> Statements:
    return Statements()


@pytest.fixture
async def jobs(tmp_path: Path, statements: Statements) -> AsyncIterator[Jobs]:
    jobs = Jobs(tmp_path / "state.db", statements)
    statements.clear()
    yield jobs
    await jobs.close()


def add(number: int) -> Work:
    return lambda connection: connection.execute("INSERT INTO parent VALUES (?)", (number,)).rowcount


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT id FROM parent ORDER BY id")]


async def together(jobs: Jobs, *work: Work) -> list[Any]:
    """Hand in several jobs while the thread is busy with another."""
    begun, gate = threading.Event(), threading.Event()

    def keep_busy(_: sqlite3.Connection) -> None:
        begun.set()
        gate.wait()

    busy = asyncio.create_task(jobs.do(keep_busy))
    await asyncio.to_thread(begun.wait)
    found = asyncio.gather(*map(jobs.do, work), return_exceptions=True)
    await asyncio.sleep(0)  # each task begins, which is to hand its job in
    gate.set()
    await asyncio.gather(busy, return_exceptions=True)
    return await found


def _shown(result: object) -> str:
    """A result, or SQLite's own message."""
    return str(result.__cause__) if isinstance(result, StoreError) else str(result)


async def test_jobs_that_wait_together_share_one_commit(jobs: Jobs, statements: Statements) -> None:
    await together(jobs, *map(add, range(100)))

    assert statements["COMMIT"] == 2, "one for the job that they waited for, and one for them all"
    assert await jobs.do(numbers) == list(range(100))


async def test_a_job_that_fails_is_undone_alone(jobs: Jobs) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO parent VALUES (1000)")
        raise LookupError("a mistake of its own")

    first, failed, second, last = await together(jobs, add(1), fail, add(1), add(2))

    assert (first, last) == (1, 1)
    assert isinstance(failed, LookupError)
    assert isinstance(second, StoreError)
    assert await jobs.do(numbers) == [1, 2]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO child VALUES (4711)", "FOREIGN KEY constraint failed"),  # found out at the commit only
        ("INSERT OR ROLLBACK INTO parent VALUES (1)", "UNIQUE constraint failed: parent.id"),
    ],
    ids=["the commit fails", "SQLite undoes the group by itself"],
)
async def test_if_a_group_fails_as_a_whole_each_job_is_run_alone(jobs: Jobs, statement: str, error: str) -> None:
    results = await together(jobs, add(1), lambda connection: connection.execute(statement), add(2))

    assert [_shown(result) for result in results] == ["1", error, "1"]
    assert await jobs.do(numbers) == [1, 2]
    assert await jobs.do(add(3)) == 1
    assert await jobs.do(numbers) == [1, 2, 3]


async def test_closing_finishes_what_was_handed_in(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    jobs = Jobs(path, Statements())
    tasks = [asyncio.create_task(jobs.do(add(number))) for number in range(20)]
    await asyncio.sleep(0)

    await jobs.close()
    await asyncio.gather(*tasks)

    connection = connect(path)
    assert numbers(connection) == list(range(20))
    connection.close()

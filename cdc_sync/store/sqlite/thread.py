"""SQLite off the event loop, with a group commit.

One thread owns the one connection, so every job sees the work of all jobs before it, and jobs never interleave. Jobs
that were handed in while the last commit was being written to disk share the next one: under load the price of a
durable commit is shared by all who wait for it.

A job that fails is undone alone (each runs in a savepoint). If the commit fails, all its jobs fail: nobody is told that
something is kept which is not.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_LARGEST_GROUP = 256


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], object]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[object]

    def resolve(self, result: object) -> None:
        if self.future.done():  # its waiter was cancelled; the work is done all the same
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class SqliteThread:
    """Runs jobs on a connection that `connect` makes, in the thread that will use it; `begin` opens a transaction.

    Raises:
        Exception: whatever `connect` raises.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], begin: str) -> None:
        self._begin = begin
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connected: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        # A daemon thread: a job that hangs on a dead disk must not keep the process from exiting.
        self._thread = threading.Thread(target=self._work, args=(connect,), name="store", daemon=True)
        self._thread.start()
        failure = self._connected.get()
        if failure is not None:
            raise failure

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; returns when it is durable.

        Raises:
            sqlite3.Error: the work or the commit failed, and nothing of the work is kept; or this was closed before.
        """
        if self._closed:
            raise sqlite3.ProgrammingError("it was closed before")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._jobs.put(_Job(work, loop, future))
        return await future  # type: ignore[return-value] # the future carries what `work` returned

    async def close(self) -> None:
        """Finish the jobs that were handed in, and close the connection."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self, connect: Callable[[], sqlite3.Connection]) -> None:
        try:
            connection = connect()
        except Exception as error:  # noqa: BLE001 - handed to the constructor, which raises it
            self._connected.put(error)
            return
        self._connected.put(None)
        job: _Job | None
        while True:
            job = self._jobs.get()
            group: list[_Job] = []
            while job is not None:
                group.append(job)
                if len(group) == _LARGEST_GROUP:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if group:
                _deliver(list(zip(group, _run(connection, group, self._begin), strict=True)))
            if job is None:
                break
        connection.close()


def _run(connection: sqlite3.Connection, group: list[_Job], begin: str) -> list[object]:
    results: list[object] = []
    try:
        connection.execute(begin)
        for job in group:
            connection.execute("SAVEPOINT job")
            try:
                results.append(job.work(connection))
            except Exception as error:  # noqa: BLE001 - handed to the job's waiter
                if not connection.in_transaction:
                    # SQLite undid the whole group by itself, as it may when the disk is full or fails.
                    return [error] * len(group)
                connection.execute("ROLLBACK TO job")
                results.append(error)
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return [error] * len(group)
    return results


def _deliver(results: list[tuple[_Job, object]]) -> None:
    """Hand the results over in one go: waking an event loop costs a system call."""

    def resolve() -> None:
        for job, result in results:
            job.resolve(result)

    try:
        results[0][0].loop.call_soon_threadsafe(resolve)
    except RuntimeError:
        # The loop is closed: the process is ending at once (a second SIGTERM), and nobody waits any more.
        return

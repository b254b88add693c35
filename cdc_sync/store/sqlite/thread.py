"""SQLite off the event loop, with a group commit.

One thread owns the one connection, so every job sees the work of all jobs before it, and jobs never interleave. Jobs
that were handed in while the last commit was being written to disk, or while the jobs before them are worked on, share
one commit: under load the price of a durable commit is shared by all who wait for it. So do those that one turn of the
event loop hands in: a claim that follows at the heels of the entry that it takes costs no flush of its own.

If a job fails, or the commit, nothing of the group is kept, and each of its jobs is run once more, alone: what the disk
has no room for fails, and a job that only reads, or finds nothing to write, does not fail with it. A savepoint for each
job would spare that, and would cost each of them a copy of every page that it changes.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
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
        self._handed_in: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
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
        job = _Job(work, loop, future)
        if loop in self._handed_in:
            self._handed_in[loop].append(job)
        else:
            # Not at once, but with what the tasks hand in that the one before it has woken: the thread would have begun
            # to commit before they come.
            self._handed_in[loop] = [job]
            loop.call_soon(self._pass_on, loop)
        return await future  # type: ignore[return-value] # the future carries what `work` returned

    async def close(self) -> None:
        """Finish the jobs that were handed in, and close the connection."""
        self._closed = True
        self._pass_on(asyncio.get_running_loop())
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _pass_on(self, loop: asyncio.AbstractEventLoop) -> None:
        for job in self._handed_in.pop(loop, ()):
            self._jobs.put(job)

    def _work(self, connect: Callable[[], sqlite3.Connection]) -> None:
        try:
            connection = connect()
        except Exception as error:  # noqa: BLE001 - handed to the constructor, which raises it
            self._connected.put(error)
            return
        self._connected.put(None)
        while (job := self._jobs.get()) is not None:
            goes_on, results, undone = _run(connection, job, self._begin, self._jobs)
            for each in undone:
                _, alone, _ = _run(connection, each, self._begin, None)
                results += alone
            _deliver(results)
            if not goes_on:
                break
        connection.close()


def _run(
    connection: sqlite3.Connection, first: _Job, begin: str, jobs: "queue.SimpleQueue[_Job | None] | None"
) -> tuple[bool, list[tuple[_Job, object]], list[_Job]]:
    """Run a job, and those that are handed in meanwhile unless `jobs` is None, in one transaction.

    Returns whether there may be more (False: the end was among them), jobs with their results, and those of a group
    that was undone as a whole.
    """
    done: list[tuple[_Job, object]] = []
    job: _Job | None = first
    try:
        connection.execute(begin)
        while job is not None:
            done.append((job, None))  # whatever happens now, its waiter gets an answer
            done[-1] = (job, job.work(connection))
            if jobs is None or len(done) == _LARGEST_GROUP:
                break
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                break
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - handed to the job's waiter, if it is alone
        # A rollback may fail as well. This thread must outlive it, or everybody would wait for it for ever; what is
        # still open then keeps the next group from beginning, which tries to undo it again.
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if len(done) > 1:
            return job is not None, [], [each for each, _ in done]
        return job is not None, [(first, error)], []
    return job is not None, done, []


def _deliver(results: list[tuple[_Job, object]]) -> None:
    """Hand the results over, those of one event loop in one go: waking it costs a system call."""
    of_loops: dict[asyncio.AbstractEventLoop, list[tuple[_Job, object]]] = {}
    for job, result in results:
        of_loops.setdefault(job.loop, []).append((job, result))
    for loop, of_loop in of_loops.items():
        # One that is closed belongs to a process that is ending (a second SIGTERM), or to a test: nobody waits there.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, of_loop)


def _resolve(results: list[tuple[_Job, object]]) -> None:
    for job, result in results:
        job.resolve(result)

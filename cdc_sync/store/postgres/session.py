"""The one session of a store in PostgreSQL: its jobs run in order, and those that wait together share a commit.

If a job fails, its group is undone, and each job runs once more, alone: a failing write must not fail a job that only
reads. A session that does not answer is cut: it is lost, as after any other failure of the connection, and all later
jobs fail.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg

from cdc_sync import own_path
from cdc_sync.event_loop import end
from cdc_sync.store.driver import Effect, Row, Work, no_effect
from cdc_sync.store.postgres.schema import Connection
from cdc_sync.store.statements import statements

T = TypeVar("T")

_MOST_ROWS = 1_000
"""Most rows in one statement: both sides hold them in memory."""

_LARGEST_GROUP = 64

_GROUP_LASTS = 0.5
"""Seconds after which a group takes no further job: a renewal goes before those that wait."""

_STATEMENTS = statements("postgres")

_PINNED = f"SET LOCAL search_path = {own_path.PINNED}".encode()
"""The role may have set another one since."""


class PostgresTransaction:
    """See `Transaction`; it is open on `connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """See `Transaction`."""
        return await (await self._execute(name, parameters)).fetchall()

    async def run(self, name: str, /, **parameters: Any) -> None:
        """See `Transaction`."""
        await self._execute(name, parameters)

    async def count(self, name: str, /, **parameters: Any) -> int:
        """See `Transaction`. The statement returns the number: in pipeline mode there is no other way."""
        ((number,),) = await self.rows(name, **parameters)
        return int(number)

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """See `Transaction`."""
        statement = _STATEMENTS[name]
        for first in range(0, len(rows), _MOST_ROWS):
            columns = zip(*rows[first : first + _MOST_ROWS], strict=True)
            arrays = {column: array(values) for (column, _), values in zip(statement.columns, columns, strict=True)}
            await self._connection.execute(statement.text.encode(), arrays)

    async def _execute(self, name: str, parameters: dict[str, Any]) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        bound: dict[str, Any] = {}
        for key, value in parameters.items():
            match value:
                case str():
                    bound[key] = text(value)
                case [(str(), str(), *_), *_]:
                    bound[f"{key}_first"], bound[f"{key}_second"] = (
                        array(pair[place] for pair in value) for place in (0, 1)
                    )
                case [str(), *_]:
                    bound[key] = array(value)
                case _:
                    bound[key] = value
        return await self._connection.execute(_STATEMENTS[name].text.encode(), bound)


def text(value: str) -> str:
    """A text for PostgreSQL: without U+0000, which a reply's body can have."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def array(values: Iterable[str | float | None]) -> str:
    """An array in PostgreSQL's syntax. psycopg's own takes 100 µs for a text of JSON (decision 18)."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: str | float | None) -> str:
    if isinstance(value, str):
        escaped = text(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "NULL" if value is None else str(value)


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    effect: Effect[Any]
    answer: asyncio.Future[Any]
    alone: bool = False
    """Whether it shares no commit: one that it shared has failed."""

    def end(self, result: Any) -> None:
        self.effect(result)
        if not self.answer.done():
            self.answer.set_result(result)

    def fail(self, error: Exception) -> None:
        self.effect(None)
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # its caller may be cancelled by now


class Session:
    """See the module's text. Jobs raise what their work raises, and `psycopg.Error`.

    Args:
        connection: it is this session's alone, and is closed by `close`.
        begin: the statement that begins a transaction.
        answers_within: seconds for a group of jobs.
    """

    def __init__(self, connection: Connection, begin: bytes, answers_within: float) -> None:
        self._connection = connection
        self._begin = begin
        self._answers_within = answers_within
        self._first: deque[_Job] = deque()
        self._jobs: deque[_Job] = deque()
        self._wanted = asyncio.Event()
        self.lost: asyncio.Future[psycopg.Error] = asyncio.get_running_loop().create_future()
        """Resolved with the reason when the session is lost."""
        self._working = asyncio.create_task(self._work(), name="store: session")

    async def run(self, work: Work[T], effect: Effect[T] = no_effect) -> T:
        """Run a job after those that wait."""
        answer: T = await self._put(self._jobs, work, effect)
        return answer

    async def run_first(self, work: Work[T]) -> T:
        """Run a job before those that wait, and alone."""
        answer: T = await self._put(self._first, work, no_effect)
        return answer

    def _put(self, waiting: deque[_Job], work: Work[Any], effect: Effect[Any]) -> asyncio.Future[Any]:
        job = _Job(work, effect, asyncio.get_running_loop().create_future())
        if self.lost.done():
            job.fail(self.lost.result())
        else:
            waiting.append(job)
            self._wanted.set()
        return job.answer

    def cut(self) -> None:
        """End the session at once, also if its server is silent: a read under way fails."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Close the connection; jobs that wait fail."""
        self.cut()
        await end([self._working])
        self._lose(psycopg.OperationalError("the session is closed"))
        await self._connection.close()

    async def _work(self) -> None:
        while not self.lost.done():
            await self._wanted.wait()
            self._wanted.clear()
            while not self.lost.done() and (jobs := self._next()):
                await self._run(jobs)

    def _next(self) -> Sequence[_Job]:
        """The jobs of the next transaction."""
        if self._first:
            return [self._first.popleft()]
        jobs = list[_Job]()
        while self._jobs and len(jobs) < _LARGEST_GROUP and not (jobs and self._jobs[0].alone):
            jobs.append(self._jobs.popleft())
            if jobs[-1].alone:
                break
        return jobs

    async def _run(self, jobs: Sequence[_Job]) -> None:
        """Run jobs in one transaction; after a failure each of them is next, alone."""
        try:
            with self._in_time():
                results = await self._commit(jobs)
        except asyncio.CancelledError:
            self._wait_again(jobs)  # `close` lets them fail
            raise
        except Exception as error:  # noqa: BLE001 - a job's own errors too: they are handed to its caller
            for job in jobs:
                job.alone = True
            self._wait_again(jobs)
            lost = await self._roll_back(error)
            if lost is not None:
                self._lose(lost)
            elif len(jobs) == 1:
                self._jobs.popleft().fail(error)
        else:
            for job, result in zip(jobs, results, strict=False):
                job.end(result)
            self._wait_again(jobs[len(results) :])

    def _wait_again(self, jobs: Sequence[_Job]) -> None:
        self._jobs.extendleft(reversed(jobs))

    async def _commit(self, jobs: Sequence[_Job]) -> list[Any]:
        """Run the first jobs of a group in one transaction; returns their results."""
        connection, clock = self._connection, asyncio.get_running_loop()
        transaction, results, full_at = PostgresTransaction(connection), list[Any](), clock.time() + _GROUP_LASTS
        # A pipeline saves a round trip for each of a dozen statements. Reading an answer raises earlier statements'
        # errors. psycopg's own transaction would wait for BEGIN and COMMIT.
        async with connection.pipeline():
            await connection.execute(self._begin)
            await connection.execute(_PINNED)
            for job in jobs:
                results.append(await job.work(transaction))
                if clock.time() > full_at:
                    break
            await connection.execute(b"COMMIT")
        return results

    async def _roll_back(self, error: Exception) -> psycopg.Error | None:
        """Roll back after an error; returns why the session is lost, if it is."""
        lost = error if isinstance(error, psycopg.Error) else psycopg.OperationalError(str(error))
        if not self._connection.closed:
            try:
                with self._in_time():
                    await self._connection.rollback()
            except psycopg.Error as failure:
                lost = failure
        return lost if self._connection.closed else None

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Cut the session if this takes too long."""
        timer = asyncio.get_running_loop().call_later(self._answers_within, self.cut)
        try:
            yield
        finally:
            timer.cancel()

    def _lose(self, error: psycopg.Error) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
        for waiting in (self._first, self._jobs):
            while waiting:
                waiting.popleft().fail(error)

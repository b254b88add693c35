"""What the store's logic (`capture`, `delivery`, `operation`, `report`) needs of a database: see decision 18."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Known
from cdc_sync.core.watch_names import matches
from cdc_sync.event_loop import end

from .clock import Clock
from .encoding import as_json, known_from

T = TypeVar("T")

Row = Sequence[Any]


class Transaction(Protocol):
    """Runs statements of `sql/` by name, all or none of them."""

    async def run(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement; returns its rows, if it has any.

        A list is for `@in` and `@each`; one of tuples for `@each_pair`, by their first two.
        """

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """Run a statement for many rows, in the order of its columns."""


Work = Callable[[Transaction], Coroutine[Any, Any, T]]


async def value(transaction: Transaction, name: str, /, **parameters: Any) -> Any:
    """The value of a statement with one row and one column; None without a row."""
    rows = await transaction.run(name, **parameters)
    return rows[0][0] if rows else None


async def note(transaction: Transaction, name: str, empty: str = "") -> str:
    """One of the store's notes about itself; `empty` if there is none."""
    return await value(transaction, "about", name=name) or empty


def by_first(rows: Iterable[tuple[Any, ...]]) -> dict[Any, list[tuple[Any, ...]]]:
    """The rest of each row, by its first column."""
    found = dict[Any, list[tuple[Any, ...]]]()
    for first, *rest in rows:
        found.setdefault(first, []).append(tuple(rest))
    return found


async def known_in(
    transaction: Transaction, watch: str, ids: Iterable[str], rows: Sequence[Row] = ()
) -> dict[str, Known]:
    """What is known of these applications of a watch, and of others whose row had one of these keys last.

    `rows` are keys, each with the application that has it now.
    """
    found = await transaction.run("before", watch=watch, ids=list(ids), rows=list(rows))
    return dict(map(known_from, found))


async def add_history(transaction: Transaction, lines: Iterable[HistoryEntry]) -> None:
    """Write lines of applications' histories."""
    await transaction.write("add_history", [(*line[:-1], as_json(line.detail)) for line in lines])


Watches = str | Collection[str] | None
"""These watches, this one, or those that match this pattern; None: all in the store."""


async def watches_of(transaction: Transaction, watch: Watches) -> list[str]:
    """The names of these watches."""
    if watch is not None and not isinstance(watch, str):
        return list(watch)
    if watch is not None and not {"%", "*"}.intersection(watch):
        return [watch]
    names = sorted([name for (name,) in await transaction.run("watches")])
    if watch is None:
        return names
    return [watch] if watch in names else [name for name in names if matches(watch, name)]


Effect = Callable[[T | None], None]
"""What a job does to memory: called in the event loop with its result, None if it failed, in the order of the jobs.

It is bound to the job, never to its caller, which may have been cancelled.
"""


def no_effect(_: object) -> None:
    """Nothing in memory depends on the job."""


RunGroup = Callable[[Transaction], Coroutine[Any, Any, list[Any]]]
"""Runs the first jobs of a group; returns their results."""

_LARGEST_GROUP = 256
"""Jobs of one transaction: if one of them fails, each has a transaction of its own."""

_GROUP_LASTS = 0.5
"""Seconds after which a group takes no further job: a renewal goes before those that wait."""


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


Access = Literal["own", "requests", "read"]
"""What a process may do with the store: who holds its lock, everything; others add requests, or only read."""


class Driver(ABC):
    """A database's jobs run in order, each in one transaction; those that wait together share a commit.

    If a job fails, its group is undone, and each job of several runs once more, alone: a failing write must not fail a
    job that only reads. If the transaction could not begin, another program having locked the store, the group fails.
    Once the database is lost, all jobs fail.

    Attributes:
        name: for people: a path, or a DSN without its password.
        access: what it may do.
        clock: for due times: the `now` of batches and ends of calls. Operators' requests have people's time.
        lost: why no job can be done any more.
        is_lost: set with it.
    """

    clock: Clock

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self.access = access
        self.lost: StoreError | None = None
        self.is_lost = asyncio.Event()
        self._first: deque[_Job] = deque()
        self._jobs: deque[_Job] = deque()
        self._working: asyncio.Task[None] | None = None
        self._has_begun = False
        """Whether the transaction of the present jobs has begun."""

    async def transact(self, work: Work[T], effect: Effect[T] = no_effect) -> T:
        """Run work in one transaction, perhaps several times; returns its result once it is durable.

        `effect` is called in the event loop, in the order of the transactions, also if the caller was cancelled.

        Raises:
            StoreError: nothing of it is kept, unless the answer to the commit was lost.
        """
        return await self._put(self._jobs, work, effect)

    async def transact_first(self, work: Work[T]) -> T:
        """The same before the jobs that wait, and alone."""
        return await self._put(self._first, work, no_effect)

    async def run(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement; returns its rows."""
        return await self.transact(lambda t: t.run(name, **parameters))

    async def value(self, name: str, /, **parameters: Any) -> Any:
        """See `value`."""
        return await self.transact(lambda t: value(t, name, **parameters))

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """Run a statement for many rows."""
        await self.transact(lambda t: t.write(name, rows))

    @abstractmethod
    async def leads(self, backend: int | None) -> bool:
        """Whether a leader has the lock: in a shared store, one with this session's process."""

    @abstractmethod
    async def close(self) -> None:
        """Close the store; jobs that wait, or come later, fail."""

    @abstractmethod
    async def _commit(self, run: RunGroup) -> list[Any]:
        """Run a group in one transaction; returns its results once they are durable.

        Raises:
            StoreError: the database failed; it has called `lose` if that is for good.
            Exception: as a job has raised it.
        """

    def check_place(self) -> None:
        """Check that the next start will find what is written now.

        Raises:
            StoreError: it will not.
        """
        if self.lost is not None:
            raise self.lost

    def lose(self, error: StoreError) -> None:
        """Let all jobs fail from now on."""
        self.lost = self.lost or error
        self.is_lost.set()

    def _put(self, waiting: deque[_Job], work: Work[T], effect: Effect[T]) -> asyncio.Future[T]:
        job = _Job(work, effect, asyncio.get_running_loop().create_future())
        waiting.append(job)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="store: jobs")
        return job.answer

    async def _work(self) -> None:
        while self.lost is None and (self._first or self._jobs):
            jobs, self._has_begun = self._next(), False
            try:
                results = await self._commit(partial(self._run, jobs))
            except asyncio.CancelledError:
                self._jobs.extendleft(reversed(jobs))  # `close` lets them fail
                raise
            except Exception as error:  # noqa: BLE001 - a job's own errors too: they are handed to its caller
                if (len(jobs) == 1 or not self._has_begun) and self.lost is None:
                    for job in jobs:
                        job.fail(error)
                    continue
                # Each is next, alone.
                self._jobs.extendleft(reversed(jobs))
                for job in jobs:
                    job.alone = True
            else:
                for job, result in zip(jobs, results, strict=False):
                    job.end(result)
                self._jobs.extendleft(reversed(jobs[len(results) :]))
        if self.lost is not None:
            self._fail_all(self.lost)

    def _fail_all(self, error: StoreError) -> None:
        while waiting := self._first or self._jobs:
            waiting.popleft().fail(error)

    async def _stop(self, error: StoreError) -> None:
        """Let all jobs fail, the one under way too."""
        self.lose(error)
        if self._working is not None:
            await end([self._working])
        self._fail_all(error)

    def _next(self) -> list[_Job]:
        """The jobs of the next transaction."""
        if self._first:
            return [self._first.popleft()]
        jobs = [self._jobs.popleft()]
        while self._jobs and len(jobs) < _LARGEST_GROUP and not (jobs[0].alone or self._jobs[0].alone):
            jobs.append(self._jobs.popleft())
        return jobs

    async def _run(self, jobs: Sequence[_Job], transaction: Transaction) -> list[Any]:
        """Run jobs, or the first ones; returns their results."""
        self._has_begun = True
        results, full_at = list[Any](), time.monotonic() + _GROUP_LASTS
        for job in jobs:
            results.append(await job.work(transaction))
            if time.monotonic() > full_at:
                break
        return results


R = TypeVar("R", bound="Role")
P = ParamSpec("P")


@dataclass
class Role:
    """What one part of the program does with the store."""

    driver: Driver


def job(
    method: Callable[Concatenate[R, Transaction, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """Run a method in one transaction."""

    @wraps(method)
    async def run(self: R, /, *arguments: P.args, **named: P.kwargs) -> T:
        return await self.driver.transact(lambda t: method(self, t, *arguments, **named))

    return run


async def pages(driver: Driver, name: str, watch: str, at_once: int) -> AsyncIterator[list[tuple[Any, ...]]]:
    """A watch's rows of a statement, in the order of their first column, so many at once: others work in between."""
    after: str | None = ""
    while after is not None:
        rows = await driver.run(name, watch=watch, after=after, limit=at_once)
        yield rows
        after = rows[-1][0] if len(rows) == at_once else None

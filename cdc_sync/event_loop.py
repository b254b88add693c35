"""The event loop of long-running commands (docs/decisions/0008-uvloop.md), and groups of tasks.

`asyncio.TaskGroup` cancels once. Before Python 3.12 `asyncio.wait_for`, in the connection pool, loses a cancellation
that coincides with its result. So `end` cancels again.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

Work = Coroutine[Any, Any, None]
Task = asyncio.Task[None]
"""Both without a result."""

_ASK_AGAIN = 0.5
"""Seconds between two cancellations of a task that has not ended."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, as `asyncio.run` does."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform, and short commands do without it
    except ImportError:
        return asyncio.run(work)
    # libuv looks up names in half of its threads, of which it has four: names that nobody answers for, of databases,
    # must not keep HelloWork's waiting.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "64")
    return uvloop.run(work)


async def supervise(jobs: Mapping[str, Callable[[], Work]]) -> None:
    """Run jobs, by name, until all have returned or one has failed; then end the rest.

    Raises:
        BaseExceptionGroup: of the failures.
    """
    tasks = [asyncio.create_task(work(), name=name) for name, work in jobs.items()]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await end(tasks)
    raise_failures(tasks)


async def regularly(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Work now, and after each pause, by the monotonic clock."""
    while True:
        await work()
        await asyncio.sleep(seconds)


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for their ends, also if cancelled meanwhile; `raise_failures` raises failures."""
    interrupted = False
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=_ASK_AGAIN)
        except asyncio.CancelledError:
            interrupted = True
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or Python logs it
    if interrupted:
        raise asyncio.CancelledError


def raise_failures(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Raise the failures of ended tasks, if any.

    Raises:
        BaseExceptionGroup: of the failures.
    """
    failures = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failures:
        raise BaseExceptionGroup("tasks that live together failed", failures)


class TimeLimit:
    """The same time for each of many tasks. One timer serves all: `asyncio.timeout`'s costs a fifth of a call."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[Any], float] = {}
        """The end of each task's time: the one that began first is the first one late."""
        self._looks = False

    async def keep(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of some work, which this task does in its time.

        Raises:
            TimeoutError: it took longer, and was cancelled.
        """
        loop = asyncio.get_running_loop()
        task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        self._until[task] = loop.time() + self._seconds
        if not self._looks:
            self._looks = True
            loop.call_later(self._seconds, self._look)
        try:
            return await work
        except asyncio.CancelledError as error:
            if task in self._until or task.cancelling() > 1:
                raise  # somebody else cancels it, perhaps at the same time
            raise TimeoutError from error
        finally:
            if self._until.pop(task, None) is None:
                task.uncancel()

    def _look(self) -> None:
        """Cancel the tasks that are late, and look again when the next one would be."""
        loop = asyncio.get_running_loop()
        for task, until in list(self._until.items()):
            if until > loop.time():
                loop.call_at(until, self._look)
                return
            del self._until[task]
            task.cancel()
        self._looks = False


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """Raise one exception in place of a group of these kinds alone: of the first kind that it has."""
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(kinds)[1] is not None:
            raise
        found: BaseException = next(part for kind in kinds if (part := group.subgroup(kind)) is not None)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found from None

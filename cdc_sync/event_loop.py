"""The event loop of long-running commands (docs/decisions/0008-uvloop.md), and groups of tasks.

`asyncio.TaskGroup` cancels once. Before Python 3.12 `asyncio.wait_for`, in the connection pool, loses a cancellation
that coincides with its result. So `end` cancels again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
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
    """A context in which each task has the same time: `with limit:`. Not reentrant.

    One timer serves all: that of `asyncio.timeout` costs a fifth of a call to HelloWork.

    Raises:
        TimeoutError: by `with`, the task took longer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[Any] | None, float] = {}
        """By task, the end of its time: the one that began first is the first one late."""
        self._looks = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._until[asyncio.current_task()] = loop.time() + self._seconds
        if not self._looks:
            self._looks = True
            loop.call_later(self._seconds, self._look)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task = asyncio.current_task()
        is_late = self._until.pop(task, None) is None
        if is_late and task is not None and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self) -> None:
        """Cancel the tasks that are late, and look again when the next one would be."""
        loop = asyncio.get_running_loop()
        for task, until in list(self._until.items()):
            if until > loop.time():
                loop.call_at(until, self._look)
                return
            del self._until[task]
            if task is not None:
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

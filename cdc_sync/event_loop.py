"""The event loop of what works for long, tasks that live and die together, and an end of tasks that cannot be missed.

The loop is uvloop's where it is installed, asyncio's elsewhere. Other commands ask a few questions, and do without it.
See docs/decisions/0008-uvloop.md.

`asyncio.TaskGroup` asks its tasks once to end. Before Python 3.12 `asyncio.wait_for` forgets a cancellation that comes
at the same moment as what it waits for, and a connection pool waits with it for a free connection. A task that missed
its cancellation would go on for ever, and with it everybody who waits for its end: so it is asked again until it ends.
"""

import asyncio
from collections.abc import Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_ASK_AGAIN = 0.5
"""Seconds between two cancellations of a task that has not ended."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, as `asyncio.run` does."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform; and commands that ask a question do without it
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


async def supervise(jobs: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run jobs, by name, until all have returned or one has failed; the others are ended then.

    Raises:
        BaseExceptionGroup: with what failed.
    """
    tasks = [asyncio.create_task(job, name=name) for name, job in jobs.items()]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await end(tasks)
    raise_failures(tasks)


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and return when they have ended, also if the caller is cancelled meanwhile.

    What they failed with is the caller's to raise, or to pass over.
    """
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
            task.exception()  # retrieved, or Python complains
    if interrupted:
        raise asyncio.CancelledError


def raise_failures(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Raise what tasks that have ended failed with, if any did.

    Raises:
        BaseExceptionGroup: with what failed.
    """
    failures = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failures:
        raise BaseExceptionGroup("tasks that live together failed", failures)


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """Raise one exception in place of a group, if all in it are of these kinds: of the first kind that it has."""
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(kinds)[1] is not None:
            raise
        found: BaseException = next(part for kind in kinds if (part := group.subgroup(kind)) is not None)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found from None

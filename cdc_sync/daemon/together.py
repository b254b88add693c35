"""Tasks that live and die together, and a way of ending tasks that cannot be missed.

`asyncio.TaskGroup` asks its tasks once to end. Before Python 3.12 `asyncio.wait_for` forgets a cancellation that comes
at the same moment as what it waits for, and a connection pool waits with it for a free connection. A task that missed
its cancellation would go on for ever, and with it everybody who waits for its end: so it is asked again until it ends.
"""

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from typing import Any

_ASK_AGAIN = 0.5
"""Seconds between two cancellations of a task that has not ended."""


async def live_together(jobs: Mapping[str, Coroutine[Any, Any, None]]) -> None:
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
    """Cancel tasks, and return when they have ended, also if the caller is cancelled meanwhile."""
    interrupted = False
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=_ASK_AGAIN)
        except asyncio.CancelledError:
            interrupted = True
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

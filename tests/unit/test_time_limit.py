"""A time limit of many tasks, with one timer."""

import asyncio
import time
from contextlib import suppress

import pytest

from cdc_sync.event_loop import TimeLimit


async def limited(limit: TimeLimit, seconds: float) -> float:
    """Sleep within the limit; returns the time that it took."""
    begun = time.monotonic()
    with suppress(TimeoutError):
        await limit.keep(asyncio.sleep(seconds))
    return time.monotonic() - begun


async def test_each_task_has_its_whole_time_and_no_more() -> None:
    limit = TimeLimit(0.2)
    tasks = []
    for seconds in (5.0, 0.01, 5.0, 5.0):
        tasks.append(asyncio.create_task(limited(limit, seconds)))
        await asyncio.sleep(0.05)
    slow, quick, *others = await asyncio.gather(*tasks)
    assert quick < 0.2
    assert min(slow, *others) >= 0.2
    assert max(slow, *others) < 2
    assert await limited(limit, 5.0) >= 0.2, "its timer runs again after all had ended"


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    limit = TimeLimit(5)
    task = asyncio.create_task(limited(limit, 5))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_stays_what_it_is() -> None:
    async def fail() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await TimeLimit(5).keep(fail())


async def test_work_that_ends_otherwise_when_it_is_late_leaves_no_trace() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            raise ValueError("in the end")

    limit = TimeLimit(0.02)
    with pytest.raises(ValueError, match="in the end"):
        await limit.keep(work())
    assert await limited(limit, 5) < 2, "a later time is kept as usual"


async def test_a_task_may_have_a_time_again_after_a_timeout() -> None:
    limit = TimeLimit(0.05)
    assert await limited(limit, 5) >= 0.05
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await limited(limit, 0) < 0.05

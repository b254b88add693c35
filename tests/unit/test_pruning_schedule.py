"""When the history is pruned though the wall clock is set."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from support.configurations import a_config
from support.eventually import eventually
from support.leading import a_lead, a_process

from cdc_sync.core.events import ClockAgrees, ClockSkewed, Event
from cdc_sync.daemon.chores import pruning


@pytest.mark.parametrize("seen", [ClockSkewed(-86_400.0, shared=False), ClockAgrees()])
async def test_a_clock_that_was_set_back_does_not_delay_it(seen: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    process = a_process(a_config(), lambda _: None)
    pruned = asyncio.Semaphore(0)

    async def prune(*_: int) -> int:
        pruned.release()
        return 0

    async with a_lead(process) as leading:
        monkeypatch.setattr(leading.store.operation, "prune", prune)
        with pruning(leading.store, process.config) as leading._pruning:
            await pruned.acquire()
            # As a clock does that is set back by a day.
            leading._pruning.modify(next_run_time=datetime.now(UTC) + timedelta(days=1))

            process.emit(seen)

            async with asyncio.timeout(10):
                await pruned.acquire()
            in_ten_minutes = datetime.now(UTC) + timedelta(minutes=10, seconds=1)
            await eventually(lambda: leading._pruning.next_run_time < in_ten_minutes, "the next time")
        process.emit(seen)  # when it is over, too

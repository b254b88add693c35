"""Answering suspected deletions when their grace is over."""

import asyncio
from collections.abc import Callable

from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.steps import STEPS, Steps

LONGEST_REST = 60.0
"""Seconds between looks where nothing is suspected, at most."""

_SLACK = 60_000
"""Milliseconds by which the clock may be set back without a suspicion looking like a wrong clock's."""

_LOOK_EVERY = 1.0
"""Seconds between looks, at most: the clock may be set, and a suspicion be due earlier than it seemed."""


async def confirm_due(intake: Intake, *, steps: Steps = STEPS) -> int:
    """Answer what is due now; returns how many suspicions that were.

    Raises:
        SourceError: the rows cannot be read: an error is never a deletion.
        StoreError: the answers cannot be recorded.
    """
    answered, horizon = 0, intake.rules.deletion_grace + _SLACK
    while True:
        limit = intake.reader.at_once(steps.confirmed)
        due = await intake.store.due_suspicions(intake.rules.watch, intake.clock(), limit, horizon=horizon)
        if due:
            await intake.confirm(due)
            answered += len(due)
        if len(due) < limit:
            return answered


async def run(intake: Intake, progressed: Callable[[], None], *, steps: Steps = STEPS) -> None:
    """Answer suspicions for ever."""
    while True:
        intake.suspected.clear()
        await confirm_due(intake, steps=steps)
        progressed()
        due_at = await intake.store.next_suspicion(intake.rules.watch)
        try:
            if due_at is None:
                async with asyncio.timeout(LONGEST_REST):
                    await intake.suspected.wait()
            else:
                wait = min(max((due_at - intake.clock()) / 1000, 0.01), _LOOK_EVERY)
                await asyncio.sleep(wait)
        except TimeoutError:
            continue

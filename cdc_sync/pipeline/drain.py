"""Capture by notify: consume the change log when the bell rings, and now and then in case a bell was lost."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from cdc_sync.core.observations import CaughtUp
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.steps import STEPS, Steps
from cdc_sync.source.changelog import ChangeLog, Changes


class Drain:
    """Empties one watch's change log into the intake.

    Args:
        intake: where the keys go.
        log: the change log.
        sweep: called when the log asks for a sweep (TRUNCATE, a changed lookup table). What asks is consumed before
            the sweep has run; a crash in between loses nothing, since a whole sweep follows every start.
        max_backlog: the log's limit in bytes.
        steps: how many changes it takes at once.
    """

    def __init__(
        self, intake: Intake, log: ChangeLog, sweep: Callable[[], None], max_backlog: int, *, steps: Steps = STEPS
    ) -> None:
        self._intake = intake
        self._log = log
        self._sweep = sweep
        self._steps = steps
        self.max_backlog = max_backlog
        self._was_full = False
        self._gave_back_at = -math.inf
        self._worth_giving_back = max_backlog // 16
        self._nearly_full = max_backlog // 2
        # A drain that the sweep asks for and one that the bell asks for would wait for each other's row locks.
        self._lock = asyncio.Lock()
        self._begun: float | None = None
        self.rung = asyncio.Event()
        # For how many seconds the log was searched last.
        self.searched = 0.0

    def ring(self) -> None:
        """There may be something in the log."""
        self.rung.set()

    def was_full(self) -> bool:
        """Whether the log was found full since this was asked last."""
        was_full, self._was_full = self._was_full, False
        return was_full

    async def catch_up(self, progressed: Callable[[], None] = lambda: None) -> None:
        """Empty the log of every change that was committed before this call; `progressed` is told of each batch.

        Those that come meanwhile may be as many as are taken, for hours: they are not waited for.

        Raises:
            SourceError: the log or the rows cannot be read.
            StoreError: the outcome cannot be recorded; the log keeps it.
        """
        if not await self.step():
            return
        begun = await self._log.clock()
        while await self._log.has_older(begun):
            progressed()
            if not await self.step():
                return

    async def step(self, found: Callable[[int], Awaitable[None]] | None = None) -> bool:
        """Record a batch of changes; returns whether there may be more.

        With `found`, that is told of the batch before it is recorded, which may take a while.

        Raises:
            SourceError: the log or the rows cannot be read.
            StoreError: the outcome cannot be recorded; the log keeps it.
        """
        async with self._lock:
            self._begun = time.monotonic() if self._begun is None else self._begun

            async def read() -> Changes:
                changes = await self._log.read(self._steps.drained)
                self.searched = changes.searched
                self._was_full = self._was_full or changes.size >= self.max_backlog
                if found is not None:
                    await found(changes.number)
                return changes

            changes = await self._intake.changes(read)
            if changes.everything:
                await self._intake.requests.add()
            await self._log.delete(changes)
            if changes.everything:
                self._sweep()
            more = changes.full and self._log.consumes
            if not more:
                may_give_back = time.monotonic() - self._gave_back_at >= self._steps.give_back_every
                if self._log.consumes and changes.size >= self._worth_giving_back and may_give_back:
                    self._gave_back_at = time.monotonic()
                    await self._log.give_back(nearly_full=changes.size >= self._nearly_full)
                self._intake.observe(CaughtUp(self._intake.rules.watch, time.monotonic() - self._begun))
                self._begun = None
            return more

    async def run(self, every: float, progressed: Callable[[], None]) -> None:
        """Drain for ever: at each ring, and after `every` seconds without one."""
        while True:
            self.rung.clear()
            while await self.step():
                progressed()
            progressed()
            try:
                async with asyncio.timeout(every):
                    await self.rung.wait()
            except TimeoutError:
                continue

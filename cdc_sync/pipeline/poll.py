"""Capture by poll: read what is at or behind the watermark, then move the watermark up to where the fence allows.

The watermark follows the database's clock and its transactions (`core.fence`), never the rows: a row dated in the
future does not carry it away, and many rows with one date are all read each time. Reading a row again costs a diff.

A transaction that writes and is forgotten (idle, or prepared and orphaned) holds the fence, and each poll then reads
all that has changed since. So polls that take long are followed by longer pauses: see `pause`.
"""

import asyncio
import time
from collections.abc import Callable

from cdc_sync.core.fence import Fence, SnapshotReading, look
from cdc_sync.core.observations import CaughtUp
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.steps import STEPS, Steps
from cdc_sync.source.polling import Place, PollPage, WatermarkReader
from cdc_sync.source.reading import Read

POSITION = "watermark"
BEGAN = "watermark-began"

_SHARE = 10
"""Polls take no more than one part in this many of the time, as sweeps do, as far as `LONGEST_PAUSE` allows."""

LONGEST_PAUSE = 60.0
"""Seconds beyond which a pause would be felt too much; a longer poll interval is kept all the same."""


def pause(every: float, took: float) -> float:
    """Seconds until the next poll, `every` being those that are configured, after one that took so many."""
    return max(every, min(took * (_SHARE - 1), LONGEST_PAUSE))


class Poll:
    """Polls one watch.

    Args:
        intake: where the rows go.
        reader: reads by watermark.
        watermark: where to begin.
        began: the transaction id at the first watermark, as long as transactions from before it may be open; else None.
        sweep: called once, when the last of them has ended: they may have committed rows with times from before the
            first watermark.
        steps: how many rows it reads at once, and how often it looks at the server's transactions.
    """

    def __init__(
        self,
        intake: Intake,
        reader: WatermarkReader,
        watermark: str,
        began: int | None,
        sweep: Callable[[], None],
        *,
        steps: Steps = STEPS,
    ) -> None:
        self._intake = intake
        self._reader = reader
        self.watermark = watermark
        self._began = began
        self._sweep = sweep
        self._steps = steps
        self._fence = Fence()
        self._clock = time.monotonic
        self._next_look = 0.0
        self._took = 0.0
        self._lock = asyncio.Lock()

    async def catch_up(self, progressed: Callable[[], None] = lambda: None) -> None:
        """One poll; `progressed` is told of each page.

        Raises:
            SourceError: the table cannot be read; the watermark stays.
            StoreError: the outcome cannot be recorded; the watermark stays.
        """
        async with self._lock:
            started = self._clock()
            # The look comes before the rows: whatever had ended by then is visible to the pages.
            reading = await self._reader.look() if self._clock() >= self._next_look else None
            place: str | Place | None = self.watermark
            while place is not None:
                place = await self._page(place)
                progressed()
            if reading is not None:
                await self._advance(reading)
            self._took = self._clock() - started
            self._intake.observe(CaughtUp(self._intake.rules.watch, self._took))

    async def _page(self, place: str | Place) -> Place | None:
        reached: PollPage | None = None

        async def read() -> Read:
            nonlocal reached
            reached = await self._reader.page(place, self._steps.polled)
            return Read(reached.rows, reached.at)

        await self._intake.rows(read, "poll")
        return None if reached is None else reached.next

    async def _advance(self, reading: SnapshotReading) -> None:
        self._next_look = self._clock() + self._steps.look_every
        self._fence = look(self._fence, reading)
        if self._fence.instant is None:
            return
        self.watermark = await self._reader.watermark_at(self._fence.instant)
        positions = {POSITION: self.watermark}
        if self._began is not None and reading.xmin >= self._began:
            # If we die before that sweep has run, the whole one after the next start does what it would have done.
            self._began = None
            positions[BEGAN] = ""
            self._sweep()
        await self._intake.place(positions)

    async def run(self, every: float, progressed: Callable[[], None]) -> None:
        """Poll for ever, `every` seconds after the end of the last poll, or later if that took long."""
        while True:
            await self.catch_up(progressed)
            await asyncio.sleep(pause(every, self._took))

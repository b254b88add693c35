"""Capture by poll: read the rows at or behind the watermark, then move it to where the fence allows.

The watermark follows the database's clock and transactions (`core.watermark`), never the rows: one dated in the future
does not move it. While a transaction holds the fence, each poll reads all changes since, and the pauses grow (`pause`).
"""

import asyncio
import time
from collections.abc import Mapping
from typing import ClassVar, Self

from cdc_sync.ats.capture import Capture, Jobs
from cdc_sync.ats.intake import Intake
from cdc_sync.ats.lookout import ROUND
from cdc_sync.ats.reading import WatermarkReader
from cdc_sync.config import Capture as Configured
from cdc_sync.core.events import CaughtUp
from cdc_sync.core.rows import Key
from cdc_sync.core.watermark import Fence, SnapshotReading, look

POSITION = "watermark"
BEGAN = "watermark-began"

_SHARE = 10
"""Polls take at most one part in this many of the time, as far as `LONGEST_PAUSE` allows."""

LONGEST_PAUSE = 60.0
"""Seconds that slow polls may lengthen a pause to."""


def pause(every: float, took: float) -> float:
    """Seconds until the next poll, after one that `took` so many, by the configured interval `every`."""
    return max(every, min(took * (_SHARE - 1), LONGEST_PAUSE))


class PollCapture(Capture):
    """Polls one watch, next from `watermark` on."""

    void_elsewhere: ClassVar[Mapping[str, str]] = {BEGAN: ""}
    sees_deletions: ClassVar[bool] = False

    def __init__(self, intake: Intake, reader: WatermarkReader) -> None:
        super().__init__(intake)
        self.reader = reader
        self.watermark = ""
        # The first watermark's transaction id, while transactions from before it may be open.
        self._began: int | None = None
        self._fence = Fence()
        self._reading: SnapshotReading | None = None
        self._place_at = 0.0
        self._took = 0.0
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, intake: Intake) -> Self:
        """See `Capture`."""
        configured = intake.parts.watch.capture
        watermark = configured.watermark or ""  # which poll mode requires
        return cls(intake, WatermarkReader(intake.reader, watermark, configured.lookback))

    @staticmethod
    def longest_silence(configured: Configured) -> float:
        """See `Capture`."""
        return LONGEST_PAUSE + 2 * configured.poll_interval.total_seconds()

    async def _look(self) -> SnapshotReading:
        """Look at the server's transactions. All watches share a look, so it may be a little old."""
        return await self.lookout.ask("transactions", self.parts.steps.look_every, self.reader.look)

    async def begin(self) -> None:
        """Go on at the saved watermark, or now: the sweep at the start finds older changes."""
        positions = await self.parts.store.capture.positions(self.parts.name)
        watermark, began = positions.get(POSITION), positions.get(BEGAN)
        if watermark is None:
            now = await self._look()
            watermark, began = await self._watermark_at(now.instant), str(now.xmax)
            await self.intake.place({POSITION: watermark, BEGAN: began})
        self.watermark, self._began = watermark, int(began) if began else None

    async def jobs(self) -> Jobs:
        """See `Capture`."""
        return {**await super().jobs(), "poll": self.run}

    async def catch_up(self) -> None:
        """Poll once."""
        async with self._lock:
            started = time.monotonic()
            # Before the rows: the pages show every transaction that had ended by then.
            reading = await self._look()
            place: Key | None = (self.watermark,)
            while place is not None:
                place = await self._page(place)
            if reading is not self._reading:
                self._reading = reading
                await self._advance(reading)
            self._took = time.monotonic() - started
            self.intake.observe(CaughtUp(self.intake.rules.watch, self._took))

    async def _page(self, place: Key) -> Key | None:
        reached = await self.intake.rows(lambda: self.reader.page(place, self.parts.steps.polled), "poll")
        return reached.last

    async def _advance(self, reading: SnapshotReading) -> None:
        before, self._fence = self._fence.instant, look(self._fence, reading)
        fence, now, ends = self._fence.instant, time.monotonic(), None
        if fence is None:
            return
        if fence != before:
            self.watermark = await self._watermark_at(fence)
        if self._began is not None and reading.xmin >= self._began:
            # After a crash, the sweep at the start replaces this one.
            self._began = None
            ends = {BEGAN: ""}
            self.parts.want_sweep()
        if ends or now >= self._place_at:
            self._place_at = now + self.parts.steps.place_every
            await self.intake.place({POSITION: self.watermark, **(ends or {})})

    async def _watermark_at(self, fence: int) -> str:
        """The watermark that a fence allows, shared by all watches of the same kind."""
        return await self.lookout.ask(
            ("watermark", self.reader.kind, fence), ROUND, lambda: self.reader.watermark_at(fence)
        )

    async def run(self) -> None:
        """Poll for ever, `poll_interval` after the last poll, or later after a slow one."""
        every = self.parts.watch.capture.poll_interval.total_seconds()
        while True:
            await self.catch_up()
            await asyncio.sleep(pause(every, self._took))

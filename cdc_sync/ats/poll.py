"""Capture by poll: read the rows at or behind the watermark, then move it to where the fence allows.

The watermark follows the database's clock and transactions (`core.watermark`), never the rows: one dated in the future
does not move it. While a transaction holds the fence, each poll reads all changes since, and the pauses grow (`pause`).
"""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import ClassVar, Self
from zoneinfo import ZoneInfo

from psycopg.sql import SQL

from cdc_sync.config import Capture as Configured
from cdc_sync.core.events import CaughtUp, ChangesRead
from cdc_sync.core.rows import Key
from cdc_sync.core.watermark import Fence, SnapshotReading, advanced

from . import expressions
from .connection import rows_of, with_position
from .errors import source_error
from .intake import Capture, Intake, Jobs
from .mapping import Statements
from .reading import Read, Reader

POSITION = "watermark"

_SHARE = 10
"""Polls take at most one part in this many of the time, as far as `LONGEST_PAUSE` allows."""

LONGEST_PAUSE = 60.0
"""Seconds that slow polls may lengthen a pause to."""


_JUMP = timedelta(hours=3)
"""No time zone sets its clocks back by more when summer time ends."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LOOK = with_position(SQL(expressions.sections("reading.sql")["look"]), 3)


def pause(every: float, took: float) -> float:
    """Seconds until the next poll, after one that `took` so many, by the configured interval `every`."""
    return max(every, min(took * (_SHARE - 1), LONGEST_PAUSE))


class WatermarkReader:
    """Reads one watch's table in the order of its watermark column. Methods raise as those of `Reader`."""

    def __init__(self, reader: Reader, watermark: str, lookback: timedelta) -> None:
        self._reader, self._lookback = reader, lookback
        self._type = watermark_type(reader.mapping, watermark)
        self._zone = ZoneInfo(reader.mapping.watch.timezone)
        self._walk = reader.mapping.walk(expressions.column(watermark), type_=self._type)

    async def look(self) -> SnapshotReading:
        """Read the server's transactions; seldom, since on a primary it takes a transaction id."""
        (row,) = await self._reader.pool.read("reading the server's snapshot", partial(rows_of, query=_LOOK))
        return SnapshotReading(*row)

    def watermark_at(self, fence: int) -> str:
        """The watermark that a fence (microseconds since the epoch) allows: `lookback` before it, a whole second.

        Before clocks are set back, it stays behind the first local time that will repeat.
        """
        instant = (_EPOCH + timedelta(microseconds=fence) - self._lookback).replace(microsecond=0)
        if self._type.endswith("with time zone"):
            return instant.isoformat()
        now, later = (each.astimezone(self._zone).replace(tzinfo=None) for each in (instant, instant + _JUMP))
        local = min(now, later - _JUMP)
        return (local.date() if self._type == "date" else local).isoformat()

    async def page(self, place: Key, size: int) -> Read:
        """The next `size` rows, or fewer large ones, from a watermark on, or behind a watermark and key."""
        return await self._reader.walk(self._walk, place, size)


def watermark_type(mapping: Statements, watermark: str) -> str:
    """The watermark's type, as SQL writes it; raises `SourceError` if that is no instant."""
    columns, where = mapping.facts.columns, f"{mapping.facts.schema}.{mapping.facts.name}"
    found = columns.get(watermark)
    if found is None:
        raise source_error("watermark-missing", column=watermark, table=where, columns=", ".join(columns))
    if found.kind != "instant":
        raise source_error("watermark-type", column=watermark, table=where, type=found.type)
    return found.type


class PollCapture(Capture):
    """Polls one watch, next from `watermark` on."""

    sees_deletions: ClassVar[bool] = False

    def __init__(self, intake: Intake, reader: WatermarkReader) -> None:
        super().__init__(intake)
        self.reader = reader
        self.watermark = ""
        self._fence = Fence()
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
        return await self.lookout.transactions(self.parts.steps.look_every, self.reader.look)

    async def begin(self) -> None:
        """Go on at the saved watermark, or now: the sweep at the start finds older changes."""
        positions = await self.parts.store.capture.positions(self.name)
        self.watermark = positions.get(POSITION) or self.reader.watermark_at((await self._look()).instant)
        await self.intake.place({POSITION: self.watermark})

    async def jobs(self) -> Jobs:
        """See `Capture`."""
        return {**await super().jobs(), "poll": self.run}

    async def catch_up(self) -> None:
        """Poll once."""
        async with self._lock:
            started = monotonic()
            # Before the rows: the pages show every transaction that had ended by then.
            reading = await self._look()
            place: Key | None = (self.watermark,)
            while place is not None:
                place = await self._page(place)
            self._fence = advanced(self._fence, reading)
            if self._fence.instant is not None:
                self.watermark = self.reader.watermark_at(self._fence.instant)
                if monotonic() >= self._place_at:
                    self._place_at = monotonic() + self.parts.steps.place_every
                    await self.intake.place({POSITION: self.watermark})
            self._took = monotonic() - started
            self.observe(CaughtUp(self.name, self._took))

    async def _page(self, place: Key) -> Key | None:
        """Apply a page, whose rows changed no later than their reading; returns where the next one begins."""
        intake = self.intake
        async with intake.lock:
            page = await self.reader.page(place, self.parts.steps.polled)
            applied = await intake.apply(intake.batch("poll")._replace(observations=intake.interpreted(page)))
            if applied.written or applied.unresolved:
                self.observe(ChangesRead(self.name, "poll", len(page.rows)))
        return page.last

    async def run(self) -> None:
        """Poll for ever, `poll_interval` after the last poll, or later after a slow one."""
        every = self.parts.watch.capture.poll_interval.total_seconds()
        while True:
            await self.catch_up()
            await asyncio.sleep(pause(every, self._took))

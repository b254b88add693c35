"""What the page shows: the status report, and beside it what only the page asks for."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cdc_sync.admin.report import status_report
from cdc_sync.config import Config
from cdc_sync.core.outbox import Entry
from cdc_sync.store.protocol import CallCounts, HistoryEntry, Record
from cdc_sync.store.store import Store

CALLS = 20
"""How many of the last calls are shown."""
ENTRIES = 20
"""How many pending entries and dead letters are shown, oldest first; the command line shows all of them."""
HELD = 10
"""How many held entries of each watch are shown: they are many, and much alike."""
EVENTS = 500
"""How many of an application's events are shown, the newest."""

_LOOKED_THROUGH = 20
"""In so many of a dead letter's newest events its reply is looked for."""

HOURS = 12
BAR = 10 * 60 * 1000
"""Each bar stands for this many milliseconds."""
BARS = HOURS * 60 * 60 * 1000 // BAR

WIDTH, HEIGHT = 720, 100
_PITCH = WIDTH / BARS
_MARK = 2 * 60 * 60 * 1000
"""Every other hour is written below the chart; not too near to its end, which would cut it off."""

Verdict = Literal["good", "attention", "bad"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: the time that it begins, its numbers, and where its three parts are."""

    at: int
    acknowledged: int
    retry: int
    dead: int
    x: float
    width: float
    parts: Sequence[tuple[str, float, float]]

    @property
    def total(self) -> int:
        """All attempts in it."""
        return self.acknowledged + self.retry + self.dead


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart of calls, as the geometry of an inline SVG.

    What HelloWork acknowledged rises from the axis, what it did not hangs below it: the difference must not be one of
    colours alone. Both share one scale. `most` is what the highest bar stands for, `hours` are marks of whole hours,
    and where.
    """

    bars: Sequence[Bar]
    axis: float
    most: int
    acknowledged: int
    retry: int
    dead: int
    hours: Sequence[tuple[int, float]]


def since(now: int) -> int:
    """When the chart begins."""
    return now - now % BAR - (BARS - 1) * BAR


def chart(counts: Iterable[CallCounts], now: int) -> Chart:
    """The chart of what was counted since `since(now)`."""
    first = since(now)
    sums = [[0, 0, 0] for _ in range(BARS)]
    for count in counts:
        place = (count.step - first) // BAR
        if 0 <= place < BARS:
            for part, number in enumerate((count.acknowledged, count.retry, count.dead)):
                sums[place][part] += number
    up = max(acknowledged for acknowledged, _, _ in sums)
    down = max(retry + dead for _, retry, dead in sums)
    scale = (HEIGHT - 2) / max(up + down, 1)
    axis = 1 + up * scale if up + down else HEIGHT - 1
    bars = []
    for place, (acknowledged, retry, dead) in enumerate(sums):
        heights = (acknowledged * scale, retry * scale, dead * scale)
        parts = [
            ("acknowledged", axis - heights[0], heights[0]),
            ("retry", axis, heights[1]),
            ("dead", axis + heights[1], heights[2]),
        ]
        drawn = [(name, round(y, 2), round(height, 2)) for name, y, height in parts if height]
        x = round(place * _PITCH + 1, 2)
        bars.append(Bar(first + place * BAR, acknowledged, retry, dead, x, round(_PITCH - 2, 2), drawn))
    marks = [
        (at, round((at - first) / BAR * _PITCH, 2)) for at in range(first + -first % _MARK, now - _MARK // 3, _MARK)
    ]
    totals = [sum(bar[part] for bar in sums) for part in range(3)]
    return Chart(bars, round(axis, 2), max(up, down), totals[0], totals[1], totals[2], marks)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and the text of the reply that made it one, if there was one."""

    entry: Entry
    reply: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that the page shows, as it was at `now` (milliseconds since the epoch).

    `report` is the status report; `lags` are seconds that watches are behind; `totals` count entries by state.
    """

    now: int
    report: Mapping[str, Any]
    lags: Mapping[str, float]
    chart: Chart
    calls: Sequence[HistoryEntry]
    pending: Sequence[Entry]
    held: Mapping[str, Sequence[Entry]]
    letters: Sequence[Letter]

    @property
    def totals(self) -> Mapping[str, int]:
        """Entries of all watches, by state."""
        watches = self.report["watches"]
        return {
            "pending": sum(watch["pending"] for watch in watches),
            "held": sum(watch["held"] for watch in watches),
            "dead": sum(watch["dead_letters"] for watch in watches),
        }

    @property
    def verdict(self) -> Verdict:
        """Whether all is well: bad, if changes do not arrive; attention, if a person should decide something."""
        if self.report["conditions"] or self.totals["held"]:
            return "bad"
        return "attention" if self.totals["dead"] else "good"


async def overview(config: Config, store: Store, lags: Mapping[str, float], now: int) -> Overview:
    """Look at everything once.

    Raises:
        StoreError: the store cannot be read.
    """
    dead = await store.entries("dead", None, ENTRIES)
    report = await status_report(config, store, now)
    watches = [watch["watch"] for watch in report["watches"]]
    return Overview(
        now=now,
        report=report,
        lags=lags,
        chart=chart(await store.call_counts(since(now)), now),
        calls=await store.recent_ends(CALLS, failed=False),
        pending=await store.entries("pending", None, ENTRIES),
        held={watch: held for watch in watches if (held := await store.entries("held", watch, HELD))},
        letters=[Letter(entry, await _reply_to(store, entry)) for entry in dead],
    )


async def _reply_to(store: Store, entry: Entry) -> str | None:
    """The text of the last reply to a dead letter's call."""
    for event in reversed(await store.story(entry.application_id, entry.watch, _LOOKED_THROUGH)):
        if event.event == "dead-lettered":
            body = event.detail.get("body")
            return None if body is None else str(body)
    return None


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of the applications with an id, one for each watch that knows it."""

    application_id: str
    now: int
    chapters: Sequence[tuple[Record, Sequence[HistoryEntry]]]


async def story(store: Store, application_id: str, now: int) -> Story:
    """Look one application up.

    Raises:
        StoreError: the store cannot be read.
    """
    records, events = await asyncio.gather(
        store.records(application_id, None), store.story(application_id, None, EVENTS)
    )
    chapters = [(record, [event for event in events if event.watch == record.watch]) for record in records]
    return Story(application_id, now, chapters)

"""The chart of calls: numbers into the geometry of an inline SVG.

What HelloWork acknowledged rises from the axis, what it did not hangs below it: the difference must not be one of
colours alone. Both share one scale.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cdc_sync.store.protocol import CallCounts

HOURS = 12
BAR = 10 * 60 * 1000
"""Each bar stands for this many milliseconds."""
BARS = HOURS * 60 * 60 * 1000 // BAR

WIDTH, HEIGHT = 720, 100
_PITCH = WIDTH / BARS
_MARK = 2 * 60 * 60 * 1000
"""Every other hour is written below the chart; not too near to its end, which would cut it off."""


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
    """A whole chart; `most` is what the highest bar stands for, `hours` are marks of whole hours, and where."""

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

"""The page's charts: calls, latency, lag and pending entries of the last hours, as the geometry of inline SVGs.

The store counts the calls, of all daemons and over restarts. The other three are this process's: a sample a minute, of
which each bar keeps the largest (of latency the mean), so that no change waits for it and memory stays the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.store.protocol import CallCounts
from cdc_sync.store.store import Store

HOURS = 12
BAR = 10 * 60 * 1000
"""Each bar stands for this many milliseconds."""
BARS = HOURS * 60 * 60 * 1000 // BAR

WIDTH, HEIGHT = 720, 100
_PITCH = WIDTH / BARS
_PARTS = ("acknowledged", "retry", "dead")


@dataclass(slots=True)
class _Trend:
    """What was sampled in the time of one bar."""

    calls: int = 0
    seconds: float = 0.0
    lag: float = 0.0
    pending: int = 0


class Trends:
    """Latency, lag and pending entries over time.

    Args:
        metrics: has the calls and the lag.
        store: has the pending entries.
        clock: milliseconds since the epoch.
    """

    def __init__(self, metrics: EventMetrics, store: Store, clock: Callable[[], int]) -> None:
        self._metrics, self._store, self._clock = metrics, store, clock
        self._trends: dict[int, _Trend] = {}
        self._counted = metrics.latency()

    async def sample(self) -> None:
        """Look once; to be repeated every minute.

        Raises:
            StoreError: the store cannot be read.
        """
        pending = sum(counts.pending for counts in (await self._store.counts()).values())
        now = self._clock()
        trend = self._trends.setdefault(now - now % BAR, _Trend())
        (calls, seconds), before = self._metrics.latency(), self._counted
        self._counted = calls, seconds
        trend.calls, trend.seconds = trend.calls + calls - before[0], trend.seconds + seconds - before[1]
        trend.lag = max(trend.lag, *self._metrics.lag.capture().values(), 0.0)
        trend.pending = max(trend.pending, pending)
        self._trends = {at: trend for at, trend in self._trends.items() if since(now) <= at <= now}

    def charts(self, now: int) -> dict[str, Any]:
        """A chart each of `latency` (seconds), `lag` (seconds) and `pending`: bars, latest and largest value."""
        kept = {at: trend for at, trend in sorted(self._trends.items()) if since(now) <= at <= now}
        return {
            "latency": _chart({at: trend.seconds / trend.calls for at, trend in kept.items() if trend.calls}, now),
            "lag": _chart({at: trend.lag for at, trend in kept.items()}, now),
            "pending": _chart({at: trend.pending for at, trend in kept.items()}, now),
        }


def _chart(values: dict[int, float], now: int) -> dict[str, Any]:
    most = max(values.values(), default=0)
    bars = [
        {"at": at, "value": value, "height": round((HEIGHT - 2) * value / most, 2) if most else 0, **_place(at, now)}
        for at, value in values.items()
    ]
    return {"bars": bars, "by_bar": values, "most": most, "latest": next(reversed(values.values()), None)}


def since(now: int) -> int:
    """When the charts begin."""
    return now - now % BAR - (BARS - 1) * BAR


def _place(at: int, now: int) -> dict[str, float]:
    return {"x": round((at - since(now)) / BAR * _PITCH + 1, 2), "width": round(_PITCH - 2, 2)}


def chart(counts: Iterable[CallCounts], now: int) -> dict[str, Any]:
    """The chart of the calls that were counted since `since(now)`.

    What HelloWork acknowledged rises above the axis, what it did not goes down below it: the difference must not be one
    of colours alone. Both share one scale.
    """
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
    for place, numbers in enumerate(sums):
        rises, hangs, ends = (number * scale for number in numbers)
        parts = (("acknowledged", axis - rises, rises), ("retry", axis, hangs), ("dead", axis + hangs, ends))
        bars.append(
            {
                "at": first + place * BAR,
                **dict(zip(_PARTS, numbers, strict=True)),
                "total": sum(numbers),
                **_place(first + place * BAR, now),
                "parts": [(name, round(y, 2), round(height, 2)) for name, y, height in parts if height],
            }
        )
    return {
        "bars": bars,
        "axis": round(axis, 2),
        "hours": [first + BARS * BAR * third // 3 for third in range(4)],
        **{name: sum(bar[part] for bar in sums) for part, name in enumerate(_PARTS)},
    }

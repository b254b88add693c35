"""The page's charts: calls, latency, lag and pending entries of the last hours, in bars of ten minutes.

The store counts the calls, of all daemons and over restarts. The other three are this process's: a sample a minute, of
which each bar keeps the largest (of latency the mean), so that no change waits for it and memory stays the same. An SVG
of the page has the units of what it shows, and the browser scales it: a bar is 1 wide, and a call 1 high.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.store.protocol import CallCounts
from cdc_sync.store.store import Store

HOURS = 12
BAR = 10 * 60 * 1000
"""Each bar stands for this many milliseconds."""
BARS = HOURS * 60 * 60 * 1000 // BAR


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
    """

    def __init__(self, metrics: EventMetrics, store: Store) -> None:
        self._metrics, self._store = metrics, store
        self._trends: dict[int, _Trend] = {}
        self._counted = metrics.latency()

    async def sample(self, now: int) -> None:
        """Look once, at `now` (milliseconds since the epoch); to be repeated every minute.

        Raises:
            StoreError: the store cannot be read.
        """
        pending = sum(counts.pending for counts in (await self._store.counts()).values())
        trend = self._trends.setdefault(now - now % BAR, _Trend())
        (calls, seconds), before = self._metrics.latency(), self._counted
        self._counted = calls, seconds
        trend.calls, trend.seconds = trend.calls + calls - before[0], trend.seconds + seconds - before[1]
        trend.lag = max(trend.lag, *self._metrics.lag.capture().values(), 0.0)
        trend.pending = max(trend.pending, pending)
        self._trends = {at: trend for at, trend in self._trends.items() if since(now) <= at <= now}

    def charts(self) -> dict[str, dict[int, float]]:
        """`latency` (seconds), `lag` (seconds) and `pending`, each by when its bar begins, the latest last."""
        return {
            "latency": {at: trend.seconds / trend.calls for at, trend in self._trends.items() if trend.calls},
            "lag": {at: trend.lag for at, trend in self._trends.items()},
            "pending": {at: trend.pending for at, trend in self._trends.items()},
        }


def since(now: int) -> int:
    """When the charts begin."""
    return now - now % BAR - (BARS - 1) * BAR


def chart(counts: Iterable[CallCounts], now: int) -> dict[str, Any]:
    """The chart of the calls that were counted since `since(now)`.

    What HelloWork acknowledged rises above the axis, what it did not goes down below it: the difference must not be one
    of colours alone. Both share one scale.
    """
    first = since(now)
    bars = [{"at": first + place * BAR, "acknowledged": 0, "retry": 0, "dead": 0} for place in range(BARS)]
    for count in counts:
        place = (count.step - first) // BAR
        if 0 <= place < BARS:
            for part in ("acknowledged", "retry", "dead"):
                bars[place][part] += getattr(count, part)
    return {
        "first": first,
        "bars": bars,
        "up": max(bar["acknowledged"] for bar in bars),
        "down": max(bar["retry"] + bar["dead"] for bar in bars),
        "hours": [first + BARS * BAR * third // 3 for third in range(4)],
        **{part: sum(bar[part] for bar in bars) for part in ("acknowledged", "retry", "dead")},
    }

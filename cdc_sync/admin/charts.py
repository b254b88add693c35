"""The page's charts of the last hours."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.store import Store
from cdc_sync.store.protocol import CallCounts

HOURS = 12
BAR = 10 * 60 * 1000
"""Milliseconds of a chart's bar."""
BARS = HOURS * 60 * 60 * 1000 // BAR

_PARTS = ("acknowledged", "retry", "dead")


def since(now: int) -> int:
    """The charts' beginning; all times are in milliseconds since the epoch."""
    return now - now % BAR - (BARS - 1) * BAR


def calls_chart(counts: Iterable[CallCounts], now: int) -> dict[str, Any]:
    """The chart of calls since `since(now)`; in the SVG a call is 1 high.

    Acknowledged calls go up, others down: not by colour alone.
    """
    first = since(now)
    bars = {first + place * BAR: dict.fromkeys(_PARTS, 0) for place in range(BARS)}
    for count in counts:
        if (bar := bars.get(count.step - count.step % BAR)) is not None:
            for part in _PARTS:
                bar[part] += getattr(count, part)
    return {
        "first": first,
        "bars": [{"at": at, **bar} for at, bar in bars.items()],
        "up": max(bar["acknowledged"] for bar in bars.values()),
        "down": max(bar["retry"] + bar["dead"] for bar in bars.values()),
        "hours": [first + BARS * BAR * third // 3 for third in range(4)],
        **{part: sum(bar[part] for bar in bars.values()) for part in _PARTS},
    }


@dataclass(slots=True)
class Bar:
    """What one bar of the page's charts shows: seconds of calls, the largest lag, the most pending entries."""

    calls: int = 0
    seconds: float = 0.0
    lag: float = 0.0
    pending: int = 0


class Trends:
    """This process's last hours, sampled every minute, in `bars` by their beginnings."""

    def __init__(self, metrics: EventMetrics) -> None:
        self._metrics = metrics
        self.bars: dict[int, Bar] = {}
        self._calls, self._seconds = metrics.calls_ended, metrics.seconds_of_calls

    async def sample(self, store: Store, now: int) -> None:
        """Take a sample."""
        pending = sum(counts.pending for counts in (await store.report.counts()).values())
        bar, metrics = self.bars.setdefault(now - now % BAR, Bar()), self._metrics
        bar.calls += metrics.calls_ended - self._calls
        bar.seconds += metrics.seconds_of_calls - self._seconds
        self._calls, self._seconds = metrics.calls_ended, metrics.seconds_of_calls
        bar.lag = max(bar.lag, *metrics.lag.capture().values(), 0.0)
        bar.pending = max(bar.pending, pending)
        self.bars = {at: bar for at, bar in self.bars.items() if since(now) <= at <= now}

    def of(self, name: str) -> dict[int, float]:
        """The values of one chart by its bars' beginnings."""
        if name == "latency":
            return {at: bar.seconds / bar.calls for at, bar in self.bars.items() if bar.calls}
        return {at: getattr(bar, name) for at, bar in self.bars.items()}

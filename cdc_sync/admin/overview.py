"""Everything on the page's first screen, with its charts. Raises `StoreError`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.watches import foremost, table
from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.conditions import is_for_a_person
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.store import Store
from cdc_sync.store.protocol import CallCounts

LISTED = 20
"""The last calls and failures, the oldest pending entries and dead letters, of which commands show all."""

HOURS = 12
BAR = 10 * 60 * 1000
"""Milliseconds of a chart's bar."""
BARS = HOURS * 60 * 60 * 1000 // BAR


def since(now: int) -> int:
    """The charts' beginning; all times are in milliseconds since the epoch."""
    return now - now % BAR - (BARS - 1) * BAR


def calls_by_bar(counts: Iterable[CallCounts], now: int) -> dict[int, dict[str, int]]:
    """The numbers of calls since `since(now)`, by their ends, for each bar by its beginning."""
    ends = ("acknowledged", "retry", "dead")
    bars = {since(now) + place * BAR: dict.fromkeys(ends, 0) for place in range(BARS)}
    for count in counts:
        bar = bars.get(count.step - count.step % BAR, {})
        for end in bar:
            bar[end] += getattr(count, end)
    return bars


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

    async def sample(self, store: Store, now: int) -> None:
        """Take a sample."""
        pending = sum(counts.pending for counts in (await store.report.counts()).values())
        bar, metrics = self.bars.setdefault(now - now % BAR, Bar()), self._metrics
        bar.calls += metrics.calls_ended
        bar.seconds += metrics.seconds_of_calls
        metrics.calls_ended, metrics.seconds_of_calls = 0, 0.0
        bar.lag = max(bar.lag, *metrics.lags().values(), 0.0)
        bar.pending = max(bar.pending, pending)
        self.bars = {at: bar for at, bar in self.bars.items() if since(now) <= at <= now}

    def of(self, name: str) -> dict[int, float]:
        """The values of one chart by its bars' beginnings."""
        if name == "latency":
            return {at: bar.seconds / bar.calls for at, bar in self.bars.items() if bar.calls}
        return {at: getattr(bar, name) for at, bar in self.bars.items()}


async def overview(
    store: Store, report: Mapping[str, Any], trends: Trends, asked: Mapping[str, str], now: int
) -> dict[str, Any]:
    """What the page shows of a report at `now` (milliseconds since the epoch), for a visitor's choice of watches."""
    watches = report["watches"]
    noted = {each["name"]: each for each in report["conditions"]}
    totals = {state: sum(watch[state] for watch in watches) for state in ("pending", "held", "dead_letters")}
    shown = table(report, asked)
    held = [watch for watch in shown["rows"] if watch["held"]]
    names = [watch["watch"] for watch in held[:MOST_LISTED]]
    return {
        "report": report,
        "verdict": _verdict(report, totals),
        "conditions": foremost(noted, {watch["watch"] for watch in watches}).values(),
        "table": shown,
        "totals": totals,
        "held": held,
        "groups": await store.operation.held_groups(names) if names else [],
        "letters": await store.report.entries("dead", None, LISTED),
        "pending": await store.report.entries("pending", None, LISTED),
        "first": since(now),
        "call_bars": calls_by_bar(await store.report.call_counts(since(now)), now),
        "trends": trends,
        "calls": await _last_calls(store),
    }


def _verdict(report: Mapping[str, Any], totals: Mapping[str, int]) -> str:
    """Attention if a person should decide, bad if changes do not arrive for another reason."""
    if not all(is_for_a_person(each["name"]) for each in report["conditions"]):
        return "bad"
    return "attention" if totals["held"] or totals["dead_letters"] or report["conditions"] else "good"


async def _last_calls(store: Store) -> list[HistoryEntry]:
    """The last calls, and the last failures, which may be older."""
    calls = await store.report.recent_ends(LISTED, failed=False)
    failures = await store.report.recent_ends(LISTED, failed=True)
    older = [failure for failure in failures if failure not in calls]
    return sorted([*calls, *older], key=attrgetter("at"), reverse=True)

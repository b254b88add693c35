"""Everything on the page's first screen, with its charts. Raises `StoreError`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.watches import foremost, table
from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.conditions import is_for_a_person
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.store import Store
from cdc_sync.store.protocol import CallCounts, HeldGroup

CALLS = 20
"""The last calls, and last failures."""
ENTRIES = 20
"""The oldest pending entries and dead letters; commands show all."""
HELD = 10
"""The largest groups of held entries of a watch."""
SKIPPED = 50
"""The skipped rows, and the endpoints."""

_GROUPED = 15_000
"""Milliseconds for which groups are reused: grouping reads every held entry."""


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


@dataclass
class HeldGroups:
    """The groups of held entries, by watch, as long as they are recent and nothing was held or decided since."""

    _at: int = 0
    _of: Sequence[tuple[Any, ...]] = ()
    _groups: dict[str, list[HeldGroup]] = field(default_factory=dict)

    async def look(self, store: Store, watches: Sequence[Mapping[str, Any]], now: int) -> Mapping[str, list[HeldGroup]]:
        """The groups of these watches of a report."""
        of = [(each["watch"], each["held"], each["fuse"], each["fuse_reason"]) for each in watches]
        if of != self._of or not 0 <= now - self._at < _GROUPED:
            groups: dict[str, list[HeldGroup]] = {each["watch"]: [] for each in watches}
            for group in await store.operation.held_groups([*groups]) if groups else []:
                groups[group.watch].append(group)
            self._at, self._of, self._groups = now, of, groups
        return self._groups


async def overview(  # noqa: PLR0917 - what is shown, then how
    store: Store,
    report: Mapping[str, Any],
    lags: Mapping[str, float],
    trends: Trends,
    groups: HeldGroups,
    asked: Mapping[str, str],
    now: int,
) -> dict[str, Any]:
    """What the page shows of a report at `now` (milliseconds since the epoch), for a visitor's choice of watches.

    `lags` are seconds by watch.
    """
    watches = report["watches"]
    totals = {state: sum(watch[state] for watch in watches) for state in ("pending", "held", "dead_letters")}
    shown = table(report, lags, asked)
    held = [watch for watch in shown["rows"] if watch["held"]]
    return {
        "now": now,
        "report": report,
        "verdict": _verdict(report, totals),
        "conditions": _foremost(report),
        "table": shown,
        "totals": totals,
        "holding": [watch for watch in watches if watch["held"]],
        "held": held[:MOST_LISTED],
        "held_more": len(held[MOST_LISTED:]),
        "groups": await groups.look(store, held[:MOST_LISTED], now),
        "letters": await store.report.entries("dead", None, ENTRIES),
        "pending": await store.report.entries("pending", None, ENTRIES),
        "skipped": report["skipped_rows"][:SKIPPED],
        "endpoints": sorted(report["endpoints"], key=_is_well)[:SKIPPED],
        "chart": calls_chart(await store.report.call_counts(since(now)), now),
        "trends": {name: trends.of(name) for name in ("latency", "lag", "pending")},
        "calls": await _last_calls(store),
    }


def _foremost(report: Mapping[str, Any]) -> list[Any]:
    conditions = {each["name"]: each for each in report["conditions"]}
    return list(foremost(conditions, {watch["watch"] for watch in report["watches"]}).values())


def _verdict(report: Mapping[str, Any], totals: Mapping[str, int]) -> str:
    """Attention if a person should decide, bad if changes do not arrive for another reason."""
    if not all(is_for_a_person(each["name"]) for each in report["conditions"]):
        return "bad"
    return "attention" if totals["held"] or totals["dead_letters"] or report["conditions"] else "good"


def _is_well(endpoint: Mapping[str, Any]) -> bool:
    return endpoint["mode"] == "healthy" and not endpoint["sending_paused"]


async def _last_calls(store: Store) -> list[HistoryEntry]:
    """The last calls, and the last failures, which may be older."""
    ends = [*await store.report.recent_ends(CALLS, failed=False), *await store.report.recent_ends(CALLS, failed=True)]
    found = {(event.watch, event.application_id, event.at, event.event): event for event in ends}
    return sorted(found.values(), key=lambda event: -event.at)

"""Everything on the page's first screen, with its charts. Raises `StoreError`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from operator import attrgetter

from cdc_sync.core.conditions import is_for_a_person
from cdc_sync.core.watch_names import MOST_LISTED, matches
from cdc_sync.store import Store
from cdc_sync.store.report import CallCounts

from .metrics import FEW, EventMetrics
from .report import Json, foremost, troubled, watch_of, worst_first

LISTED = 20
"""The last calls and failures, and the oldest dead letters, of which commands show all."""

SHOWN = 50
"""Watches on the page, unless all are asked for."""

HOURS = 12
BAR = 10 * 60 * 1000
"""Milliseconds of a chart's bar."""
BARS = HOURS * 60 * 60 * 1000 // BAR

ENDS = ("acknowledged", "retry", "dead")
"""Of calls."""

Bars = dict[int, dict[str, float]]
"""The values of a chart's bars by their beginnings, each by its name, from the bottom up."""


def since(now: int) -> int:
    """The charts' beginning; all times are in milliseconds since the epoch."""
    return now - now % BAR - (BARS - 1) * BAR


def _calls_by_bar(counts: Iterable[CallCounts]) -> Bars:
    """The numbers of calls, by their ends."""
    bars = defaultdict[int, dict[str, float]](lambda: dict.fromkeys(ENDS, 0))
    for count in counts:
        bar = bars[count.step - count.step % BAR]
        for end in ENDS:
            bar[end] += getattr(count, end)
    return bars


class Trends:
    """This process's last hours, sampled every minute: the largest lag, mean latency and number of pending entries."""

    def __init__(self, metrics: EventMetrics) -> None:
        self._metrics = metrics
        self.lag: Bars = {}
        self.latency: Bars = {}
        self.pending: Bars = {}

    async def sample(self, store: Store, now: int) -> None:
        """Take a sample."""
        pending = sum(counts.pending for counts in (await store.report.counts()).values())
        metrics = self._metrics
        _add(self.lag, max(metrics.lags().values(), default=0.0), now)
        _add(self.pending, pending, now)
        if metrics.calls:
            _add(self.latency, metrics.seconds / metrics.calls, now)
        metrics.calls, metrics.seconds = 0, 0.0


def _add(bars: Bars, value: float, now: int) -> None:
    """Add a value to bars, of which only those of the charts stay."""
    bar = bars.setdefault(now - now % BAR, {"trend": value})
    bar["trend"] = max(bar["trend"], value)
    for at in bars.keys() - range(since(now), now + 1, BAR):
        del bars[at]


async def overview(store: Store, report: Json, trends: Trends, asked: Mapping[str, str], now: int) -> Json:
    """What the page shows of a report at `now` (milliseconds since the epoch), for a visitor's choice of watches."""
    shown = _table(report, asked)
    held = [watch for watch in shown["found"] if watch["held"]]
    names = [watch["watch"] for watch in held[:MOST_LISTED]]
    noted = {each["name"]: each for each in report["conditions"]}
    calls = await store.report.recent_ends(LISTED, failed=False)
    # The last failures may be older.
    calls += [each for each in await store.report.recent_ends(LISTED, failed=True) if each not in calls]
    return {
        "report": report,
        "verdict": _verdict(report),
        "conditions": [noted[name] for name in foremost(noted, {watch["watch"] for watch in report["watches"]})],
        "table": shown,
        "held": held,
        "groups": await store.operation.held_groups(names) if names else [],
        "letters": await store.report.entries("dead", None, LISTED),
        "listed": LISTED,
        "hours": HOURS,
        "step": BAR,
        "bar_count": BARS,
        "first": since(now),
        "call_bars": _calls_by_bar(await store.report.call_counts(since(now))),
        "trends": trends,
        "calls": sorted(calls, key=attrgetter("at"), reverse=True),
    }


def _verdict(report: Json) -> str:
    """Attention if a person should decide, bad if changes do not arrive for another reason."""
    if not all(is_for_a_person(each["name"]) for each in report["conditions"]):
        return "bad"
    is_undecided = any(watch["held"] or watch["dead_letters"] for watch in report["watches"])
    return "attention" if is_undecided or report["conditions"] else "good"


def _table(report: Json, asked: Mapping[str, str]) -> Json:
    """The page's watches, those with problems first.

    With more than ten only those with problems, unless a visitor asked for a part of names (`watch`), in which `%` and
    `*` stand for any characters, or for all (`show`).
    """
    shows_all, problems = asked.get("show") == "all", troubled(report)
    is_many = len(report["watches"]) > FEW
    name = asked.get("watch", "").strip() if is_many else ""
    shows_problems = is_many and not name and not shows_all
    pattern = f"*{name}*".casefold()
    found = [
        each
        for each in worst_first(report)
        if matches(pattern, each["watch"].casefold()) and (each["watch"] in problems or not shows_problems)
    ]
    conditions = defaultdict[str, list[Json]](list)
    for each in report["conditions"]:
        conditions[watch_of(each["name"])].append(each)
    return {
        "number": len(report["watches"]),
        "problems": len(problems),
        "is_many": is_many,
        "name": name,
        "shows_problems": shows_problems,
        "found": found,
        "rows": found if shows_all else found[:SHOWN],
        "conditions": conditions,
        "more": 0 if shows_all else len(found) - SHOWN,
    }

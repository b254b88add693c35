"""The metrics: counts of events, and gauges read from the store at each scrape.

A new one stands in `metrics.yaml` and `docs/metrics.md`, and is counted by a handler or set in `update`. Each change
moves six: prometheus_client's instruments would take several times as long, so it only writes the text (`exposition`).
"""

import operator
import time
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cdc_sync import __version__
from cdc_sync.admin.report import BAR, since
from cdc_sync.core import events
from cdc_sync.core.conditions import STANDBY, Conditions, kind_of, wrong
from cdc_sync.core.content import Kind
from cdc_sync.core.events import ASKED_FOR, Handlers, Outcome
from cdc_sync.core.replies import CallOutcome, is_paused
from cdc_sync.core.rows import Origin
from cdc_sync.packaged import data
from cdc_sync.store import Store
from cdc_sync.store.protocol import WatchCounts

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends, included, of the buckets of every histogram, in seconds."""

CAUSES = (*get_args(Kind), "gone", "undone", ASKED_FOR)
"""The causes of sweeps' repairs (`ats.sweep`)."""

ACTIONS = ("release", "discard", "retry", "resend", "pause", "resume", "adopt-database", "forget")
"""People's actions (`PersonActed`)."""

_OF_COUNTS: Mapping[str, Callable[[WatchCounts, int], float]] = {
    "cdc_sync_known_applications": lambda has, _: has.known,
    "cdc_sync_skipped_rows": lambda has, _: has.skipped,
    "cdc_sync_suspected_deletions": lambda has, _: has.suspected,
    "cdc_sync_last_change_timestamp_seconds": lambda has, _: (has.changed_at or 0) / 1000,
    "cdc_sync_oldest_pending_seconds": lambda has, now: max(now - (has.oldest_queued_at or now), 0) / 1000,
}
"""Gauges of what the store counts of a watch; the second argument is the time."""

MetricKind = Literal["counter", "gauge", "histogram"]


class Numbers(dict[tuple[str, ...], list[float]]):
    """A metric's numbers by its labels' values: one, or a histogram's sum and buckets, the last without an end.

    They begin at 0. `without_watch` joins those of all watches.
    """

    def __init__(
        self, name: str, kind: MetricKind, text: str, labels: Sequence[str] = (), without_watch: str = "sum"
    ) -> None:
        super().__init__()
        self.kind, self.name, self.text, self.labels = kind, name, text, labels
        joined: dict[str, Callable[[float, float], float]] = {"sum": operator.add, "max": max, "min": min}
        self._joined = joined[without_watch]
        if not labels:
            self.add(0)

    def __missing__(self, values: tuple[str, ...]) -> list[float]:
        buckets = len(BUCKETS) + 1 if self.kind == "histogram" else 0
        self[values] = numbers = [0.0] * (1 + buckets)
        return numbers

    def add(self, number: float, *values: str) -> None:
        """Count; adding 0 makes a sample of nothing."""
        self[values][0] += number

    def set(self, number: float, *values: str) -> None:
        """Set a gauge, or a counter kept elsewhere."""
        self[values][0] = number

    def replace(self, numbers: Mapping[tuple[str, ...], float]) -> None:
        """Set all samples of a gauge."""
        self.clear()
        for values, number in numbers.items():
            self.set(number, *values)

    def of_all_watches(self, aside: Container[str] = ()) -> "Numbers":
        """The same without the label `watch` and the watches `aside`."""
        if "watch" not in self.labels:
            return self
        place = self.labels.index("watch")
        joined = Numbers(self.name, self.kind, self.text, [label for label in self.labels if label != "watch"])
        joined.clear()
        for values, numbers in self.items():
            if values[place] not in aside:
                key = values[:place] + values[place + 1 :]
                before = dict.get(joined, key)
                joined[key] = list(numbers if before is None else map(self._joined, before, numbers))
        return joined


class Lag:
    """How long ago each watch was last read completely, or began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._complete_until: dict[str, float] = {}

    def handlers(self) -> Handlers:
        """The events that show capture's progress."""
        return {
            events.LeadTaken: lambda e: self._begin(*e.watches),
            events.Reloaded: lambda e: self._begin(*e.watches),
            events.TenantsFound: lambda e: self._begin(*e.watches),
            events.WatchConnected: lambda e: self._begin(e.watch),
            events.CaughtUp: self._looked,
            events.SweepDone: self._looked,
            # The baseline has a condition of its own.
            events.BaselineProgress: lambda e: self._complete_until.update({e.watch: self._clock()}),
            # The daemon that reads it knows.
            events.WatchStandsBy: lambda e: self._end(e.watch, for_good=True),
            events.WatchEnded: lambda e: self._end(e.watch, for_good=e.for_good),
            events.LeadLost: self._lead_lost,
        }

    def _begin(self, *watches: str) -> None:
        for watch in watches:
            self._complete_until.setdefault(watch, self._clock())

    def _looked(self, event: events.CaughtUp | events.SweepDone) -> None:
        # A look finds what was committed before it began.
        began = self._clock() - event.seconds
        self._complete_until[event.watch] = max(self._complete_until.get(event.watch, began), began)

    def _lead_lost(self, _: events.LeadLost) -> None:
        self._complete_until.clear()

    def _end(self, watch: str, *, for_good: bool) -> None:
        if for_good:
            self._complete_until.pop(watch, None)

    def capture(self) -> dict[str, float]:
        """Seconds for which changes may be unread, by watch."""
        now = self._clock()
        return {watch: now - until for watch, until in self._complete_until.items()}


class EventMetrics:
    """The process's metrics; `per_watch`: with the label `watch`."""

    def __init__(self) -> None:
        self.lag = Lag()
        self.per_watch = True
        self._of = of = {name: Numbers(name, **each) for name, each in data("admin/metrics.yaml").items()}
        self.metrics = list(of.values())
        # Each change moves these.
        self._keys, self._decisions = of["cdc_sync_captured_keys"], of["cdc_sync_decisions"]
        self._calls, self._seconds = of["cdc_sync_calls"], of["cdc_sync_call_seconds"]
        self._waited = of["cdc_sync_queue_seconds"]
        of["cdc_sync_build_info"].set(1, __version__)
        for outcome in ("applied", "refused"):
            of["cdc_sync_reloads"].add(0, outcome)

    def latency(self) -> tuple[int, float]:
        """The number of ended calls, and their seconds since queueing in all."""
        calls = sum(sum(buckets) for _, *buckets in self._seconds.values())
        return int(calls), sum(seconds for of in (self._seconds, self._waited) for seconds, *_ in of.values())

    def collect(self) -> Iterator[Numbers]:
        """All metrics, joined over all watches if not `per_watch`."""
        if self.per_watch:
            return iter(self.metrics)
        # A watch on standby need not be connected.
        standby = {watch for (watch,), (is_so,) in self._of["cdc_sync_watch_standby"].items() if is_so}
        connected = self._of["cdc_sync_watch_connected"]
        return (numbers.of_all_watches(standby if numbers is connected else ()) for numbers in self.metrics)

    def handlers(self) -> Handlers:
        """The events that are counted."""
        of = self._of
        return {
            events.LeadTaken: lambda e: self._lead(e.watches),
            events.Reloaded: self._reloaded,
            events.ReloadRefused: lambda _: of["cdc_sync_reloads"].add(1, "refused"),
            events.TenantsFound: lambda e: self._begin(e.watches),
            events.WatchEnded: self._watch_ended,
            events.WatchConnected: lambda e: of["cdc_sync_watch_connected"].set(1, e.watch),
            events.WatchLost: lambda e: of["cdc_sync_watch_connected"].set(0, e.watch),
            events.WatchStandsBy: lambda e: of["cdc_sync_watch_connected"].set(0, e.watch),
            events.LeadLost: self._lead_lost,
            events.StandsBy: lambda _: of["cdc_sync_leading"].set(0),
            events.ChangesRead: self._changes_read,
            events.Decided: self._decided,
            events.CallEnded: self._call_ended,
            events.ChangesMissed: lambda e: of["cdc_sync_missed_changes"].add(e.number, e.watch),
            events.SweepDone: self._sweep_done,
            events.NotifyQueueSeen: lambda e: of["cdc_sync_notify_queue_usage_ratio"].set(e.usage, e.watch),
            events.TokenRefused: lambda _: of["cdc_sync_admin_refused_tokens"].add(1),
            events.ConnectionDisplaced: lambda _: of["cdc_sync_admin_displaced_connections"].add(1),
        }

    def _lead(self, watches: tuple[str, ...]) -> None:
        self._of["cdc_sync_leading"].set(1)
        self._begin(watches)

    def _begin(self, watches: tuple[str, ...]) -> None:
        """Give watches samples of 0, so that alerts see them and the first event is an increase."""
        for watch in watches:
            self._of["cdc_sync_watch_connected"].set(0, watch)
            for numbers in (self._of["cdc_sync_missed_changes"], self._seconds, self._waited):
                numbers.add(0, watch)
            for counter, values in (
                (self._keys, get_args(Origin)),
                (self._decisions, get_args(Outcome)),
                (self._calls, get_args(CallOutcome)),
                (self._of["cdc_sync_sweep_repairs"], CAUSES),
            ):
                for value in values:
                    counter.add(0, watch, value)

    def _lead_lost(self, _: events.LeadLost) -> None:
        self._of["cdc_sync_leading"].set(0)
        # The leader knows.
        for name in ("cdc_sync_watch_connected", "cdc_sync_notify_queue_usage_ratio"):
            self._of[name].clear()

    # Three per change, so without `add`.

    def _changes_read(self, event: events.ChangesRead) -> None:
        self._keys[event.watch, event.origin][0] += event.keys

    def _decided(self, event: events.Decided) -> None:
        self._decisions[event.watch, event.outcome][0] += 1

    def _reloaded(self, event: events.Reloaded) -> None:
        self._of["cdc_sync_reloads"].add(1, "applied")
        self._begin(event.begun)

    def _watch_ended(self, event: events.WatchEnded) -> None:
        self._of["cdc_sync_watch_connected"].set(0, event.watch)
        if event.for_good:
            del self._of["cdc_sync_watch_connected"][event.watch,]

    def _call_ended(self, event: events.CallEnded) -> None:
        self._calls[event.watch, event.outcome][0] += 1
        for numbers, seconds in ((self._seconds, event.seconds), (self._waited, event.waited)):
            of_watch = numbers[event.watch,]
            of_watch[0] += seconds
            of_watch[1 + bisect_left(BUCKETS, seconds)] += 1

    def _sweep_done(self, event: events.SweepDone) -> None:
        self._of["cdc_sync_sweep_seconds"].set(event.seconds, event.watch)
        for cause, number in event.repaired.items():
            self._of["cdc_sync_sweep_repairs"].add(number, event.watch, cause)

    async def update(self, store: Store, conditions: Conditions, now: int) -> None:
        """Set the gauges; `now` is in milliseconds. Raises `StoreError`."""
        of = self._of
        counted, fuses = await store.report.counts(), await store.operation.fuses()
        # As a whole: a forgotten watch has no sample.
        of["cdc_sync_outbox_entries"].replace(
            {
                (watch, state): number
                for watch, has in counted.items()
                for state, number in (("pending", has.pending), ("held", has.held), ("dead", has.dead))
            }
        )
        for name, number_of in _OF_COUNTS.items():
            of[name].replace({(watch,): number_of(counts, now) for watch, counts in counted.items()})
        of["cdc_sync_fuse_blown"].replace({(watch,): fuse.blown_at is not None for watch, fuse in fuses.items()})
        of["cdc_sync_capture_lag_seconds"].replace({(watch,): lag for watch, lag in self.lag.capture().items()})
        of["cdc_sync_clock_skew_seconds"].set(store.driver.clock.skew / 1000 if store.driver.clock.shared else 0)
        due_now, paused = now - store.driver.clock.shift, await store.operation.paused()
        for endpoint, (health, due_at) in (await store.delivery.endpoints()).items():
            on_purpose = is_paused(paused, endpoint)
            late = 0 if due_at is None or on_purpose else max(due_now - due_at, 0) / 1000
            of["cdc_sync_delivery_lag_seconds"].set(late, endpoint)
            of["cdc_sync_sending_paused"].set(on_purpose, endpoint)
            # Without an entry no call could end the alarm.
            of["cdc_sync_endpoint_healthy"].set(health.mode == "healthy" or due_at is None, endpoint)
        for action, number in {**dict.fromkeys(ACTIONS, 0), **await store.operation.count_actions()}.items():
            of["cdc_sync_human_actions"].set(number, action)
        of["cdc_sync_conditions"].set(len(wrong(conditions)))
        of["cdc_sync_store_ok"].set(not any(kind_of(name) == "store" for name in conditions))
        for name, kind in (("cdc_sync_watch_standby", STANDBY), ("cdc_sync_rows_may_be_hidden", "row security")):
            of[name].replace({(each,): f"{kind} {each}" in conditions for (each,) in of["cdc_sync_watch_connected"]})


@dataclass(slots=True)
class Bar:
    """One bar of the page's charts."""

    calls: int = 0
    seconds: float = 0.0
    lag: float = 0.0
    pending: int = 0


class Trends:
    """This process's last hours, sampled every minute, in `bars` by their beginnings.

    Lag and pending are each bar's largest.
    """

    def __init__(self, metrics: EventMetrics) -> None:
        self._metrics = metrics
        self.bars: dict[int, Bar] = {}
        self._counted = metrics.latency()

    async def sample(self, store: Store, now: int) -> None:
        """Take a sample at `now`, in milliseconds since the epoch."""
        pending = sum(counts.pending for counts in (await store.report.counts()).values())
        bar = self.bars.setdefault(now - now % BAR, Bar())
        (calls, seconds), before = self._metrics.latency(), self._counted
        self._counted = calls, seconds
        bar.calls, bar.seconds = bar.calls + calls - before[0], bar.seconds + seconds - before[1]
        bar.lag = max(bar.lag, *self._metrics.lag.capture().values(), 0.0)
        bar.pending = max(bar.pending, pending)
        self.bars = {at: bar for at, bar in self.bars.items() if since(now) <= at <= now}

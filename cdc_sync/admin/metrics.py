"""The metrics: counts of events, and gauges read from the status report at each scrape.

A new one stands in `metrics.yaml` and `docs/metrics.md`, and is counted by a handler or set in `update`. With more than
ten watches the label `watch` is empty, and a metric is that of all of them: their numbers are summed, or the worst is
taken.
"""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from cdc_sync import __version__
from cdc_sync.admin.watches import FEW
from cdc_sync.core import events
from cdc_sync.core.conditions import STANDBY, Conditions, kind_of, wrong
from cdc_sync.core.content import Kind
from cdc_sync.core.events import ASKED_FOR, Handlers, Outcome
from cdc_sync.core.replies import CallOutcome
from cdc_sync.core.rows import Origin
from cdc_sync.packaged import data
from cdc_sync.store import Store

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends, included, of the buckets of every histogram, in seconds."""

CAUSES = (*get_args(Kind), "gone", "undone", ASKED_FOR)
"""The causes of sweeps' repairs (`ats.sweep`)."""

ACTIONS = ("release", "discard", "retry", "resend", "pause", "resume", "adopt-database", "forget")
"""People's actions (`PersonActed`)."""

_FROM_0: Mapping[str, Collection[tuple[str, ...]]] = {
    "cdc_sync_missed_changes": [()],
    "cdc_sync_call_seconds": [()],
    "cdc_sync_queue_seconds": [()],
    "cdc_sync_captured_keys": [(origin,) for origin in get_args(Origin)],
    "cdc_sync_decisions": [(outcome,) for outcome in get_args(Outcome)],
    "cdc_sync_calls": [(outcome,) for outcome in get_args(CallOutcome)],
    "cdc_sync_sweep_repairs": [(cause,) for cause in CAUSES],
}
"""The other label's values of a watch's samples from its beginning, so that the first event is an increase."""

_OF_WATCH: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "cdc_sync_known_applications": lambda watch: watch["known"],
    "cdc_sync_skipped_rows": lambda watch: watch["skipped"],
    "cdc_sync_suspected_deletions": lambda watch: watch["suspected_deletions"],
    "cdc_sync_oldest_pending_seconds": lambda watch: watch["oldest_pending_seconds"] or 0,
    "cdc_sync_fuse_blown": lambda watch: watch["fuse"] == "blown",
    "cdc_sync_last_change_timestamp_seconds": lambda watch: _timestamp(watch["last_change_at"]),
}
"""Gauges of what the report says of a watch."""

_STATES = {"pending": "pending", "held": "held", "dead": "dead_letters"}
"""The report's names of entries by state."""

_JOINED: Mapping[str, Callable[[Collection[float]], float]] = {"sum": sum, "max": max, "min": min}

disable_created_metrics()  # type: ignore[no-untyped-call]


def _timestamp(instant: str | None) -> float:
    return datetime.fromisoformat(instant).timestamp() if instant else 0


class Lag:
    """How long ago each watch was last read completely, or began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._complete_until: dict[str, float] = {}

    def handlers(self) -> Handlers:
        """The events that show capture's progress."""
        return {
            events.LeadTaken: lambda e: self._begin(*e.watches),
            events.Reloaded: self._reloaded,
            events.TenantsFound: lambda e: self._begin(*e.watches),
            events.WatchConnected: lambda e: self._begin(e.watch),
            events.CaughtUp: self._looked,
            events.SweepDone: self._looked,
            # The baseline has a condition of its own.
            events.BaselineProgress: lambda e: self._complete_until.update({e.watch: self._clock()}),
            # The daemon that reads it knows.
            events.WatchStandsBy: lambda e: self._end(e.watch),
            events.WatchEnded: lambda e: self._end(e.watch),
            events.LeadLost: lambda _: self._complete_until.clear(),
        }

    def _begin(self, *watches: str) -> None:
        for watch in watches:
            self._complete_until.setdefault(watch, self._clock())

    def _end(self, watch: str) -> None:
        self._complete_until.pop(watch, None)

    def _looked(self, event: events.CaughtUp | events.SweepDone) -> None:
        # A look finds what was committed before it began.
        began = self._clock() - event.seconds
        self._complete_until[event.watch] = max(self._complete_until.get(event.watch, began), began)

    def _reloaded(self, event: events.Reloaded) -> None:
        # One that begins again still lags.
        self._complete_until = {watch: until for watch, until in self._complete_until.items() if watch in event.watches}
        self._begin(*event.watches)

    def capture(self) -> dict[str, float]:
        """Seconds for which changes may be unread, by watch."""
        now = self._clock()
        return {watch: now - until for watch, until in self._complete_until.items()}


class EventMetrics:
    """The process's metrics.

    Attributes:
        calls_ended: the number of ended calls.
        seconds_of_calls: how long they took in all, from queueing on.
    """

    def __init__(self) -> None:
        self.lag = Lag()
        self.calls_ended, self.seconds_of_calls = 0, 0.0
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._of: dict[str, Any] = {}
        self._joined: dict[str, Callable[[Collection[float]], float]] = {}
        for name, about in data("admin/metrics.yaml").items():
            self._of[name] = _made(name, about, self._registry)
            self._joined[name] = _JOINED[about.get("of_all", "sum")]
        self._gauges = [each for each in self._of.values() if isinstance(each, Gauge)]
        # By watch, since of many the worst is shown.
        self._seen = {
            name: dict[str, float]() for name in ("watch_connected", "sweep_seconds", "notify_queue_usage_ratio")
        }
        self._connected = self._seen["watch_connected"]
        # Each change moves several.
        self._counted = cache(lambda name, *labels: self._of[name].labels(*labels))
        for outcome in ("applied", "refused"):
            self._of["cdc_sync_reloads"].labels(outcome)

    def handlers(self) -> Handlers:
        """The events that are counted."""
        of = self._of
        return {
            events.LeadTaken: lambda e: self._lead(e.watches),
            events.Reloaded: self._reloaded,
            events.ReloadRefused: lambda _: of["cdc_sync_reloads"].labels("refused").inc(),
            events.TenantsFound: lambda e: self._begin(e.watches),
            events.WatchEnded: self._watch_ended,
            events.WatchConnected: lambda e: self._connected.update({e.watch: 1}),
            events.WatchLost: lambda e: self._connected.update({e.watch: 0}),
            events.WatchStandsBy: lambda e: self._connected.update({e.watch: 0}),
            events.LeadLost: self._lead_lost,
            events.StandsBy: lambda _: of["cdc_sync_leading"].set(0),
            events.ChangesRead: lambda e: self._count("captured_keys", e.watch, e.origin, number=e.keys),
            events.Decided: lambda e: self._count("decisions", e.watch, e.outcome),
            events.CallEnded: self._call_ended,
            events.ChangesMissed: lambda e: self._count("missed_changes", e.watch, number=e.number),
            events.SweepDone: self._sweep_done,
            events.NotifyQueueSeen: lambda e: self._seen["notify_queue_usage_ratio"].update({e.watch: e.usage}),
            events.TokenRefused: lambda _: of["cdc_sync_admin_refused_tokens"].inc(),
            events.ConnectionDisplaced: lambda _: of["cdc_sync_admin_displaced_connections"].inc(),
        }

    def _label(self, watch: str) -> str:
        """The label `watch` of counters: empty if there are many."""
        return watch if len(self._connected) <= FEW else ""

    def _count(self, name: str, watch: str, *values: str, number: float = 1) -> None:
        self._counted(f"cdc_sync_{name}", self._label(watch), *values).inc(number)

    def _lead(self, watches: Collection[str]) -> None:
        self._of["cdc_sync_leading"].set(1)
        self._begin(watches)

    def _begin(self, watches: Collection[str]) -> None:
        self._connected.update(dict.fromkeys(watches, 0))
        for label in {self._label(watch) for watch in watches}:
            for name, values in _FROM_0.items():
                for others in values:
                    self._counted(name, label, *others)

    def _lead_lost(self, _: events.LeadLost) -> None:
        self._of["cdc_sync_leading"].set(0)
        # The leader knows.
        self._connected.clear()
        self._seen["notify_queue_usage_ratio"].clear()

    def _reloaded(self, event: events.Reloaded) -> None:
        self._of["cdc_sync_reloads"].labels("applied").inc()
        self._connected.clear()
        self._begin(event.watches)

    def _watch_ended(self, event: events.WatchEnded) -> None:
        self._connected.pop(event.watch, None)

    def _call_ended(self, event: events.CallEnded) -> None:
        label = self._label(event.watch)
        self._counted("cdc_sync_calls", label, event.outcome).inc()
        self._counted("cdc_sync_call_seconds", label).observe(event.seconds)
        self._counted("cdc_sync_queue_seconds", label).observe(event.waited)
        self.calls_ended += 1
        self.seconds_of_calls += event.seconds + event.waited

    def _sweep_done(self, event: events.SweepDone) -> None:
        self._seen["sweep_seconds"][event.watch] = event.seconds
        for cause, number in event.repaired.items():
            self._count("sweep_repairs", event.watch, cause, number=number)

    async def exposed(
        self, report: Mapping[str, Any], store: Store, conditions: Conditions, accepted: str
    ) -> tuple[bytes, str]:
        """The text of `/metrics` at a status report, as a scraper accepts it, and its content type.

        Raises:
            StoreError: the store cannot be read.
        """
        actions = {**dict.fromkeys(ACTIONS, 0), **await store.operation.count_actions()}
        for gauge in self._gauges:
            gauge.clear()
        self._show_watches(report, conditions)
        self._show_endpoints(report)
        of, clock = self._of, store.driver.clock
        for action, number in actions.items():
            counter = of["cdc_sync_human_actions"].labels(action)
            counter.reset()
            counter.inc(number)
        of["cdc_sync_build_info"].labels(__version__).set(1)
        of["cdc_sync_clock_skew_seconds"].set(clock.skew / 1000 if clock.shared else 0)
        of["cdc_sync_conditions"].set(len(wrong(conditions)))
        of["cdc_sync_store_ok"].set(not any(kind_of(name) == "store" for name in conditions))
        try:
            encode, content_type = choose_encoder(accepted)
        except TypeError:  # the version is no number
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def _show_watches(self, report: Mapping[str, Any], conditions: Conditions) -> None:
        watches = report["watches"]
        is_many = max(len(watches), len(self._connected)) > FEW

        def show(name: str, numbers: Mapping[str, float], *values: str) -> None:
            shown = {"": self._joined[name](numbers.values())} if is_many and numbers else numbers
            for watch, number in shown.items():
                self._of[name].labels(watch, *values).set(number)

        for name, number_of in _OF_WATCH.items():
            show(name, {watch["watch"]: number_of(watch) for watch in watches})
        for state, field in _STATES.items():
            show("cdc_sync_outbox_entries", {watch["watch"]: watch[field] for watch in watches}, state)
        for name, kind in (("cdc_sync_watch_standby", STANDBY), ("cdc_sync_rows_may_be_hidden", "row security")):
            show(name, {watch: f"{kind} {watch}" in conditions for watch in self._connected})
        show("cdc_sync_capture_lag_seconds", self.lag.capture())
        # Of many, one that stands by need not be connected.
        aside = {watch for watch in self._connected if is_many and f"{STANDBY} {watch}" in conditions}
        connected = {watch: number for watch, number in self._connected.items() if watch not in aside}
        for name, numbers in {**self._seen, "watch_connected": connected}.items():
            show(f"cdc_sync_{name}", numbers)

    def _show_endpoints(self, report: Mapping[str, Any]) -> None:
        for each in report["endpoints"]:
            name, late, is_paused = each["endpoint"], each["late_seconds"], each["sending_paused"]
            self._of["cdc_sync_delivery_lag_seconds"].labels(name).set(0 if is_paused else late or 0)
            self._of["cdc_sync_sending_paused"].labels(name).set(is_paused)
            # Without an entry no call could end the alarm.
            self._of["cdc_sync_endpoint_healthy"].labels(name).set(each["mode"] == "healthy" or late is None)


def _made(name: str, about: Mapping[str, Any], registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    """An instrument as `metrics.yaml` describes it."""
    text, labels = about["text"], about.get("labels", ())
    if about["kind"] == "histogram":
        return Histogram(name, text, labels, registry=registry, buckets=BUCKETS)
    return (Counter if about["kind"] == "counter" else Gauge)(name, text, labels, registry=registry)

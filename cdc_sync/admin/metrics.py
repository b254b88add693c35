"""The metrics: counts of events, and gauges read from the status report at each scrape.

A new one stands in `metrics.yaml` and `docs/metrics.md`, and is counted by a handler or set in `exposed`. With more
than ten watches the label `watch` is empty, and a metric is that of all of them: their numbers are summed, or the worst
is taken.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from cdc_sync import __version__
from cdc_sync.admin.watches import FEW
from cdc_sync.core import events
from cdc_sync.core.conditions import Conditions, kind_of, wrong
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

_FROM_0: Mapping[str, Collection[str]] = {
    "cdc_sync_captured_keys": get_args(Origin),
    "cdc_sync_decisions": get_args(Outcome),
    "cdc_sync_calls": get_args(CallOutcome),
    "cdc_sync_sweep_repairs": CAUSES,
}
"""The other label's values of a watch's samples from its beginning, so that the first event is an increase."""

_OF_WATCH: Mapping[tuple[str, ...], Callable[[Mapping[str, Any]], float]] = {
    ("cdc_sync_known_applications",): itemgetter("known"),
    ("cdc_sync_outbox_entries", "pending"): itemgetter("pending"),
    ("cdc_sync_outbox_entries", "held"): itemgetter("held"),
    ("cdc_sync_outbox_entries", "dead"): itemgetter("dead_letters"),
    ("cdc_sync_skipped_rows",): itemgetter("skipped"),
    ("cdc_sync_suspected_deletions",): itemgetter("suspected_deletions"),
    ("cdc_sync_oldest_pending_seconds",): lambda watch: watch["oldest_pending_seconds"] or 0,
    ("cdc_sync_fuse_blown",): lambda watch: watch["fuse"] == "blown",
    ("cdc_sync_last_change_timestamp_seconds",): lambda watch: _timestamp(watch["last_change_at"]),
}
"""Gauges of what the report says of a watch, with the other label's value."""

_METRICS = data("admin/metrics.yaml")

_KINDS: Mapping[str, Callable[..., Any]] = {
    "counter": Counter,
    "gauge": Gauge,
    "histogram": partial(Histogram, buckets=BUCKETS),
}

_JOINED: Mapping[str, Callable[[Collection[float]], float]] = {"sum": sum, "max": max, "min": min}

disable_created_metrics()  # type: ignore[no-untyped-call]


def _timestamp(instant: str | None) -> float:
    return datetime.fromisoformat(instant).timestamp() if instant else 0


@dataclass(frozen=True, slots=True)
class Captured:
    """What events say of a watch.

    Attributes:
        complete_until: when its last complete read, or it itself, began, by the monotonic clock; None while another
            store's daemon captures it.
        connected: 1 if its database is connected.
        sweep: how long the last sweep took, in seconds.
        queue: the used share of the server's NOTIFY queue.
    """

    complete_until: float | None
    connected: int = 0
    sweep: float | None = None
    queue: float | None = None


class EventMetrics:
    """The process's metrics.

    Attributes:
        calls_ended: the number of ended calls.
        seconds_of_calls: how long they took in all, from queueing on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls_ended, self.seconds_of_calls = 0, 0.0
        self._clock = clock
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._of: dict[str, Any] = {
            name: _KINDS[kind](name, about["text"], about.get("labels", ()), registry=self._registry)
            for kind, metrics in _METRICS.items()
            for name, about in metrics.items()
        }
        self._captured: dict[str, Captured] = {}
        for outcome in ("applied", "refused"):
            self._of["cdc_sync_reloads"].labels(outcome)

    def handlers(self) -> Handlers:
        """The events that are counted."""
        of = self._of
        return {
            events.LeadTaken: self._lead_taken,
            events.LeadLost: self._follow,
            events.StandsBy: self._follow,
            events.Reloaded: self._reloaded,
            events.ReloadRefused: lambda _: of["cdc_sync_reloads"].labels("refused").inc(),
            events.TenantsFound: lambda e: self._begin(e.watches),
            events.WatchEnded: self._watch_ended,
            events.WatchConnected: lambda e: self._reached(e.watch, connected=1),
            events.WatchLost: lambda e: self._reached(e.watch, connected=0),
            events.WatchStandsBy: lambda e: self._see(e.watch, complete_until=None, connected=0),
            # The baseline has a condition of its own.
            events.BaselineProgress: lambda e: self._see(e.watch, complete_until=self._clock()),
            events.CaughtUp: self._looked,
            events.SweepDone: self._sweep_done,
            events.NotifyQueueSeen: lambda e: self._see(e.watch, queue=e.usage),
            events.ChangesRead: lambda e: self._count("cdc_sync_captured_keys", e.watch, e.origin).inc(e.keys),
            events.Decided: lambda e: self._count("cdc_sync_decisions", e.watch, e.outcome).inc(),
            events.CallEnded: self._call_ended,
            events.ChangesMissed: lambda e: self._count("cdc_sync_missed_changes", e.watch).inc(e.number),
            events.TokenRefused: lambda _: of["cdc_sync_admin_refused_tokens"].inc(),
            events.ConnectionDisplaced: lambda _: of["cdc_sync_admin_displaced_connections"].inc(),
        }

    def lags(self) -> dict[str, float]:
        """Seconds for which changes may be unread, by watch."""
        now, captured = self._clock(), self._captured
        return {watch: now - of.complete_until for watch, of in captured.items() if of.complete_until is not None}

    def _count(self, name: str, watch: str, *values: str) -> Any:
        """A counter or histogram; its label `watch` is empty if there are many."""
        return self._of[name].labels(watch if len(self._captured) <= FEW else "", *values)

    def _see(self, watch: str, **seen: Any) -> None:
        before = self._captured.get(watch) or Captured(self._clock())
        self._captured[watch] = replace(before, **seen)

    def _reached(self, watch: str, *, connected: int) -> None:
        """This daemon captures it, and knows whether its database is connected."""
        self._see(watch, connected=connected)
        if self._captured[watch].complete_until is None:
            self._see(watch, complete_until=self._clock())

    def _begin(self, watches: Collection[str]) -> None:
        for watch in watches:
            self._reached(watch, connected=0)
        for watch in watches:
            for name in ("cdc_sync_missed_changes", "cdc_sync_call_seconds", "cdc_sync_queue_seconds"):
                self._count(name, watch)
            for name, values in _FROM_0.items():
                for value in values:
                    self._count(name, watch, value)

    def _lead_taken(self, event: events.LeadTaken) -> None:
        self._of["cdc_sync_leading"].set(1)
        self._begin(event.watches)

    def _follow(self, _: events.LeadLost | events.StandsBy) -> None:
        self._of["cdc_sync_leading"].set(0)
        self._captured.clear()  # the leader knows

    def _reloaded(self, event: events.Reloaded) -> None:
        self._of["cdc_sync_reloads"].labels("applied").inc()
        # One that begins again still lags.
        self._captured = {watch: of for watch, of in self._captured.items() if watch in event.watches}
        self._begin(event.watches)

    def _watch_ended(self, event: events.WatchEnded) -> None:
        self._captured.pop(event.watch, None)

    def _looked(self, event: events.CaughtUp | events.SweepDone) -> None:
        # A look finds what was committed before it began.
        began = self._clock() - event.seconds
        before = self._captured.get(event.watch)
        until = before.complete_until if before else None
        self._see(event.watch, complete_until=began if until is None else max(until, began))

    def _sweep_done(self, event: events.SweepDone) -> None:
        self._looked(event)
        self._see(event.watch, sweep=event.seconds)
        for cause, number in event.repaired.items():
            self._count("cdc_sync_sweep_repairs", event.watch, cause).inc(number)

    def _call_ended(self, event: events.CallEnded) -> None:
        self._count("cdc_sync_calls", event.watch, event.outcome).inc()
        self._count("cdc_sync_call_seconds", event.watch).observe(event.seconds)
        self._count("cdc_sync_queue_seconds", event.watch).observe(event.waited)
        self.calls_ended += 1
        self.seconds_of_calls += event.seconds + event.waited

    async def exposed(self, report: Mapping[str, Any], store: Store, conditions: Conditions) -> bytes:
        """The text of `/metrics` at a status report.

        Raises:
            StoreError: the store cannot be read.
        """
        actions = {**dict.fromkeys(ACTIONS, 0), **await store.operation.count_actions()}
        of, clock = self._of, store.driver.clock
        for action, number in actions.items():
            counter = of["cdc_sync_human_actions"].labels(action)
            counter.reset()
            counter.inc(number)
        for name in _METRICS["gauge"]:
            of[name].clear()
        self._show_watches(report["watches"], conditions)
        self._show_endpoints(report)
        of["cdc_sync_build_info"].labels(__version__).set(1)
        of["cdc_sync_clock_skew_seconds"].set(clock.skew / 1000 if clock.shared else 0)
        of["cdc_sync_conditions"].set(len(wrong(conditions)))
        of["cdc_sync_store_ok"].set(not any(kind_of(name) == "store" for name in conditions))
        return generate_latest(self._registry)

    def _show_watches(self, watches: Collection[Mapping[str, Any]], conditions: Conditions) -> None:
        captured = self._captured
        is_many = max(len(watches), len(captured)) > FEW

        def show(name: str, numbers: Mapping[str, float | None], *values: str) -> None:
            known = {watch: number for watch, number in numbers.items() if number is not None}
            if is_many and known:
                known = {"": _JOINED[_METRICS["gauge"][name].get("of_all", "sum")](known.values())}
            for watch, number in known.items():
                self._of[name].labels(watch, *values).set(number)

        for (name, *values), number_of in _OF_WATCH.items():
            show(name, {watch["watch"]: number_of(watch) for watch in watches}, *values)
        show("cdc_sync_capture_lag_seconds", self.lags())
        show("cdc_sync_sweep_seconds", {watch: of.sweep for watch, of in captured.items()})
        show("cdc_sync_notify_queue_usage_ratio", {watch: of.queue for watch, of in captured.items()})
        show("cdc_sync_rows_may_be_hidden", {watch: f"row security {watch}" in conditions for watch in captured})
        standby = {watch: of.complete_until is None for watch, of in captured.items()}
        show("cdc_sync_watch_standby", standby)
        # Of many, one that stands by need not be connected.
        connected = {watch: of.connected for watch, of in captured.items() if not (is_many and standby[watch])}
        show("cdc_sync_watch_connected", connected)

    def _show_endpoints(self, report: Mapping[str, Any]) -> None:
        for each in report["endpoints"]:
            name, late, is_paused = each["endpoint"], each["late_seconds"], each["sending_paused"]
            self._of["cdc_sync_delivery_lag_seconds"].labels(name).set(0 if is_paused else late or 0)
            self._of["cdc_sync_sending_paused"].labels(name).set(is_paused)
            # Without an entry no call could end the alarm.
            self._of["cdc_sync_endpoint_healthy"].labels(name).set(each["mode"] == "healthy" or late is None)

"""The metrics: counts of events, and gauges read from the status report at each scrape.

A new one stands in `metrics.yaml` and `docs/metrics.md`, and is counted by a handler or set in `exposed`. With more
than ten watches the label `watch` is empty, and a metric is that of all of them: their numbers are summed, or the worst
is taken.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import cache, partial
from typing import Any, get_args

import prometheus_client

from cdc_sync import __version__
from cdc_sync.core import events
from cdc_sync.core.conditions import STANDBY, Conditions, kind_of, wrong
from cdc_sync.core.content import Kind
from cdc_sync.core.events import ASKED_FOR, Handlers, Outcome
from cdc_sync.core.replies import CallOutcome
from cdc_sync.core.rows import Origin
from cdc_sync.packaged import data
from cdc_sync.store.clock import Clock

from .report import Json

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends, included, of the buckets of every histogram, in seconds."""

CAUSES = (*get_args(Kind), "gone", "undone", ASKED_FOR)
"""The causes of sweeps' repairs (`ats.sweep`)."""

ACTIONS = ("release", "discard", "retry", "resend", "pause", "resume", "forget")
"""People's actions (`PersonActed`)."""

FEW = 10
"""More watches share their metrics, and are shown as a choice."""

_OTHER_LABEL: Mapping[str, Collection[str]] = {
    "cdc_sync_captured_keys": get_args(Origin),
    "cdc_sync_decisions": get_args(Outcome),
    "cdc_sync_calls": get_args(CallOutcome),
    "cdc_sync_sweep_repairs": CAUSES,
}
"""The values of the label beside `watch`, by counter."""

_OF_WATCH: Mapping[tuple[str, ...], str] = {
    ("cdc_sync_known_applications",): "known",
    ("cdc_sync_outbox_entries", "pending"): "pending",
    ("cdc_sync_outbox_entries", "held"): "held",
    ("cdc_sync_outbox_entries", "dead"): "dead_letters",
    ("cdc_sync_skipped_rows",): "skipped",
    ("cdc_sync_suspected_deletions",): "suspected_deletions",
    ("cdc_sync_oldest_pending_seconds",): "oldest_pending_seconds",
    ("cdc_sync_fuse_blown",): "fuse",
    ("cdc_sync_last_change_timestamp_seconds",): "last_change_at",
}
"""Fields of a watch in the report, by their gauges and the other label's values."""

_METRICS = data("admin/metrics.yaml")

_KINDS: Mapping[str, Callable[..., Any]] = {
    "counter": prometheus_client.Counter,
    "gauge": prometheus_client.Gauge,
    "histogram": partial(prometheus_client.Histogram, buckets=BUCKETS),
}

_JOINED: Mapping[str, Callable[[Collection[float]], float]] = {
    name: {"max": max, "min": min}[how] for how, names in _METRICS["of_all"].items() for name in names
}
"""What a gauge is of many watches, if it is not their sum."""

_CONNECTED = "cdc_sync_watch_connected"

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def _number(value: Any) -> float:
    """A field of the report as a number."""
    match value:
        case "whole" | None:
            return 0.0
        case "blown":
            return 1.0
        case str():
            return datetime.fromisoformat(value).timestamp()
    return float(value)


class EventMetrics:
    """The process's metrics.

    Attributes:
        calls: how many have ended since the last sample of the charts.
        seconds: from queueing to their ends, in all.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.calls, self.seconds = 0, 0.0
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._of: dict[str, Any] = {
            name: make(name, text, () if labels == "none" else labels.split(), registry=self._registry)
            for kind, make in _KINDS.items()
            for labels, texts in _METRICS[kind].items()
            for name, text in texts.items()
        }
        # A search for each call would take as long as the count.
        self._sample = cache(lambda name, *labels: self._of[name].labels(*labels))
        self._complete_until: dict[str, float] = {}
        """When each watch's last complete read, or it itself, began; not if another store's daemon captures it."""
        self._connected = dict[str, float]()
        """Whether each watch that this daemon captures, or would capture if another store's did not, is connected."""
        self._seen = defaultdict[str, dict[str, float]](dict, {_CONNECTED: self._connected})
        """What events say of each watch, by gauge."""
        for outcome in ("applied", "refused"):
            self._of["cdc_sync_reloads"].labels(outcome)
        for action in ACTIONS:
            self._of["cdc_sync_human_actions"].labels(action)

    def handlers(self) -> Handlers:
        """The events that are counted."""
        of, count = self._of, self._count
        return {
            events.LeadTaken: self._lead,
            events.LeadLost: self._follow,
            events.StandsBy: self._follow,
            events.Reloaded: self._reloaded,
            events.ReloadRefused: lambda _: of["cdc_sync_reloads"].labels("refused").inc(),
            events.TenantsFound: self._begin,
            events.WatchEnded: lambda e: self._end({e.watch}),
            events.WatchConnected: lambda e: self._reached(e.watch, 1),
            events.WatchLost: lambda e: self._reached(e.watch, 0),
            events.WatchStandsBy: self._stands_by,
            # The baseline has a condition of its own.
            events.BaselineProgress: lambda e: self._complete(e.watch, 0),
            events.CaughtUp: lambda e: self._complete(e.watch, e.seconds),
            events.SweepDone: self._sweep_done,
            events.NotifyQueueSeen: lambda e: self._see("cdc_sync_notify_queue_usage_ratio", e.watch, e.usage),
            events.ChangesRead: lambda e: count("cdc_sync_captured_keys", e.watch, e.origin).inc(e.keys),
            events.Decided: lambda e: count("cdc_sync_decisions", e.watch, e.outcome).inc(),
            events.CallEnded: self._call_ended,
            events.ChangesMissed: lambda e: count("cdc_sync_missed_changes", e.watch).inc(e.number),
            events.PersonActed: lambda e: of["cdc_sync_human_actions"].labels(e.action).inc(),
            events.TokenRefused: lambda _: of["cdc_sync_admin_refused_tokens"].inc(),
            events.ConnectionDisplaced: lambda _: of["cdc_sync_admin_displaced_connections"].inc(),
        }

    def lags(self) -> dict[str, float]:
        """Seconds for which changes may be unread, by watch."""
        now = self._clock()
        return {watch: now - at for watch, at in self._complete_until.items()}

    def _count(self, name: str, watch: str, *values: str) -> Any:
        """A counter or histogram; its label `watch` is empty if there are many."""
        return self._sample(name, "" if len(self._connected) > FEW else watch, *values)

    def _see(self, name: str, watch: str, number: float) -> None:
        self._seen[name][watch] = number

    def _reached(self, watch: str, connected: int) -> None:
        """This daemon captures it, and knows whether its database is connected."""
        self._connected[watch] = connected
        self._complete_until.setdefault(watch, self._clock())

    def _stands_by(self, event: events.WatchStandsBy) -> None:
        """Another store's daemon captures it."""
        self._connected[event.watch] = 0
        self._complete_until.pop(event.watch, None)

    def _complete(self, watch: str, seconds: float) -> None:
        """A look that took so long finds what was committed before it began."""
        began = self._clock() - seconds
        self._complete_until[watch] = max(self._complete_until.get(watch, began), began)

    def _begin(self, event: events.LeadTaken | events.TenantsFound | events.Reloaded) -> None:
        for watch in event.watches:  # all of them before the first label
            self._reached(watch, 0)
        # Each sample begins with 0, so that the first event is an increase.
        for watch in event.watches:
            for name in (*_METRICS["counter"]["watch"], *_METRICS["histogram"]["watch"]):
                self._count(name, watch)
            for name, values in _OTHER_LABEL.items():
                for value in values:
                    self._count(name, watch, value)

    def _end(self, watches: Collection[str]) -> None:
        for of in (self._complete_until, *self._seen.values()):
            for watch in of.keys() & watches:
                del of[watch]

    def _lead(self, event: events.LeadTaken) -> None:
        self._of["cdc_sync_leading"].set(1)
        self._begin(event)

    def _follow(self, _: events.LeadLost | events.StandsBy) -> None:
        self._of["cdc_sync_leading"].set(0)
        self._end(set(self._connected))  # the leader knows

    def _reloaded(self, event: events.Reloaded) -> None:
        self._of["cdc_sync_reloads"].labels("applied").inc()
        # One that begins again still lags.
        self._end(self._connected.keys() - event.watches)
        self._begin(event)

    def _sweep_done(self, event: events.SweepDone) -> None:
        self._complete(event.watch, event.seconds)
        self._see("cdc_sync_sweep_seconds", event.watch, event.seconds)
        for cause, number in event.repaired.items():
            self._count("cdc_sync_sweep_repairs", event.watch, cause).inc(number)

    def _call_ended(self, event: events.CallEnded) -> None:
        self._count("cdc_sync_calls", event.watch, event.outcome).inc()
        self._count("cdc_sync_call_seconds", event.watch).observe(event.took)
        self._count("cdc_sync_queue_seconds", event.watch).observe(event.waited)
        self.calls += 1
        self.seconds += event.waited + event.took

    def exposed(self, report: Json, clock: Clock, conditions: Conditions) -> bytes:
        """The text of `/metrics` at a status report."""
        of = self._of
        for texts in _METRICS["gauge"].values():
            for name in texts:
                of[name].clear()
        self._show_watches(report["watches"], conditions)
        for each in report["endpoints"]:
            name, late, is_paused = each["endpoint"], each["late_seconds"], each["sending_paused"]
            of["cdc_sync_delivery_lag_seconds"].labels(name).set(0 if is_paused else late or 0)
            of["cdc_sync_sending_paused"].labels(name).set(is_paused)
            # Without an entry no call could end the alarm.
            of["cdc_sync_endpoint_healthy"].labels(name).set(each["mode"] == "healthy" or late is None)
        of["cdc_sync_build_info"].labels(__version__).set(1)
        of["cdc_sync_clock_skew_seconds"].set(clock.skew / 1000 if clock.shared else 0)
        of["cdc_sync_conditions"].set(len(wrong(conditions)))
        of["cdc_sync_store_ok"].set(not any(kind_of(name) == "store" for name in conditions))
        return prometheus_client.generate_latest(self._registry)

    def _show_watches(self, watches: Collection[Json], conditions: Conditions) -> None:
        captured = self._connected
        standby = {watch: f"{STANDBY} {watch}" in conditions for watch in captured}
        # The store may have more: a leader's, or those no longer configured.
        are_many = max(len(captured), len(watches)) > FEW
        shown: dict[tuple[str, ...], Mapping[str, float]] = {
            **{(name,): numbers for name, numbers in self._seen.items()},
            ("cdc_sync_watch_standby",): standby,
            ("cdc_sync_capture_lag_seconds",): self.lags(),
            ("cdc_sync_rows_may_be_hidden",): {watch: f"row security {watch}" in conditions for watch in captured},
        }
        if are_many:  # one that stands by need not be connected
            shown[_CONNECTED,] = {watch: number for watch, number in captured.items() if not standby[watch]}
        for labels, field in _OF_WATCH.items():
            shown[labels] = {watch["watch"]: _number(watch[field]) for watch in watches}
        for (name, *values), numbers in shown.items():
            joined = {"": _JOINED.get(name, sum)(numbers.values())} if are_many and numbers else numbers
            for watch, number in joined.items():
                self._of[name].labels(watch, *values).set(number)

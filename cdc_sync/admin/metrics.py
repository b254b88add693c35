"""The metrics: what events count, and gauges read from the store at each scrape.

A new metric is made in `__init__`, and moved by a handler or set in `render`; `docs/metrics.md` lists it. The
numbers are plain ones, since each change moves six of them: the instruments of prometheus_client take several times as
long. It writes the text at each scrape.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

from prometheus_client import Metric, generate_latest
from prometheus_client.registry import Collector

from cdc_sync import __version__
from cdc_sync.core import observations as events
from cdc_sync.core.conditions import Conditions, wrong
from cdc_sync.core.content import Kind
from cdc_sync.core.delivery import CallOutcome, is_paused
from cdc_sync.core.observations import ASKED_FOR, Handlers, Outcome
from cdc_sync.core.rows import Origin
from cdc_sync.store.store import Store

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the buckets of every histogram, in seconds; each takes what it equals."""

CAUSES = (*get_args(Kind), "gone", "undone", ASKED_FOR)
"""By what sweeps count their repairs (`pipeline.sweep`)."""


MetricKind = Literal["counter", "gauge", "histogram"]


@dataclass(slots=True)
class Sample:
    """A number, and since when it is counted, as seconds since the epoch.

    Of a histogram it is the sum, and `buckets` has the number of those in each; the last bucket has no upper end.
    """

    value: float = 0
    created: float = field(default_factory=time.time)
    buckets: list[int] = field(default_factory=list)


class Numbers(dict[tuple[str, ...], Sample]):
    """A metric's samples by the values of its labels. One that is asked for begins at 0."""

    def __init__(self, kind: MetricKind, name: str, text: str, *labels: str) -> None:
        super().__init__()
        self.kind, self.name, self.text, self.labels = kind, name, text, labels
        if not labels:
            self.begin()

    def __missing__(self, values: tuple[str, ...]) -> Sample:
        sample = self[values] = Sample()
        if self.kind == "histogram":
            sample.buckets = [0] * (len(BUCKETS) + 1)
        return sample

    def begin(self, *values: str) -> None:
        """Have a sample, though nothing has happened."""
        self.add(0, *values)

    def add(self, number: float, *values: str) -> None:
        """Count."""
        self[values].value += number

    def set(self, number: float, *values: str) -> None:
        """Set a gauge."""
        self[values].value = number

    def forget(self, *values: str) -> None:
        """Have a sample no more."""
        self.pop(values, None)

    def metric(self) -> Metric:
        """The metric as prometheus_client writes it."""
        metric = Metric(self.name, self.text, self.kind)
        for values, sample in self.items():
            labels = dict(zip(self.labels, values, strict=True))
            match self.kind:
                case "gauge":
                    metric.add_sample(self.name, labels, sample.value)
                    continue
                case "counter":
                    metric.add_sample(f"{self.name}_total", labels, sample.value)
                case "histogram":
                    number = 0
                    for end, of_bucket in zip((*BUCKETS, "+Inf"), sample.buckets, strict=True):
                        number += of_bucket
                        metric.add_sample(f"{self.name}_bucket", {**labels, "le": str(end)}, number)
                    metric.add_sample(f"{self.name}_count", labels, number)
                    metric.add_sample(f"{self.name}_sum", labels, sample.value)
            metric.add_sample(f"{self.name}_created", labels, sample.created)
        return metric


class Lag:
    """Since when everything is recorded, by watch.

    Until a watch has caught up for the first time, its lag counts from the daemon's start: a lower bound, since nobody
    knows what was committed while the daemon was away.

    Args:
        clock: seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._complete_until: dict[str, float] = {}
        self._heard_at: dict[str, float] = {}

    def handlers(self) -> Handlers:
        """What tells how far capture has got."""
        return {
            events.DaemonStarted: self._watches_begin,
            events.Reloaded: self._watches_begin,
            events.WatchConnected: self._connected,
            events.CaughtUp: self._looked,
            events.SweepDone: self._looked,
            events.BaselineProgress: self._baseline_goes_on,
            events.ListenerProved: self._listener_proved,
            events.WatchStandsBy: self._stands_by,
            events.WatchEnded: self._ended,
        }

    def _watches_begin(self, event: events.DaemonStarted | events.Reloaded) -> None:
        for watch in event.watches:
            self._complete_until.setdefault(watch, self._clock())

    def _connected(self, event: events.WatchConnected) -> None:
        self._complete_until.setdefault(event.watch, self._clock())

    def _looked(self, event: events.CaughtUp | events.SweepDone) -> None:
        """A look finds what was committed before it began."""
        began = self._clock() - event.seconds
        self._complete_until[event.watch] = max(self._complete_until.get(event.watch, began), began)

    def _baseline_goes_on(self, event: events.BaselineProgress) -> None:
        """What exists is being adopted, and that it is not done yet is a condition of its own: nothing is late."""
        self._complete_until[event.watch] = self._clock()

    def _listener_proved(self, event: events.ListenerProved) -> None:
        self._heard_at[event.watch] = self._clock()

    def _stands_by(self, event: events.WatchStandsBy) -> None:
        """Another daemon reads it, and knows how far behind it is."""
        self._complete_until.pop(event.watch, None)
        self._heard_at.pop(event.watch, None)

    def _ended(self, event: events.WatchEnded) -> None:
        self._heard_at.pop(event.watch, None)
        if event.for_good:
            self._complete_until.pop(event.watch, None)

    def capture(self) -> dict[str, float]:
        """For how many seconds changes may be unread, by watch."""
        now = self._clock()
        return {watch: now - until for watch, until in self._complete_until.items()}

    def listeners(self) -> dict[str, float]:
        """Seconds since the listening connection last proved that it hears, by watch that has one."""
        now = self._clock()
        return {watch: now - heard_at for watch, heard_at in self._heard_at.items()}


class EventMetrics(Collector):
    """The process's metrics. `docs/metrics.md` tells what each is good for."""

    def __init__(self, lag: Lag | None = None) -> None:
        self.lag = lag or Lag()
        self.metrics: list[Numbers] = []
        counter, gauge, histogram = (partial(self._new, kind) for kind in get_args(MetricKind))
        gauge("cdc_sync_build_info", "1, with the version as a label", "version").set(1, __version__)
        self._connected = gauge("cdc_sync_watch_connected", "Whether the watch's database is connected", "watch")
        self._standby = gauge(
            "cdc_sync_watch_standby",
            "Whether another daemon captures the watch, and this one waits for its turn",
            "watch",
        )
        self._keys = counter("cdc_sync_captured_keys", "Keys that capture brought", "watch", "origin")
        self._decisions = counter(
            "cdc_sync_decisions",
            "Observations that were news, by what became of them",
            "watch",
            "outcome",
        )
        self._calls = counter("cdc_sync_calls", "Calls to HelloWork by outcome", "watch", "outcome")
        self._seconds = histogram("cdc_sync_call_seconds", "How long calls took", "watch")
        self._waited = histogram("cdc_sync_queue_seconds", "From queueing to the call", "watch")
        self._repairs = counter(
            "cdc_sync_sweep_repairs",
            "What sweeps found that capture had missed, or had asked for",
            "watch",
            "cause",
        )
        self._missed = counter("cdc_sync_missed_changes", "Changes that the triggers could not record", "watch")
        self._sweep_seconds = gauge("cdc_sync_sweep_seconds", "How long the last sweep took", "watch")
        self._endpoint = gauge("cdc_sync_endpoint_healthy", "Whether the endpoint takes calls", "endpoint")
        self._paused = gauge("cdc_sync_sending_paused", "Whether an operator has paused sending to it", "endpoint")
        self._store_ok = gauge("cdc_sync_store_ok", "Whether the store can be written")
        self._store_ok.set(1)
        self._store_fails_for: set[str | None] = set()
        self._known = gauge("cdc_sync_known_applications", "Applications in the snapshot", "watch")
        self._entries = gauge("cdc_sync_outbox_entries", "Outbox entries by state", "watch", "state")
        self._oldest = gauge("cdc_sync_oldest_pending_seconds", "Age of the oldest pending entry, 0 if none", "watch")
        self._skipped = gauge("cdc_sync_skipped_rows", "Rows that cannot be reported", "watch")
        self._hidden = gauge(
            "cdc_sync_rows_may_be_hidden",
            "Whether row-level security may hide rows, so that deletions are held",
            "watch",
        )
        self._conditions = gauge("cdc_sync_conditions", "How many things are wrong now")
        self._capture_lag = gauge(
            "cdc_sync_capture_lag_seconds",
            "For how long changes in the database may be unread: seconds since the beginning of the last complete look",
            "watch",
        )
        self._listener_age = gauge(
            "cdc_sync_listener_age_seconds",
            "Seconds since the listening connection last proved that it hears notifications",
            "watch",
        )
        self._queue = gauge(
            "cdc_sync_notify_queue_usage_ratio",
            "Share in use of the server's NOTIFY queue, from 0 to 1; a full one makes the ATS's commits fail",
            "watch",
        )
        self._skew = gauge(
            "cdc_sync_clock_skew_seconds",
            "By how much this machine's clock is ahead of the store's, 0 if no other daemon has the store",
        )
        self._overdue = gauge(
            "cdc_sync_delivery_lag_seconds",
            "For how long the call that waits longest beyond its due time has been due, 0 if none",
            "endpoint",
        )
        self._changed_at = gauge(
            "cdc_sync_last_change_timestamp_seconds",
            "When something was news last, as seconds since the epoch; 0 if nothing ever was",
            "watch",
        )
        self._suspected = gauge(
            "cdc_sync_suspected_deletions",
            "Applications whose row seems gone and will be looked for once more",
            "watch",
        )
        self._fuse_blown = gauge(
            "cdc_sync_fuse_blown", "Whether the watch's fuse is blown, so that its news is held", "watch"
        )
        self._reloads = counter(
            "cdc_sync_reloads",
            "Times that the configuration was read again, by what came of it",
            "outcome",
        )
        for outcome in ("applied", "refused"):
            self._reloads.begin(outcome)
        self._tokens = counter("cdc_sync_admin_refused_tokens", "Wrong tokens that were brought to the admin server")
        self._displaced = counter(
            "cdc_sync_admin_displaced_connections",
            "Connections to the admin server that were cut off or refused because all places were taken",
        )

    def _new(self, kind: MetricKind, name: str, text: str, *labels: str) -> Numbers:
        self.metrics.append(numbers := Numbers(kind, name, text, *labels))
        return numbers

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        return (numbers.metric() for numbers in self.metrics)

    def handlers(self) -> Handlers:
        """What counts the events of each type."""
        return {
            events.DaemonStarted: lambda e: self._begin(e.watches),
            events.Reloaded: self._reloaded,
            events.ReloadRefused: lambda _: self._reloads.add(1, "refused"),
            events.WatchEnded: self._watch_ended,
            events.WatchConnected: lambda e: self._stands(e.watch, connected=True),
            events.WatchLost: lambda e: self._stands(e.watch),
            events.WatchStandsBy: self._stands_by,
            events.ChangesRead: self._changes_read,
            events.Decided: self._decided,
            events.CallEnded: self._call_ended,
            events.ChangesMissed: lambda e: self._missed.add(e.number, e.watch),
            events.RowsHidden: lambda e: self._hidden.set(1, e.watch),
            events.RowsVisible: lambda e: self._hidden.set(0, e.watch),
            events.SweepDone: self._sweep_done,
            events.ListenerProved: lambda e: self._queue.set(e.queue_usage, e.watch),
            events.StoreFailed: self._store_failed,
            events.StoreRecovered: lambda e: self._store_recovered(e.by),
            events.TokenRefused: lambda _: self._tokens.add(1),
            events.ConnectionDisplaced: lambda _: self._displaced.add(1),
        }

    def _reloaded(self, event: events.Reloaded) -> None:
        self._reloads.add(1, "applied")
        self._begin(event.begun)

    def _watch_ended(self, event: events.WatchEnded) -> None:
        watch = event.watch
        self._stands(watch)
        self._store_recovered(watch)
        self._listener_age.forget(watch)
        if event.for_good:
            self._connected.forget(watch)
            self._standby.forget(watch)
            self._capture_lag.forget(watch)

    def _stands(self, watch: str, *, connected: bool = False, standby: bool = False) -> None:
        self._connected.set(connected, watch)
        self._standby.set(standby, watch)

    def _stands_by(self, event: events.WatchStandsBy) -> None:
        self._stands(event.watch, standby=True)
        for gauge in (self._capture_lag, self._listener_age):
            gauge.forget(event.watch)

    def _changes_read(self, event: events.ChangesRead) -> None:
        self._keys[event.watch, event.origin].value += event.keys

    def _decided(self, event: events.Decided) -> None:
        self._decisions[event.watch, event.outcome].value += 1

    def _call_ended(self, event: events.CallEnded) -> None:
        watch = (event.watch,)
        self._calls[event.watch, event.outcome].value += 1
        took, waited = self._seconds[watch], self._waited[watch]
        took.value += event.seconds
        took.buckets[bisect_left(BUCKETS, event.seconds)] += 1
        waited.value += event.waited
        waited.buckets[bisect_left(BUCKETS, event.waited)] += 1

    def _sweep_done(self, event: events.SweepDone) -> None:
        self._sweep_seconds.set(event.seconds, event.watch)
        for cause, number in event.repaired.items():
            self._repairs.add(number, event.watch, cause)

    def _store_failed(self, event: events.StoreFailed) -> None:
        self._store_fails_for.add(event.by)
        self._store_ok.set(0)

    def _begin(self, watches: tuple[str, ...]) -> None:
        """Give watches their samples from the first scrape on.

        An alert on 0 then rings also for one that never connects; and the first event of a kind is an increase, which
        it would not be for a sample that is not there before.
        """
        for watch in watches:
            self._stands(watch)
            self._missed.begin(watch)
            self._seconds.begin(watch)
            self._waited.begin(watch)
            for counter, values in (
                (self._keys, get_args(Origin)),
                (self._decisions, get_args(Outcome)),
                (self._calls, get_args(CallOutcome)),
                (self._repairs, CAUSES),
            ):
                for value in values:
                    counter.begin(watch, value)

    def _store_recovered(self, by: str | None) -> None:
        self._store_fails_for.discard(by)
        self._store_ok.set(not self._store_fails_for)

    async def render(self, store: Store, conditions: Conditions, now: int) -> bytes:
        """The metrics in Prometheus's text format.

        Raises:
            StoreError: the store cannot be read.
        """
        for watch, counts in (await store.counts()).items():
            self._known.set(counts.known, watch)
            for state, number in (("pending", counts.pending), ("held", counts.held), ("dead", counts.dead)):
                self._entries.set(number, watch, state)
            oldest = counts.oldest_queued_at
            self._oldest.set(0 if oldest is None else max(now - oldest, 0) / 1000, watch)
            self._skipped.set(counts.skipped, watch)
            self._suspected.set(counts.suspected, watch)
            self._changed_at.set((counts.changed_at or 0) / 1000, watch)
        for watch, fuse in (await store.fuses()).items():
            self._fuse_blown.set(fuse.blown_at is not None, watch)
        for watch, seconds in self.lag.capture().items():
            self._capture_lag.set(seconds, watch)
        for watch, seconds in self.lag.listeners().items():
            self._listener_age.set(seconds, watch)
        self._skew.set(store.clock.skew / 1000 if store.clock.shared else 0)
        due_now, paused = now - store.clock.shift, await store.paused()
        for endpoint, (health, due_at) in (await store.endpoints()).items():
            on_purpose = is_paused(paused, endpoint)
            self._overdue.set(0 if due_at is None or on_purpose else max(due_now - due_at, 0) / 1000, endpoint)
            self._paused.set(on_purpose, endpoint)
            # Nobody finds out how one is that nothing waits for: it must not stay a cause of alarm.
            self._endpoint.set(health.mode == "healthy" or due_at is None, endpoint)
        self._conditions.set(len(wrong(conditions)))
        return generate_latest(self)

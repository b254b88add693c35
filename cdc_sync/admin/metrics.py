"""The metrics: what events count, and gauges read from the store at each scrape.

A new metric is made in `__init__` and moved by a line of the table, or set in `render`; `docs/metrics.md` lists it.
"""

from collections.abc import Callable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cdc_sync import __version__
from cdc_sync.admin.lag import Lag
from cdc_sync.core import observations as events
from cdc_sync.core.conditions import Conditions, wrong
from cdc_sync.core.content import Kind
from cdc_sync.core.delivery import CallOutcome
from cdc_sync.core.hints import Origin
from cdc_sync.core.observations import ASKED_FOR, Handlers, Outcome
from cdc_sync.store.store import Store

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

CAUSES = (*get_args(Kind), "gone", "undone", ASKED_FOR)
"""By what sweeps count their repairs (`pipeline.sweep`)."""


class EventMetrics:
    """The process's metrics, in a registry of their own. `docs/metrics.md` tells what each is good for."""

    def __init__(self, lag: Lag | None = None) -> None:
        self.lag = lag or Lag()
        self._registry = CollectorRegistry()
        r = self._registry
        build = Gauge("cdc_sync_build_info", "1, with the version as a label", ["version"], registry=r)
        build.labels(__version__).set(1)
        self._connected = Gauge(
            "cdc_sync_watch_connected", "Whether the watch's database is connected", ["watch"], registry=r
        )
        self._standby = Gauge(
            "cdc_sync_watch_standby",
            "Whether another daemon captures the watch, and this one waits for its turn",
            ["watch"],
            registry=r,
        )
        self._keys = Counter("cdc_sync_captured_keys", "Keys that capture brought", ["watch", "origin"], registry=r)
        self._decisions = Counter(
            "cdc_sync_decisions",
            "Observations that were news, by what became of them",
            ["watch", "outcome"],
            registry=r,
        )
        self._calls = Counter("cdc_sync_calls", "Calls to HelloWork by outcome", ["watch", "outcome"], registry=r)
        self._seconds = Histogram(
            "cdc_sync_call_seconds", "How long calls took", ["watch"], buckets=_LATENCY, registry=r
        )
        self._waited = Histogram(
            "cdc_sync_queue_seconds", "From queueing to the call", ["watch"], buckets=_LATENCY, registry=r
        )
        self._repairs = Counter(
            "cdc_sync_sweep_repairs",
            "What sweeps found that capture had missed, or had asked for",
            ["watch", "cause"],
            registry=r,
        )
        self._missed = Counter(
            "cdc_sync_missed_changes", "Changes that the triggers could not record", ["watch"], registry=r
        )
        self._sweep_seconds = Gauge("cdc_sync_sweep_seconds", "How long the last sweep took", ["watch"], registry=r)
        self._endpoint = Gauge(
            "cdc_sync_endpoint_healthy", "Whether the endpoint takes calls", ["endpoint"], registry=r
        )
        self._store_ok = Gauge("cdc_sync_store_ok", "Whether the store can be written", registry=r)
        self._store_ok.set(1)
        self._store_fails_for: set[str | None] = set()
        self._known = Gauge("cdc_sync_known_applications", "Applications in the snapshot", ["watch"], registry=r)
        self._entries = Gauge("cdc_sync_outbox_entries", "Outbox entries by state", ["watch", "state"], registry=r)
        self._oldest = Gauge(
            "cdc_sync_oldest_pending_seconds", "Age of the oldest pending entry, 0 if none", ["watch"], registry=r
        )
        self._skipped = Gauge("cdc_sync_skipped_rows", "Rows that cannot be reported", ["watch"], registry=r)
        self._hidden = Gauge(
            "cdc_sync_rows_may_be_hidden",
            "Whether row-level security may hide rows, so that deletions are held",
            ["watch"],
            registry=r,
        )
        self._conditions = Gauge("cdc_sync_conditions", "How many things are wrong now", registry=r)
        self._capture_lag = Gauge(
            "cdc_sync_capture_lag_seconds",
            "For how long changes in the database may be unread: seconds since the beginning of the last complete look",
            ["watch"],
            registry=r,
        )
        self._listener_age = Gauge(
            "cdc_sync_listener_age_seconds",
            "Seconds since the listening connection last proved that it hears notifications",
            ["watch"],
            registry=r,
        )
        self._queue = Gauge(
            "cdc_sync_notify_queue_usage_ratio",
            "Share in use of the server's NOTIFY queue, from 0 to 1; a full one makes the ATS's commits fail",
            ["watch"],
            registry=r,
        )
        self._skew = Gauge(
            "cdc_sync_clock_skew_seconds",
            "By how much this machine's clock is ahead of the store's, 0 if no other daemon has the store",
            registry=r,
        )
        self._overdue = Gauge(
            "cdc_sync_delivery_lag_seconds",
            "For how long the call that waits longest beyond its due time has been due, 0 if none",
            ["endpoint"],
            registry=r,
        )
        self._changed_at = Gauge(
            "cdc_sync_last_change_timestamp_seconds",
            "When something was news last, as seconds since the epoch; 0 if nothing ever was",
            ["watch"],
            registry=r,
        )
        self._suspected = Gauge(
            "cdc_sync_suspected_deletions",
            "Applications whose row seems gone and will be looked for once more",
            ["watch"],
            registry=r,
        )
        self._fuse_blown = Gauge(
            "cdc_sync_fuse_blown", "Whether the watch's fuse is blown, so that its news is held", ["watch"], registry=r
        )
        self._reloads = Counter(
            "cdc_sync_reloads",
            "Times that the configuration was read again, by what came of it",
            ["outcome"],
            registry=r,
        )
        for outcome in ("applied", "refused"):
            self._reloads.labels(outcome)
        self._tokens = Counter(
            "cdc_sync_admin_refused_tokens", "Wrong tokens that were brought to the admin server", registry=r
        )
        self._displaced = Counter(
            "cdc_sync_admin_displaced_connections",
            "Connections to the admin server that were cut off or refused because all places were taken",
            registry=r,
        )
        # Of each watch and outcome: what counts a call. To find it by its labels takes longer than to count.
        self._counting: dict[tuple[str, str], Callable[[events.CallEnded], None]] = {}
        self._handlers: Handlers = {
            events.DaemonStarted: lambda e: self._begin(e.watches),
            events.Reloaded: self._reloaded,
            events.ReloadRefused: lambda _: self._reloads.labels("refused").inc(),
            events.WatchEnded: self._watch_ended,
            events.WatchConnected: lambda e: self._stands(e.watch, connected=True),
            events.WatchLost: lambda e: self._stands(e.watch),
            events.WatchStandsBy: self._stands_by,
            events.ChangesRead: lambda e: self._keys.labels(e.watch, e.origin).inc(e.keys),
            events.Decided: lambda e: self._decisions.labels(e.watch, e.outcome).inc(),
            events.CallEnded: self._call_ended,
            events.ChangesMissed: lambda e: self._missed.labels(e.watch).inc(e.number),
            events.RowsHidden: lambda e: self._hidden.labels(e.watch).set(1),
            events.RowsVisible: lambda e: self._hidden.labels(e.watch).set(0),
            events.SweepDone: self._sweep_done,
            events.ListenerProved: lambda e: self._queue.labels(e.watch).set(e.queue_usage),
            events.StoreFailed: self._store_failed,
            events.StoreRecovered: lambda e: self._store_recovered(e.by),
            events.TokenRefused: lambda _: self._tokens.inc(),
            events.ConnectionDisplaced: lambda _: self._displaced.inc(),
        }

    def handlers(self) -> Handlers:
        """What counts the events of each type."""
        return self._handlers

    def _reloaded(self, event: events.Reloaded) -> None:
        self._reloads.labels("applied").inc()
        self._begin(event.begun)

    def _watch_ended(self, event: events.WatchEnded) -> None:
        watch = event.watch
        self._stands(watch)
        self._store_recovered(watch)
        self._listener_age.remove_by_labels({"watch": watch})
        if event.for_good:
            self._connected.remove(watch)
            self._standby.remove(watch)
            self._capture_lag.remove_by_labels({"watch": watch})

    def _stands(self, watch: str, *, connected: bool = False, standby: bool = False) -> None:
        self._connected.labels(watch).set(connected)
        self._standby.labels(watch).set(standby)

    def _stands_by(self, event: events.WatchStandsBy) -> None:
        self._stands(event.watch, standby=True)
        for gauge in (self._capture_lag, self._listener_age):
            gauge.remove_by_labels({"watch": event.watch})

    def _call_ended(self, event: events.CallEnded) -> None:
        key = event.watch, event.outcome
        count = self._counting.get(key)
        if count is None:
            count = self._counting[key] = self._counter_of_calls(*key)
        count(event)

    def _counter_of_calls(self, watch: str, outcome: str) -> Callable[[events.CallEnded], None]:
        calls = self._calls.labels(watch, outcome)
        seconds, waited = self._seconds.labels(watch), self._waited.labels(watch)

        def count(event: events.CallEnded) -> None:
            calls.inc()
            seconds.observe(event.seconds)
            waited.observe(event.waited)

        return count

    def _sweep_done(self, event: events.SweepDone) -> None:
        self._sweep_seconds.labels(event.watch).set(event.seconds)
        for cause, number in event.repaired.items():
            self._repairs.labels(event.watch, cause).inc(number)

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
            self._missed.labels(watch)
            self._seconds.labels(watch)
            self._waited.labels(watch)
            for counter, values in (
                (self._keys, get_args(Origin)),
                (self._decisions, get_args(Outcome)),
                (self._calls, get_args(CallOutcome)),
                (self._repairs, CAUSES),
            ):
                for value in values:
                    counter.labels(watch, value)

    def _store_recovered(self, by: str | None) -> None:
        self._store_fails_for.discard(by)
        self._store_ok.set(not self._store_fails_for)

    async def render(self, store: Store, conditions: Conditions, now: int) -> bytes:
        """The metrics in Prometheus's text format.

        Raises:
            StoreError: the store cannot be read.
        """
        for watch, counts in (await store.counts()).items():
            self._known.labels(watch).set(counts.known)
            for state, number in (("pending", counts.pending), ("held", counts.held), ("dead", counts.dead)):
                self._entries.labels(watch, state).set(number)
            oldest = counts.oldest_queued_at
            self._oldest.labels(watch).set(0 if oldest is None else max(now - oldest, 0) / 1000)
            self._skipped.labels(watch).set(counts.skipped)
            self._suspected.labels(watch).set(counts.suspected)
            self._changed_at.labels(watch).set((counts.changed_at or 0) / 1000)
        for watch, fuse in (await store.fuses()).items():
            self._fuse_blown.labels(watch).set(fuse.blown_at is not None)
        for watch, seconds in self.lag.capture().items():
            self._capture_lag.labels(watch).set(seconds)
        for watch, seconds in self.lag.listeners().items():
            self._listener_age.labels(watch).set(seconds)
        self._skew.set(store.clock.skew / 1000 if store.clock.shared else 0)
        due_now = now - store.clock.shift
        for endpoint, (health, due_at) in (await store.endpoints()).items():
            self._overdue.labels(endpoint).set(0 if due_at is None else max(due_now - due_at, 0) / 1000)
            # Nobody finds out how one is that nothing waits for: it must not stay a cause of alarm.
            self._endpoint.labels(endpoint).set(health.mode == "healthy" or due_at is None)
        self._conditions.set(len(wrong(conditions)))
        return generate_latest(self._registry)

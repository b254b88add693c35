"""The daemon's run: open what is shared, start the watches and the sender, reload at SIGHUP, end in order.

At SIGTERM or SIGINT capture stops. The sender finishes the calls under way within the grace period; longer ones are
marked as attempted and sent again after the next start. A second signal ends the process at once, as safely as kill -9.

**A reload** reads and checks the file like a start. If the file is not valid, or changes a setting that needs a
restart, the whole configuration in use stays: never a mixture of two files. A watch with other settings ends and starts
again; its unapplied changes are in the change log or behind the watermark. Signals meanwhile cause one more reload, and
signals during the start cause one as soon as the daemon works.

Each look for tenants, at the start, at a reload, and regularly, may start and end watches.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cdc_sync import __version__, signals
from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config, ConfigurationError
from cdc_sync.config.models import own_credentials
from cdc_sync.core import conditions, events
from cdc_sync.core.conditions import starting
from cdc_sync.core.content import milliseconds
from cdc_sync.core.events import Consumer, Dispatch, Event, Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.core.replies import Credentials, longest_on_its_way
from cdc_sync.daemon import wiring
from cdc_sync.daemon.gate import Gate
from cdc_sync.daemon.pulse import BEAT_EVERY, LOOK_EVERY, STEP_OF_STORE, Lateness, Pulse, beat_for_ever
from cdc_sync.daemon.tenant_news import TenantNews, look_after
from cdc_sync.daemon.watching import RunningWatches, WatchWorker
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.sender import Sender
from cdc_sync.event_loop import end, raise_failures, regularly, ungrouped
from cdc_sync.listening import allow_all_descriptors
from cdc_sync.pipeline.database import Database, nobody
from cdc_sync.pipeline.discovery import discover
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError

GRACE = 20.0
"""Seconds that calls under way may take after the first signal."""

MOST_EVENTS = 1_000_000
"""Kept events, at any age: about 300 MB, of 300,000 deliveries. A mass change must not fill the disk."""

_PRUNED_AT_ONCE = 5_000
"""Events deleted in one transaction: 20 to 40 ms."""


async def run(
    config: Config,
    consumers: Sequence[Consumer],
    show: Callable[[str], None],
    reread: "Reread | None" = None,
    *,
    dry_run: bool,
    beat_every: float,
) -> None:
    """Run the daemon until a signal ends it.

    `show` gets the calls of a dry run. Without `reread`, SIGHUP has its default effect. Heart beats are at most
    `beat_every` seconds apart.

    Raises:
        StoreError: the store cannot be used, belongs to another database, or another daemon has it.
        AdminError: the admin address cannot be listened on.
    """
    with ungrouped(AnotherDatabaseError, StoreError):
        await _Daemon(config, consumers, show, reread, dry_run, beat_every).run()


@dataclass(frozen=True, slots=True)
class Reread:
    """Reads the configuration again; `used` is called when that is in use."""

    read: Callable[[], Config]
    used: Callable[[Config], None]


@dataclass(eq=False)
class _Daemon:
    """One run; `run` makes its parts.

    Attributes:
        _look_at: when to look for tenants, by the event loop's clock.
        _gone: the own credentials of watches that are no longer configured, as far as this process has had them.
        _stop: the name of the signal that asked for the end.
        _not_taken_over: why this daemon cannot take over from another one, as it was reported last.
    """

    _config: Config
    _consumers: Sequence[Consumer]
    _show: Callable[[str], None]
    _reread: Reread | None
    _dry_run: bool
    _beat_every: float
    _metrics: EventMetrics = field(default_factory=EventMetrics)
    _pulse: Pulse = field(default_factory=Pulse)
    _conditions_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _signalled: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _is_reload_wanted: bool = False
    _look_at: float = 0.0
    _lasting: Sequence[asyncio.Task[None]] = ()
    _gone: dict[str, Credentials] = field(default_factory=dict)
    _stop: str = ""
    _not_taken_over: str | None = None

    def __post_init__(self) -> None:
        self._conditions = starting(tuple(self._config.watches))
        self._events = Dispatch(
            *self._consumers,
            self._metrics.handlers,
            self._metrics.lag.handlers,
            self._pulse.handlers,
            self._handlers,
            lambda: dict.fromkeys(conditions.EVENTS, self._fold),
        )
        self._emit = self._events.emit
        self._tenants = TenantNews(self._emit)

    # The start.

    async def run(self) -> None:
        allow_all_descriptors()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        if self._reread is not None:
            loop.add_signal_handler(signal.SIGHUP, self._want_reload)
        signals.deliver()
        async with AsyncExitStack() as stack:
            self._store = await stack.enter_async_context(
                wiring.opened_store(self._config, self._emit, dry_run=self._dry_run)
            )
            self._moves = self._store.moves
            await self._make_parts(stack)
            known = await wiring.known_watches(self._store) or ()
            config = await self._with_tenants(self._config, known, self._stopping)
            if config is not None:
                self._conditions = {**self._conditions, **starting(tuple(config.watches))}
                await self._work(config, stack)
        self._emit(events.DaemonStopped())

    async def _make_parts(self, stack: AsyncExitStack) -> None:
        """Make the shared parts, from the file; `_use` gives them the tenants."""
        config, store = self._config, self._store
        self._caller = await stack.enter_async_context(wiring.opened_caller(config, self._show, dry_run=self._dry_run))
        progressed = partial(self._pulse.beat, "sender", STEP_OF_STORE)
        settings = wiring.sender_settings(config)
        self._sender = Sender(store, self._caller, settings, self._emit, store.clock, progressed=progressed)
        store.wake = self._sender.look
        self._gate = Gate(store, self._sender.look)
        # Daemons that share a store deliver also while they wait for their turn to capture.
        recognised = self._gate.recognise if config.state.backend == "postgres" else nobody
        database = partial(wiring.make_database, store=store, recognised=recognised)
        self._watches = RunningWatches(self._worker, database, self._gate, self._emit)

    def _worker(self, config: Config, name: str, database: Database) -> WatchWorker:
        shared = database, self._emit, self._watches.others
        parts = wiring.make_parts(config, name, *shared, delivery=self._sender, dry_run=self._dry_run)
        return WatchWorker(parts, self._pulse)

    async def _work(self, config: Config, stack: AsyncExitStack) -> None:
        """Work until a signal, or a part's failure."""
        store, watches = self._store, self._watches
        self._admin = AdminServer(
            config,
            store,
            self._metrics,
            lambda: self._conditions,
            store.clock.for_people,
            without_live_row=self._without_live_row,
            stalled=self._pulse.stalled,
            observe=self._emit,
        )
        if not self._dry_run:
            await stack.enter_async_context(self._admin.serving())
        stack.callback(self._schedule_pruning().shutdown, wait=False)
        self._emit(events.DaemonStarted(__version__, tuple(config.watches), self._dry_run, self._admin.url))
        await wiring.report_unconfigured(config, store, self._emit, self._tenants.refused)
        await self._use(config)
        lateness = Lateness(lambda: self._config, store, self._metrics.lag.capture, self._emit, store.clock)
        works = [
            self._send(),
            self._note_conditions(),
            beat_for_ever(self._pulse, store, self._emit, min(BEAT_EVERY, self._beat_every)),
            regularly(lateness.look, LOOK_EVERY),
            regularly(self._look_at_store, LOOK_EVERY),
            regularly(self._look_at_others, wiring.LOOK),
            regularly(store.check_place, wiring.LOOK),
            regularly(lambda: wiring.follow_pauses(self._sender, store), wiring.LOOK),
        ]
        self._lasting = sending, *_ = [asyncio.create_task(work) for work in works]
        try:
            while await self._is_change_wanted():
                if self._is_reload_wanted:
                    self._is_reload_wanted = False
                    await self._reload()
                else:
                    await self._follow_tenants()
            if self._stop:
                self._emit(events.DaemonStopping(self._stop, self._sender.under_way))
                await end(watches.tasks)
                self._sender.stop()
                await asyncio.wait([sending], timeout=GRACE if self._gate.any.is_set() else 0)
        finally:
            await end(self._tasks())
        raise_failures(self._tasks())

    def _tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that work until the end; one that ends before is a failure."""
        return [*self._watches.tasks, *self._lasting]

    async def _is_change_wanted(self) -> bool:
        """Wait for a reload, or the next look for tenants; False at the end."""
        await self._until(self._signalled, within=max(self._look_at - asyncio.get_running_loop().time(), 0))
        self._signalled.clear()
        return not self._stop and not any(task.done() for task in self._tasks())

    async def _until(self, event: asyncio.Event, *others: asyncio.Task[Any], within: float | None = None) -> None:
        """Wait for an event, another task, a part's failure, or so many seconds; end the others."""
        waiting = [asyncio.create_task(event.wait()), *others]
        try:
            await asyncio.wait([*self._tasks(), *waiting], return_when=asyncio.FIRST_COMPLETED, timeout=within)
        finally:
            # Without an answer, psycopg ignores one cancellation: `end` repeats it.
            await end(waiting)

    # A reload, and other tenants.

    async def _reload(self) -> None:
        """Use the file's present configuration, or report why not."""
        if self._reread is None:
            return
        self._emit(events.ReloadStarted())
        config, refusal = self._config, tuple[str, ...]()
        try:
            config = await asyncio.to_thread(self._reread.read)
        except ConfigurationError as error:
            refusal = tuple(str(error).splitlines())
        if refusal := refusal or changes_that_need_a_restart(self._config, config):
            self._emit(events.ReloadRefused(refusal))
            return
        found = await self._with_tenants(config, self._config.watches, self._stopping)
        if found is None:
            return
        await self._drop_forgotten()
        self._reread.used(found)
        self._events.rebuild()  # the log's level may differ
        self._emit(await self._use(found))
        await wiring.report_unconfigured(found, self._store, self._emit, self._tenants.refused)

    async def _follow_tenants(self) -> None:
        """Start and end watches as tenants come and go."""
        config = await self._with_tenants(self._config, self._config.watches, self._signalled)
        if config is None or (not await self._drop_forgotten() and config.watches == self._config.watches):
            return
        changed = await self._use(config)
        if changed.begun:
            self._emit(events.TenantsFound(changed.begun))
        if changed.ended:
            self._emit(events.TenantsGone(changed.ended))

    async def _with_tenants(self, config: Config, known: Iterable[str], until: asyncio.Event) -> Config | None:
        """A configuration with its present tenants; None if an event, or a part's failure, comes first."""
        looking = asyncio.create_task(discover(config, known, self._watches.pools(config)), name="looking for tenants")
        await self._until(until, looking)
        if looking.cancelled():
            return None
        found = looking.result()
        self._look_at = asyncio.get_running_loop().time() + look_after(found)
        return self._tenants.report(found)

    async def _drop_forgotten(self) -> bool:
        """Drop the credentials of gone watches after `cdc-sync forget`; returns whether there are any."""
        known = await wiring.known_watches(self._store) if self._gone else None
        if known is None or not (forgotten := self._gone.keys() - known):
            return False
        for watch in forgotten:
            del self._gone[watch]
        self._gate.drop_credentials(forgotten)
        return True

    async def _use(self, config: Config) -> events.Reloaded:
        """Use another configuration; returns which watches begin and end.

        First for what they share: what a watch enqueues may be sent at once.
        """
        before, self._config = {**self._gone, **own_credentials(self._config)}, config
        self._store.expect(longest_on_its_way(config.hellowork.timeout.total_seconds()))
        await wiring.note_credentials(config, self._store)
        await wiring.follow_pauses(self._sender, self._store)  # the endpoints may have other names
        # A gone watch's pending entries are still sent, with its own credentials only.
        self._gone = {of: replace(own, owner=of) for of, own in before.items() if of not in config.watches}
        self._admin.use(config)
        self._sender.use(wiring.sender_settings(config, self._gone))
        # In one turn of the event loop: the sender's settings show which credentials a call had.
        if isinstance(self._caller, Client):
            await self._caller.use(Client(*wiring.client_settings(config, self._gone)))
        return await self._watches.use(config)

    # What lasts.

    async def _without_live_row(self, watch: str, ids: Sequence[str]) -> Collection[str]:
        return await self._watches.without_live_row(self._config, watch, ids)

    async def _send(self) -> None:
        """Send, once a database is recognised."""
        await self._gate.any.wait()
        while not await wiring.follow_pauses(self._sender, self._store):  # noqa: ASYNC110 - what is read is elsewhere
            await asyncio.sleep(wiring.LOOK)
        await self._sender.run()

    async def _look_at_store(self) -> None:
        """Log operators' actions; sweep every watch if the store's server changed."""
        if self._store.moves != self._moves:
            # Changes that this server lacks were already deleted from the log.
            self._moves = self._store.moves
            self._emit(events.StoreMoved())
            self._watches.want_sweeps()
        self._report_take_over(self._store.not_taken_over)
        with suppress(StoreError):  # the sender reports it
            for acted in [] if self._dry_run else await self._store.take_actions():
                self._emit(acted)

    def _report_take_over(self, blocked: StoreError | None) -> None:
        """Report once why this daemon cannot take over, and once that it no longer needs to."""
        message = None if blocked is None else str(blocked.message)
        if message == self._not_taken_over:
            return
        self._not_taken_over = message
        if blocked is None:
            self._emit(events.TakeOverUnblocked())
        else:
            self._emit(events.TakeOverBlocked(blocked.message, blocked.code))

    async def _look_at_others(self) -> None:
        """Let entries go whose rows were read again by the daemon that captures their watch."""
        if self._config.state.backend == "postgres" and not self._dry_run and self._gate.waiting:
            with suppress(StoreError):  # the sender reports it
                self._gate.reread_elsewhere(await self._store.reread())

    def _fold(self, event: Event) -> None:
        after = conditions.fold(self._conditions, event)
        if after is not self._conditions:
            self._conditions = after
            self._conditions_changed.set()

    async def _note_conditions(self) -> None:
        """Keep the store's list of conditions, for `status` from another process."""
        store, written_to, noted = self._store, None, dict[str, str]()
        while True:
            self._conditions_changed.clear()
            wanted = dict(self._conditions)
            try:
                # They hang on this daemon's row, and a server that was behind may have others.
                present = await store.daemon(), store.moves
                if present != written_to:
                    noted = {condition.name: condition.message for condition in await store.conditions()}
                changed = {name: wanted.get(name) for name, _ in wanted.items() ^ noted.items()}
                if changed:
                    await store.set_conditions(changed, store.clock.for_people())
            except StoreError:  # no event may follow
                await asyncio.sleep(wiring.LOOK)
                continue
            written_to, noted = present, wanted
            with suppress(TimeoutError):
                async with asyncio.timeout(wiring.LOOK):
                    await self._conditions_changed.wait()

    def _schedule_pruning(self) -> AsyncIOScheduler:
        scheduler = AsyncIOScheduler(timezone=UTC)
        self._pruning = scheduler.add_job(
            self._prune,
            "interval",
            minutes=10,
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=2,  # without a warning; runs skip each other's rows
            misfire_grace_time=None,  # however late: the clock may have been set forward
        )
        scheduler.start()
        return scheduler

    async def _prune(self) -> None:
        await prune(self._store, self._store.clock.for_people() - milliseconds(self._config.state.history))

    # Events and signals.

    def _handlers(self) -> Handlers:
        return {
            events.ClockSkewed: self._clock_was_set,
            events.ClockAgrees: self._clock_was_set,
            events.WatchConnected: lambda event: self._gate.begin(event.watch),
            events.PendingReread: lambda event: self._gate.reread(event.watch),
            events.WatchEnded: lambda event: self._gate.end(event.watch),
            events.WatchLost: lambda event: self._gate.lost(event.watch, event.code),
        }

    def _clock_was_set(self, _: events.ClockSkewed | events.ClockAgrees) -> None:
        """Prune now: the wall clock may have been set back."""
        self._pruning.modify(next_run_time=datetime.now(UTC))

    def _want_reload(self) -> None:
        self._is_reload_wanted = True
        self._signalled.set()

    def _end(self, number: signal.Signals) -> None:
        if self._stop:
            os._exit(128 + number)
        self._stop = number.name
        self._stopping.set()
        self._signalled.set()


async def prune(store: Store, before: int, keep: int = MOST_EVENTS) -> None:
    """Delete events older than `before` (milliseconds since the epoch), and all but the newest `keep`.

    In small steps, so that others can use the store.
    """
    with suppress(StoreError):
        while await store.prune(before, keep, _PRUNED_AT_ONCE) == _PRUNED_AT_ONCE:
            pass


def changes_that_need_a_restart(now: Config, then: Config) -> tuple[str, ...]:
    """A line for each changed setting that only a restart can change."""
    before, after = _of_the_process(now), _of_the_process(then)
    shown = {"database.dsn": f"{then.section_of(next(iter(then.all_databases)))}.dsn"}
    changed = [shown.get(key, key) for key in before if before[key] != after[key]]
    return tuple(
        f"{key} cannot be changed while the daemon runs: restart it for that, or write the present value again"
        for key in changed
    )


def _of_the_process(config: Config) -> dict[str, object]:
    """The settings of the process: the store and the address."""
    state = config.state
    shares_database = state.backend == "postgres" and state.dsn is None
    (database, *_) = config.all_databases.values()
    return {
        **{f"state.{key}": getattr(state, key) for key in ("backend", "path", "dsn")},
        "database.dsn": database.dsn if shares_database else None,
        "admin.listen": config.admin.listen,
    }

"""The daemon's run: open what is shared, start the watches and the sender, reload at SIGHUP, end in order.

The end, on SIGTERM or SIGINT: capture stops where it is (what it has not recorded comes again), the sender finishes the
calls that are under way, for at most the grace period, and writes down what came of them. What is still under way then
is given up: it is marked as attempted, and is sent again at the next start. A second signal ends the process at once;
that costs no more than kill -9, which nothing is lost by.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cdc_sync import __version__
from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config, ConfigurationError
from cdc_sync.config.rules import allowed_hosts, built_urls, retry_policy, sender_horizon, watch_rules
from cdc_sync.core import conditions
from cdc_sync.core import observations as events
from cdc_sync.core.conditions import Conditions, starting
from cdc_sync.core.delivery import longest_on_its_way
from cdc_sync.core.instants import milliseconds
from cdc_sync.core.observations import Consumer, Dispatch, Event, Handlers, Observe
from cdc_sync.daemon import pruning
from cdc_sync.daemon.pulse import BEAT_EVERY, LOOK_EVERY, STEP_OF_STORE, Lateness, Pulse, beat_for_ever
from cdc_sync.daemon.rehearsal import Rehearsal
from cdc_sync.daemon.reloading import Reread, RunningWatches, changes_that_need_a_restart
from cdc_sync.daemon.together import end, raise_failures
from cdc_sync.daemon.watching import WatchWorker, bind, most_telling
from cdc_sync.delivery.client import Caller, Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.delivery.sender import Sender
from cdc_sync.listening import allow_all_descriptors
from cdc_sync.pipeline.capture import WatchParts
from cdc_sync.pipeline.database import Database
from cdc_sync.pipeline.intake import Delivery, NoDelivery
from cdc_sync.store.opening import opened_by_daemon, opened_copy
from cdc_sync.store.protocol import StoreError
from cdc_sync.store.store import Store
from cdc_sync.store.unconfigured import unconfigured

GRACE = 20.0
"""Seconds that calls under way may take after the first signal, at most."""


LOOK = 1.0
"""Seconds between looks whether the store is where it was opened, and at the pauses in it."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How `run` was asked for."""

    dry_run: bool = False
    beat_every: float = BEAT_EVERY
    """Seconds between two beats of the heart, at most: as often as a watchdog wants to hear of it."""


def opened_store(
    config: Config, observe: Observe = lambda _: None, *, dry_run: bool
) -> AbstractAsyncContextManager[Store]:
    """The daemon's store; or for a dry run a copy of it that is thrown away.

    SQLite's is brought up to date in a thread of its own, in which `observe` is called, while this one waits.

    Raises:
        StoreError: it cannot be used, or another daemon has it.
    """
    if dry_run:
        return opened_copy(config)
    return opened_by_daemon(config, lambda seconds: observe(events.StoreUpgrading(seconds)))


@asynccontextmanager
async def opened_caller(
    config: Config, observe: Callable[[str], None], *, dry_run: bool
) -> AsyncIterator[Client | Rehearsal]:
    """HelloWork's API; or for a dry run somebody who only shows the calls."""
    if dry_run:
        yield Rehearsal(observe)
        return
    async with Client(*client_settings(config)) as client:
        yield client


def client_settings(config: Config) -> tuple[dict[str, str], float, int]:
    """What a `Client` is made with, as configured."""
    headers = {name: value.get_secret_value() for name, value in config.hellowork.headers.items()}
    return headers, config.hellowork.timeout.total_seconds(), config.hellowork.concurrency


def sender_settings(config: Config) -> SenderSettings:
    """The sender's settings as configured."""
    return SenderSettings(
        concurrency=config.hellowork.concurrency,
        rate=config.hellowork.rate_limit,
        policy=retry_policy(config),
        allowed=allowed_hosts(config),
        built=built_urls(config),
        horizon=sender_horizon(config),
        headers=client_settings(config)[0],
    )


def make_sender(
    config: Config, store: Store, caller: Caller, observe: Observe, progressed: Callable[[], None] = lambda: None
) -> Sender:
    """The sender as configured."""
    return Sender(store, caller, sender_settings(config), observe, store.clock, progressed=progressed)


async def follow_pauses(sender: Sender, store: Store) -> bool:
    """Have the sender keep to the pauses that operators have set; whether they could be read."""
    with suppress(StoreError):  # the sender says it
        sender.pause(await store.paused())
        return True
    return False


async def tell_of_unconfigured(config: Config, store: Store, observe: Observe) -> None:
    """Tell of the watches that the store knows and the configuration does not have."""
    try:
        found = await unconfigured(store, config.watches)
    except StoreError:
        return  # whoever works with it says it, and `check` and `status` tell of the watches too
    for one in found:
        observe(one)


def make_database(config: Config, store: Store) -> Database:
    """The ATS's database as configured; nothing is connected yet."""
    return Database(config.database.dsn.get_secret_value(), store, config.database.pool)


def make_parts(
    config: Config,
    name: str,
    database: Database,
    observe: Observe,
    *,
    dry_run: bool,
    delivery: Delivery | None = None,
) -> WatchParts:
    """A watch's parts as configured."""
    return WatchParts(
        name=name,
        watch=config.watches[name],
        rules=watch_rules(config, name),
        database=database,
        observe=observe,
        clock=database.store.clock,
        delivery=delivery or NoDelivery(),
        dry_run=dry_run,
    )


class _Daemon:
    """What one run holds together."""

    _store: Store
    _caller: Client | Rehearsal
    _sender: Sender
    _watches: RunningWatches
    _admin: AdminServer

    def __init__(
        self,
        config: Config,
        options: RunOptions,
        consumers: Sequence[Consumer],
        show: Callable[[str], None],
        reread: Reread | None,
    ) -> None:
        self._config = config
        self._reread = reread
        self._options = options
        self._show = show
        self._conditions: Conditions = starting(tuple(config.watches))
        self._conditions_changed = asyncio.Event()
        self._metrics = EventMetrics()
        self._pulse = Pulse()
        self._bound = asyncio.Event()
        self._signalled = asyncio.Event()
        self._reload_wanted = False
        self._pruning: Job | None = None
        self._stop = ""
        self._events = Dispatch(
            *consumers,
            self._metrics.handlers,
            self._metrics.lag.handlers,
            self._pulse.handlers,
            self._handlers,
            lambda: dict.fromkeys(conditions.EVENTS, self._fold),
        )
        self._emit = self._events.emit

    def _handlers(self) -> Handlers:
        return {
            events.ClockSkewed: self._clock_was_set,
            events.ClockAgrees: self._clock_was_set,
            events.WatchConnected: lambda _: self._bound.set(),
        }

    def _fold(self, event: Event) -> None:
        """Keep what is wrong now up to date."""
        after = conditions.fold(self._conditions, event)
        if after is not self._conditions:
            self._conditions = after
            self._conditions_changed.set()

    def _clock_was_set(self, _: events.ClockSkewed | events.ClockAgrees) -> None:
        """Prune now: that is scheduled by the wall clock, and would wait for as long as that was set back."""
        if self._pruning is not None:
            self._pruning.modify(next_run_time=datetime.now(UTC))

    async def run(self) -> None:
        dry_run = self._options.dry_run
        allow_all_descriptors()
        self._install_signals()
        async with AsyncExitStack() as stack:
            self._store = store = await stack.enter_async_context(
                opened_store(self._config, self._emit, dry_run=dry_run)
            )
            self._caller = await stack.enter_async_context(opened_caller(self._config, self._show, dry_run=dry_run))
            progressed = partial(self._pulse.beat, "sender", STEP_OF_STORE)
            self._sender = make_sender(self._config, store, self._caller, self._emit, progressed)
            store.call_when_due(self._sender.look)
            self._watches = RunningWatches(self._worker, lambda config: make_database(config, store), self._emit)
            self._admin = AdminServer(
                self._config,
                store,
                self._metrics,
                lambda: self._conditions,
                store.clock.for_people,
                hung=self._pulse.hung,
                observe=self._emit,
            )
            if not dry_run:
                await stack.enter_async_context(self._admin)
            stack.enter_context(self._schedule())
            self._emit(events.DaemonStarted(__version__, tuple(self._config.watches), dry_run, self._admin.url))
            await tell_of_unconfigured(self._config, store, self._emit)
            await self._supervise()
        self._emit(events.DaemonStopped())

    def _worker(self, config: Config, name: str, database: Database) -> WatchWorker:
        dry_run = self._options.dry_run
        parts = make_parts(config, name, database, self._emit, delivery=self._sender, dry_run=dry_run)
        return WatchWorker(parts, self._pulse)

    async def _supervise(self) -> None:
        store, watches = self._store, self._watches
        await watches.use(self._config)
        beat_every = min(BEAT_EVERY, self._options.beat_every)
        lateness = Lateness(lambda: self._config, store, self._metrics.lag.capture, self._emit, store.clock)
        works = [
            self._send(),
            self._note_conditions(),
            beat_for_ever(self._pulse, store, self._emit, beat_every),
            regularly(lateness.look, LOOK_EVERY),
            self._follow_moves(),
            regularly(store.check_place, LOOK),
            regularly(lambda: follow_pauses(self._sender, store), LOOK),
        ]
        if not self._options.dry_run:
            works.append(regularly(self._log_actions, LOOK_EVERY))
        lasting = [asyncio.create_task(work) for work in works]
        try:
            while await self._is_reload_wanted([*watches.tasks, *lasting]):
                await self._reload()
            if self._stop:
                self._emit(events.DaemonStopping(self._stop, self._sender.under_way))
                await end(watches.tasks)
                self._sender.stop()
                await asyncio.wait(lasting[:1], timeout=GRACE if self._bound.is_set() else 0)
        finally:
            await end([*watches.tasks, *lasting])
        raise_failures([*watches.tasks, *lasting])

    async def _is_reload_wanted(self, parts: Collection[asyncio.Task[Any]]) -> bool:
        """Wait until something else than work is to do; returns whether that is a reload, and not the end."""
        signalled = asyncio.create_task(self._signalled.wait())
        try:
            await asyncio.wait([*parts, signalled], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end([signalled])
        self._signalled.clear()
        wanted, self._reload_wanted = self._reload_wanted, False
        return wanted and not self._stop and not any(part.done() for part in parts)

    async def _reload(self) -> None:
        """Use what the configuration's file says now; or stay as we are, whole, and say why."""
        if self._reread is None:
            return
        self._emit(events.ReloadStarted())
        try:
            config = await asyncio.to_thread(self._reread.read)
        except ConfigurationError as error:
            self._emit(events.ReloadRefused(tuple(str(error).splitlines())))
            return
        if fixed := changes_that_need_a_restart(self._config, config):
            self._emit(events.ReloadRefused(fixed))
            return
        self._reread.used(config)
        self._events.rebuild()  # the log may have another level
        self._config = config
        await self._take_over(config)
        self._emit(await self._watches.use(config))
        await tell_of_unconfigured(config, self._store, self._emit)

    async def _take_over(self, config: Config) -> None:
        """Have what all watches share use another configuration. Before the watches: what they queue may be sent."""
        self._store.expect(longest_on_its_way(config.hellowork.timeout.total_seconds()))
        self._admin.use(config)
        self._sender.use(sender_settings(config))
        # In the same turn of the event loop: whose credentials a call was made with is known by the sender's settings.
        if isinstance(self._caller, Client):
            await self._caller.use(*client_settings(config))

    async def _send(self) -> None:
        """Send, once it is known that the database is the one that the store belongs to.

        Where several daemons share a store, each delivers, also one that waits for its turn to capture.
        """
        if self._config.state.backend == "postgres" and not self._options.dry_run:
            await bind(self._config.database.dsn.get_secret_value(), self._store)
            self._bound.set()
        await self._bound.wait()
        while not await follow_pauses(self._sender, self._store):  # noqa: ASYNC110 - what is read is elsewhere
            await asyncio.sleep(LOOK)
        await self._sender.run()

    async def _log_actions(self) -> None:
        """Log what people did, also while no daemon ran."""
        with suppress(StoreError):  # the sender says it
            for acted in await self._store.take_actions():
                self._emit(acted)

    async def _note_conditions(self) -> None:
        """Keep the store's list of what is wrong as it is here, for `status` from another process."""
        store = self._store
        noted = {condition.name: condition.message for condition in await store.conditions()}
        while True:
            self._conditions_changed.clear()
            wanted = dict(self._conditions)
            try:
                for name in noted.keys() | wanted.keys():
                    if noted.get(name) != wanted.get(name):
                        await store.set_condition(name, wanted.get(name), store.clock.for_people())
                noted = wanted
            except StoreError:
                pass  # noted with the next change: that the store can be written again is one
            await self._conditions_changed.wait()

    async def _follow_moves(self) -> None:
        """Have every watch swept when another server has the store: what it lacks was taken from the log already."""
        seen = self._store.moves
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._store.moves != seen:
                seen = self._store.moves
                self._emit(events.StoreMoved())
                self._watches.want_sweeps()

    @contextmanager
    def _schedule(self) -> Iterator[None]:
        """Prune the history by the clock: at once, and then every ten minutes."""
        scheduler = AsyncIOScheduler(timezone=UTC)
        self._pruning = scheduler.add_job(
            self._prune,
            "interval",
            minutes=pruning.EVERY_MINUTES,
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=2,  # asked for while it runs, it is no reason to warn; they skip each other's rows
            misfire_grace_time=None,  # however late: the clock may have been set forward
        )
        scheduler.start()
        try:
            yield
        finally:
            self._pruning = None
            scheduler.shutdown(wait=False)

    async def _prune(self) -> None:
        await pruning.prune(self._store, self._store.clock.for_people() - milliseconds(self._config.state.history))

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        if self._reread is not None:
            loop.add_signal_handler(signal.SIGHUP, self._want_reload)

    def _end(self, number: signal.Signals) -> None:
        if self._stop:
            os._exit(128 + number)
        self._stop = number.name
        self._signalled.set()

    def _want_reload(self) -> None:
        self._reload_wanted = True
        self._signalled.set()


async def regularly(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Work at once, and again after each pause: by the event loop's clock, which nobody sets."""
    while True:
        await work()
        await asyncio.sleep(seconds)


async def run(
    config: Config,
    options: RunOptions,
    consumers: Sequence[Consumer],
    show: Callable[[str], None],
    reread: Reread | None = None,
) -> None:
    """Run the daemon until a signal ends it.

    Args:
        config: the configuration.
        options: how it was asked for.
        consumers: handle what happens.
        show: gets the calls of a dry run, as text.
        reread: reads the configuration again at SIGHUP; without it that signal does what it does to any process.

    Raises:
        StoreError: the store cannot be used, belongs to another database, or another daemon has it.
        AdminError: the admin address cannot be listened on.
    """
    failure: Exception | None = None
    try:
        await _Daemon(config, options, consumers, show, reread).run()
    except* StoreError as group:
        failure = most_telling(group)
    if failure is not None:
        raise failure

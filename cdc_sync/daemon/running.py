"""The daemon's run: open what is shared, start the watches and the sender, reload at SIGHUP, end in order.

At SIGTERM or SIGINT capture stops; what it has not applied is read again. The sender finishes the calls under way
within the grace period and saves their results; longer ones are marked as attempted and sent again after the next
start. A second signal ends the process at once, as safely as kill -9.

**A reload** reads and checks the file like a start. If the file is not valid, or changes a setting that needs a
restart, the whole configuration in use stays: never a mixture of two files.

The store, the admin server, the calls under way, the endpoints' states and unchanged watches go on. A watch with other
settings ends and starts again; its unapplied changes are in the change log or behind the watermark. A crash in between
is harmless: the next start reads the file. Signals meanwhile cause one more reload.

`run --once` catches up, delivers what is due, and returns: for a cron job, a test, a first careful try.
"""

import asyncio
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cdc_sync import __version__
from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config, ConfigurationError
from cdc_sync.config.models import allowed_hosts, built_urls, own_credentials, retry_policy, sender_horizon, watch_rules
from cdc_sync.config.tenants import SEPARATOR
from cdc_sync.core import conditions, events
from cdc_sync.core.conditions import starting
from cdc_sync.core.content import milliseconds, request
from cdc_sync.core.delivery import Credentials, Reply, is_paused, longest_on_its_way
from cdc_sync.core.events import Consumer, Dispatch, Emit, Event, Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reasons import coded
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.daemon.gate import Gate
from cdc_sync.daemon.pulse import BEAT_EVERY, LOOK_EVERY, STEP_OF_STORE, Lateness, Pulse, beat_for_ever
from cdc_sync.daemon.tenants import LOOK_AGAIN, TenantNews, look_after
from cdc_sync.daemon.watching import RunningWatches, WatchWorker
from cdc_sync.delivery.client import NO_OWN, Caller, Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.delivery.sender import Sender
from cdc_sync.event_loop import end, raise_failures, ungrouped
from cdc_sync.listening import allow_all_descriptors
from cdc_sync.pipeline.database import Database, Delivery, WatchParts, nobody, nothing
from cdc_sync.pipeline.discovery import Discovery, discover
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.sweep import Sweep
from cdc_sync.pipeline.watch import begin, connect
from cdc_sync.source.connection import Pool
from cdc_sync.source.errors import SourceError, refused_by_system
from cdc_sync.store.errors import AnotherDatabaseError, keys
from cdc_sync.store.opening import opened_by_daemon, opened_copy
from cdc_sync.store.store import Store

GRACE = 20.0
"""Seconds that calls under way may take after the first signal, at most."""

LOOK = 1.0
"""Seconds between checks that the store is where it was opened, and between reads of its pauses."""

MOST_EVENTS = 1_000_000
"""Events kept at most, at any age: about 300 MB, for 300,000 deliveries. A mass change must not fill the disk."""

LONGEST_GRACE = 30_000
"""Milliseconds for which a suspected deletion's grace is waited for; longer ones are left to the next run."""

_PRUNED_AT_ONCE = 5_000
"""Events deleted in one transaction: 20 to 40 ms."""


class Rehearsal:
    """HelloWork in a dry run: `show` gets each call as text; none is made, and all count as acknowledged."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `delivery.client.Caller`."""
        kinds = ", ".join(sorted(entry.kinds)) or "resend"
        body = visible_json(request(entry.application_id, entry.content)[0].decode())
        self._show(f"would POST {visible(entry.content.url)}\n           {body}\n           because: {kinds}")
        return Reply(status=200), ""


def opened_store(config: Config, emit: Emit = lambda _: None, *, dry_run: bool) -> AbstractAsyncContextManager[Store]:
    """The daemon's store; for a dry run a temporary copy.

    An SQLite store is upgraded in a thread of its own, which calls `emit`, while this one waits.

    Raises:
        StoreError: it cannot be used, or another daemon has it.
    """
    if dry_run:
        return opened_copy(config)
    return opened_by_daemon(config, lambda seconds: emit(events.StoreUpgrading(seconds)))


def opened_caller(
    config: Config, show: Callable[[str], None], *, dry_run: bool
) -> AbstractAsyncContextManager[Client | Rehearsal]:
    """HelloWork's API; for a dry run a substitute that only shows the calls."""
    return nullcontext(Rehearsal(show)) if dry_run else Client(*client_settings(config))


def client_settings(
    config: Config, gone: Mapping[str, Credentials] = NO_OWN
) -> tuple[dict[str, str], float, int, dict[str, Credentials]]:
    """A `Client`'s arguments as configured, with the credentials of watches that are `gone`."""
    headers = {name: value.get_secret_value() for name, value in config.hellowork.headers.items()}
    timeout = config.hellowork.timeout.total_seconds()
    return headers, timeout, config.hellowork.concurrency, {**gone, **own_credentials(config)}


def sender_settings(config: Config, gone: Mapping[str, Credentials] = NO_OWN) -> SenderSettings:
    """The sender's settings as configured; `gone` as in `client_settings`."""
    headers, *_, own = client_settings(config, gone)
    return SenderSettings(
        concurrency=config.hellowork.concurrency,
        rate=config.hellowork.rate_limit,
        policy=retry_policy(config),
        allowed=allowed_hosts(config),
        built=built_urls(config),
        horizon=sender_horizon(config),
        headers=headers,
        own=own,
    )


def make_sender(
    config: Config, store: Store, caller: Caller, observe: Emit, progressed: Callable[[], None] = lambda: None
) -> Sender:
    """The sender as configured."""
    return Sender(store, caller, sender_settings(config), observe, store.clock, progressed=progressed)


async def follow_pauses(sender: Sender, store: Store) -> bool:
    """Apply the operators' pauses to the sender; returns whether they could be read."""
    with suppress(StoreError):  # the sender reports it
        sender.pause(await store.paused())
        return True
    return False


async def known_watches(store: Store) -> Collection[str]:
    """The names of the watches in the store; none if it cannot be read."""
    with suppress(StoreError):  # the parts that work with it report that
        return await store.counts()
    return ()


async def tell_of_unconfigured(config: Config, store: Store, observe: Emit, besides: Collection[str]) -> None:
    """Report the watches in the store that are no longer configured, except those in `besides`.

    More than ten tenants of a template are one report.
    """
    found: dict[str, list[events.WatchUnconfigured]] = defaultdict(list)
    with suppress(StoreError):  # the parts that work with it report that, and `check` and `status` list the watches too
        for one in await store.unconfigured({*config.watches, *besides}):
            template, is_tenant, _ = one.watch.partition(SEPARATOR)
            found[f"{template}{SEPARATOR}%" if is_tenant else one.watch].append(one)
    for name, several in found.items():
        if len(several) <= MOST_LISTED:
            for one in several:
                observe(one)
            continue
        of_all = [sum(getattr(one, of) for one in several) for of in ("known", "pending", "held", "dead", "suspected")]
        observe(events.WatchUnconfigured(f"{name} ({len(several)} watches)", *of_all))


def make_database(config: Config, name: str, store: Store, recognised: Callable[[str], None] = nobody) -> Database:
    """A database of the ATS as configured, not connected yet."""
    section, is_only = config.all_databases[name], len(config.all_databases) == 1
    dsn = section.dsn.get_secret_value()
    return Database(dsn, store, section.pool, name, recognised=recognised, is_only=is_only)


async def note_credentials(config: Config, store: Store) -> None:
    """Save the owner of the credentials of each watch's calls, for those who show the endpoints."""
    owners = {name: own.owner for name, own in own_credentials(config).items()}
    with suppress(StoreError):  # the parts that work with it report that
        await store.note_credentials(owners, config.watches.keys())


def make_parts(
    config: Config, name: str, database: Database, observe: Emit, *, dry_run: bool, delivery: Delivery | None = None
) -> WatchParts:
    """A watch's parts as configured."""
    return WatchParts(
        name=name,
        watch=config.watches[name],
        rules=watch_rules(config, name),
        database=database,
        observe=observe,
        clock=database.store.clock,
        delivery=delivery,
        dry_run=dry_run,
    )


async def prune(store: Store, before: int, keep: int = MOST_EVENTS) -> None:
    """Delete events older than `before` (milliseconds since the epoch), and all but the newest `keep`.

    In small steps, so that others can use the store. The sender and the watches report a store that cannot be written.
    """
    with suppress(StoreError):
        while await store.prune(before, keep, _PRUNED_AT_ONCE) == _PRUNED_AT_ONCE:
            pass


@dataclass(frozen=True, slots=True)
class Reread:
    """Where the configuration comes from: `read` reads it again, `used` is called when that is in use."""

    read: Callable[[], Config]
    used: Callable[[Config], None]


def changes_that_need_a_restart(now: Config, then: Config) -> tuple[str, ...]:
    """A line for each changed setting that only a restart can change."""
    before, after = _of_the_process(now), _of_the_process(then)
    (name, *_) = then.all_databases
    shown = {"database.dsn": keys(name)["dsn"]}
    changed = [shown.get(key, key) for key in before if before[key] != after[key]]
    return tuple(
        f"{key} cannot be changed while the daemon runs: restart it for that, or write the present value again"
        for key in changed
    )


def _of_the_process(config: Config) -> dict[str, object]:
    """The settings that only a restart can change: the store and the address belong to the process."""
    state = config.state
    shares_database = state.backend == "postgres" and state.dsn is None
    (database, *_) = config.all_databases.values()
    return {
        **{f"state.{key}": getattr(state, key) for key in ("backend", "path", "dsn")},
        "database.dsn": database.dsn if shares_database else None,
        "admin.listen": config.admin.listen,
    }


@dataclass(eq=False)
class _Daemon:
    """The parts of one run."""

    _config: Config
    _consumers: Sequence[Consumer]
    _show: Callable[[str], None]
    _reread: Reread | None
    _dry_run: bool
    _beat_every: float
    _store: Store = field(init=False)
    _caller: Client | Rehearsal = field(init=False)
    _sender: Sender = field(init=False)
    _gate: Gate = field(init=False)
    _watches: RunningWatches = field(init=False)
    _admin: AdminServer = field(init=False)
    _pruning: Job = field(init=False)
    _conditions_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _metrics: EventMetrics = field(default_factory=EventMetrics)
    _pulse: Pulse = field(default_factory=Pulse)
    _signalled: asyncio.Event = field(default_factory=asyncio.Event)
    _is_reload_wanted: bool = False
    _look_at: float = 0.0
    """The time of the next look for tenants."""
    _looking: asyncio.Task[Discovery] | None = None
    """The look that a start or a reload waits for."""
    _looked: tuple[Config, Discovery] | None = None
    """A look's configuration and its result."""
    _gone: dict[str, Credentials] = field(default_factory=dict)
    """The credentials of watches that are no longer configured, as far as this process has had them."""
    _stop: str = ""

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

    def _handlers(self) -> Handlers:
        return {
            events.ClockSkewed: self._clock_was_set,
            events.ClockAgrees: self._clock_was_set,
            events.WatchConnected: lambda event: self._gate.recognise(event.watch),
            events.WatchLost: lambda event: self._gate.lost(event.watch, event.code),
        }

    def _fold(self, event: Event) -> None:
        after = conditions.fold(self._conditions, event)
        if after is not self._conditions:
            self._conditions = after
            self._conditions_changed.set()

    def _clock_was_set(self, _: events.ClockSkewed | events.ClockAgrees) -> None:
        """Prune now: the wall clock schedules that, and may have been set back."""
        self._pruning.modify(next_run_time=datetime.now(UTC))

    async def run(self) -> None:
        dry_run = self._dry_run
        allow_all_descriptors()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        if self._reread is not None:
            loop.add_signal_handler(signal.SIGHUP, self._want_reload)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(opened_store(self._config, self._emit, dry_run=dry_run))
            self._store, self._moves = store, store.moves
            found = await self._discover(self._config, await known_watches(store))
            if found is None:
                self._emit(events.DaemonStopped())
                return
            config = self._config = self._tenants.tell(found)
            self._conditions = {**self._conditions, **starting(tuple(config.watches))}
            self._caller = await stack.enter_async_context(opened_caller(config, self._show, dry_run=dry_run))
            progressed = partial(self._pulse.beat, "sender", STEP_OF_STORE)
            self._sender = make_sender(config, store, self._caller, self._emit, progressed)
            store.wake = self._sender.look
            self._gate = Gate(store, self._sender.look)
            # Daemons that share a store all deliver, also one that waits for its turn to capture.
            recognised = self._gate.recognise if config.state.backend == "postgres" else nobody
            database = partial(make_database, store=store, recognised=recognised)
            self._watches = RunningWatches(self._worker, database, self._gate, self._emit)
            self._admin = AdminServer(
                config,
                store,
                self._metrics,
                lambda: self._conditions,
                store.clock.for_people,
                hung=self._pulse.hung,
                observe=self._emit,
            )
            if not dry_run:
                await stack.enter_async_context(self._admin.serving())
            scheduler = AsyncIOScheduler(timezone=UTC)
            self._pruning = scheduler.add_job(
                self._prune,
                "interval",
                minutes=10,
                next_run_time=datetime.now(UTC),
                coalesce=True,
                max_instances=2,  # a second run meanwhile needs no warning; they skip each other's rows
                misfire_grace_time=None,  # however late: the clock may have been set forward
            )
            scheduler.start()
            stack.callback(scheduler.shutdown, wait=False)
            self._emit(events.DaemonStarted(__version__, tuple(config.watches), dry_run, self._admin.url))
            await note_credentials(config, store)
            await tell_of_unconfigured(config, store, self._emit, self._tenants.refused)
            await self._supervise(look_after(found))
        self._emit(events.DaemonStopped())

    async def _prune(self) -> None:
        await prune(self._store, self._store.clock.for_people() - milliseconds(self._config.state.history))

    def _worker(self, config: Config, name: str, database: Database) -> WatchWorker:
        parts = make_parts(config, name, database, self._emit, delivery=self._sender, dry_run=self._dry_run)
        return WatchWorker(parts, self._pulse)

    async def _supervise(self, wait: float) -> None:
        store, watches = self._store, self._watches
        await watches.use(self._config)
        lateness = Lateness(lambda: self._config, store, self._metrics.lag.capture, self._emit, store.clock)
        works = [
            self._send(),
            self._note_conditions(),
            beat_for_ever(self._pulse, store, self._emit, min(BEAT_EVERY, self._beat_every)),
            regularly(lateness.look, LOOK_EVERY),
            regularly(self._look_at_store, LOOK_EVERY),
            regularly(store.check_place, LOOK),
            regularly(lambda: follow_pauses(self._sender, store), LOOK),
            self._look_for_tenants(wait),
        ]
        lasting = [asyncio.create_task(work) for work in works]
        try:
            while await self._is_change_wanted([*watches.tasks, *lasting]):
                if self._is_reload_wanted:
                    self._is_reload_wanted = False
                    await self._reload()
                await self._use_tenants()
            if self._stop:
                self._emit(events.DaemonStopping(self._stop, self._sender.under_way))
                await end(watches.tasks)
                self._sender.stop()
                await asyncio.wait(lasting[:1], timeout=GRACE if self._gate.any.is_set() else 0)
        finally:
            await end([*watches.tasks, *lasting])
        raise_failures([*watches.tasks, *lasting])

    async def _is_change_wanted(self, parts: Collection[asyncio.Task[Any]]) -> bool:
        """Wait until other watches are wanted, by a reload or new or gone tenants; False at the end."""
        signalled = asyncio.create_task(self._signalled.wait())
        try:
            await asyncio.wait([*parts, signalled], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end([signalled])
        self._signalled.clear()
        return not self._stop and not any(part.done() for part in parts)

    async def _reload(self) -> None:
        """Use the file's present configuration; or keep the one in use, whole, and report why."""
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
        found = await self._discover(config, self._config.watches, self._watches.pools(config))
        if found is None:
            return
        self._look_at = asyncio.get_running_loop().time() + look_after(found)
        config = self._tenants.tell(found)
        self._reread.used(config)
        self._events.rebuild()  # the log's level may differ
        await self._take_over(config)
        self._emit(await self._watches.use(config))
        await tell_of_unconfigured(config, self._store, self._emit, self._tenants.refused)

    async def _discover(
        self, config: Config, known: Iterable[str], pools: Mapping[str, Pool] = MappingProxyType({})
    ) -> Discovery | None:
        """Look for tenants; None if the daemon is to end, which waits for no database."""
        self._looking = asyncio.create_task(discover(config, known, pools), name="looking for tenants")
        if self._stop:
            self._looking.cancel()
        try:
            await asyncio.wait([self._looking])
        finally:
            await end([self._looking])
        return None if self._looking.cancelled() else self._looking.result()

    async def _look_for_tenants(self, wait: float) -> None:
        """Look for tenants for ever, first after `wait` seconds; the supervising task uses the results."""
        clock = asyncio.get_running_loop().time
        self._look_at = clock() + wait
        while True:
            # In steps: a reload that could not query a database sets an earlier look.
            while (left := self._look_at - clock()) > 0:  # noqa: ASYNC110 - as far as nothing is set earlier
                await asyncio.sleep(min(left, LOOK_AGAIN))
            config = self._config
            found = await discover(config, config.watches, self._watches.pools(config))
            self._looked, self._look_at = (config, found), clock() + look_after(found)
            self._signalled.set()

    async def _use_tenants(self) -> None:
        """Start and end watches as tenants come and go; a reload meanwhile has made its own look."""
        looked, self._looked = self._looked, None
        if looked is None or looked[0] is not self._config:
            return
        config = self._tenants.tell(looked[1])
        if config.watches == self._config.watches:
            return
        await self._take_over(config)
        changed = await self._watches.use(self._config)
        if changed.begun:
            self._emit(events.TenantsFound(changed.begun))
        if changed.ended:
            self._emit(events.TenantsGone(changed.ended))

    async def _take_over(self, config: Config) -> None:
        """Give what all watches share another configuration. Before the watches: what they enqueue may be sent."""
        before, self._config = {**self._gone, **own_credentials(self._config)}, config
        self._store.expect(longest_on_its_way(config.hellowork.timeout.total_seconds()))
        await note_credentials(config, self._store)
        await follow_pauses(self._sender, self._store)  # the endpoints may have other names
        # Pending entries of a watch that is gone are still sent, with its own credentials only.
        self._gone = {of: replace(own, owner=of) for of, own in before.items() if of not in config.watches}
        self._admin.use(config)
        self._sender.use(sender_settings(config, self._gone))
        # In the same turn of the event loop: the sender's settings show which credentials a call had.
        if isinstance(self._caller, Client):
            await self._caller.use(*client_settings(config, self._gone))

    async def _send(self) -> None:
        """Send, once a database is known to be the store's own."""
        await self._gate.any.wait()
        while not await follow_pauses(self._sender, self._store):  # noqa: ASYNC110 - what is read is elsewhere
            await asyncio.sleep(LOOK)
        await self._sender.run()

    async def _note_conditions(self) -> None:
        """Keep the store's list of conditions up to date, for `status` from another process."""
        store = self._store
        noted = {condition.name: condition.message for condition in await store.conditions()}
        while True:
            self._conditions_changed.clear()
            wanted = dict(self._conditions)
            changed = {name: wanted.get(name) for name, _ in wanted.items() ^ noted.items()}
            with suppress(StoreError):  # saved with the next change, such as the store's recovery
                if changed:
                    await store.set_conditions(changed, store.clock.for_people())
                noted = wanted
            await self._conditions_changed.wait()

    async def _look_at_store(self) -> None:
        """Log operators' actions, also those without a daemon; sweep every watch if the store's server changed."""
        if self._store.moves != self._moves:
            # Changes that this server lacks were already deleted from the log.
            self._moves = self._store.moves
            self._emit(events.StoreMoved())
            self._watches.want_sweeps()
        with suppress(StoreError):  # the sender reports it
            for acted in [] if self._dry_run else await self._store.take_actions():
                self._emit(acted)

    def _want_reload(self) -> None:
        self._is_reload_wanted = True
        self._signalled.set()

    def _end(self, number: signal.Signals) -> None:
        if self._stop:
            os._exit(128 + number)
        self._stop = number.name
        if self._looking is not None:
            self._looking.cancel()
        self._signalled.set()


async def regularly(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Work at once, and again after each pause, by the event loop's clock, which is monotonic."""
    while True:
        await work()
        await asyncio.sleep(seconds)


async def run(
    config: Config,
    consumers: Sequence[Consumer],
    show: Callable[[str], None],
    reread: Reread | None = None,
    *,
    dry_run: bool,
    beat_every: float,
) -> None:
    """Run the daemon until a signal ends it.

    `show` gets the calls of a dry run. Without `reread`, SIGHUP has its default effect. `beat_every` is the longest
    time between heart beats, in seconds.

    Raises:
        StoreError: the store cannot be used, belongs to another database, or another daemon has it.
        AdminError: the admin address cannot be listened on.
    """
    with ungrouped(AnotherDatabaseError, StoreError):
        await _Daemon(config, consumers, show, reread, dry_run, beat_every).run()


@dataclass(frozen=True, slots=True)
class OnceResult:
    """What one run did, and what is left for the next.

    Attributes:
        calls: how many, by outcome (acknowledged, retry, dead); dead letters that were never called count as dead.
        failed: whether a watch could not catch up, or a due entry could not be delivered.
    """

    calls: Counter[str]
    failed: bool
    pending: int
    held: int
    dead: int


async def run_once(
    config: Config, consumers: Sequence[Consumer], show: Callable[[str], None], *, dry_run: bool
) -> OnceResult:
    """Catch up with every watch, deliver what is due, and return. A watch that fails does not stop the others.

    Raises:
        SourceError: no watch's database can be used; nothing is waited for.
        StoreError: the store cannot be used.
    """
    calls: Counter[str] = Counter()

    def count(event: events.CallEnded | events.Decided) -> None:
        if isinstance(event, events.CallEnded) or event.outcome == "dead":
            calls[event.outcome] += 1

    emit = Dispatch(*consumers, lambda: {events.CallEnded: count, events.Decided: count}).emit

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(config, emit, dry_run=dry_run))
        tenants = await discover(config, await known_watches(store))
        config = TenantNews(emit).tell(tenants)
        for error in tenants.unasked.values() if not config.watches else ():
            raise error
        caller = await stack.enter_async_context(opened_caller(config, show, dry_run=dry_run))
        await note_credentials(config, store)
        await tell_of_unconfigured(config, store, emit, tenants.refused)
        for acted in [] if dry_run else await store.take_actions():
            emit(acted)
        sender = make_sender(config, store, caller, emit)
        lost = await _catch_up_all(config, store, sender, emit, dry_run=dry_run)
        sender.pause(await store.paused())
        following = asyncio.create_task(regularly(lambda: follow_pauses(sender, store), LOOK))
        try:
            await sender.run_once()
        finally:
            await end([following])
        now, paused = store.clock(), await store.paused()
        refused = any(
            (health.mode != "healthy" or is_paused(paused, endpoint)) and due_at is not None and due_at <= now
            for endpoint, (health, due_at) in (await store.endpoints()).items()
        )
        counts = (await store.counts()).values()
        pending, held, dead = (sum(getattr(of, state) for of in counts) for state in ("pending", "held", "dead"))
        failed = bool(lost or tenants.refused or tenants.unasked or refused or calls["retry"] or calls["dead"])
        return OnceResult(calls, failed, pending, held, dead)


async def _catch_up_all(config: Config, store: Store, sender: Sender, emit: Emit, *, dry_run: bool) -> int:
    """Catch up with every watch; returns how many failed. Entries that may not be sent are withheld.

    Raises:
        SourceError: every watch failed.
        AnotherDatabaseError: the only database is the wrong one.
    """
    gate, lost = Gate(store, sender.look), 0
    await gate.use(config, ())
    of_databases: dict[str, list[str]] = defaultdict(list)
    for name in config.watches:
        of_databases[config.database_name(name)].append(name)
    for database_name, names in of_databases.items():
        database = make_database(config, database_name, store)
        async with database.kept():
            for name in names:
                try:
                    if database.failure is not None:
                        raise database.failure  # one try for all of its watches
                    await _catch_up(make_parts(config, name, database, emit, dry_run=dry_run))
                    gate.recognise(name)
                except (SourceError, OSError, AnotherDatabaseError) as failure:
                    error = refused_by_system(failure) if isinstance(failure, OSError) else failure
                    lost += 1
                    is_another = isinstance(error, AnotherDatabaseError)
                    if lost == len(config.watches) or (is_another and database.is_only):
                        raise error from None
                    wrong = isinstance(error, AnotherDatabaseError) or error.kind == "misconfigured"
                    emit(events.WatchLost(name, error.message, wrong, error.code, database=database.shown_name))
                    gate.lost(name, error.code)
                finally:
                    store.withdraw(name)  # or another daemon would leave it to this run
    return lost


async def _catch_up(parts: WatchParts) -> None:
    async with connect(parts) as intake:
        # Missing triggers are no failure: each run's sweep compares every row.
        meanwhile = coded("run-finds", "What that misses, the sweep of each run finds, as this one's does.")
        capture = await begin(intake, meanwhile, nothing)
        await capture.catch_up()
        if (await Sweep(capture, capture.catch_up, nothing).run()).resumed:
            await Sweep(capture, capture.catch_up, nothing).run()
        await _confirm(intake)


async def _confirm(intake: Intake) -> None:
    """Answer the suspected deletions with a grace that ends soon."""
    until = intake.clock() + LONGEST_GRACE
    while True:
        await intake.confirm_due()
        due_at = await intake.store.next_suspicion(intake.rules.watch)
        if due_at is None or due_at > until:
            return
        await asyncio.sleep(max(due_at - intake.clock(), 1) / 1000)

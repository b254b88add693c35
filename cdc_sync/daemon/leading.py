"""One lead: start the watches and the sender, reload, follow tenants, end in order.

**A reload** reads and checks the file like a start. A watch with other settings ends and starts again; its unapplied
changes are in the change log or behind the watermark. Signals meanwhile cause one more reload, and signals during the
start cause one as soon as the daemon works.

Each look for tenants, at the start, at a reload, and regularly, may start and end watches.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cdc_sync.ats.database import Database
from cdc_sync.ats.discovery import discover
from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.content import milliseconds
from cdc_sync.core.events import Event
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon import wiring
from cdc_sync.daemon.gate import Gate
from cdc_sync.daemon.process import Process, until
from cdc_sync.daemon.pulse import LOOK_EVERY, Lateness
from cdc_sync.daemon.requests import execute_requests
from cdc_sync.daemon.tenant_news import TenantNews, look_after
from cdc_sync.daemon.watching import RunningWatches, WatchWorker
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.sender import Sender
from cdc_sync.event_loop import end, raise_failures, regularly
from cdc_sync.store import Store
from cdc_sync.store.lead import Lead
from cdc_sync.store.opening import configuration_of, longest_call

GRACE = 20.0
"""Seconds that calls under way may take after the first signal."""

MOST_EVENTS = 1_000_000
"""Kept events, at any age: about 300 MB, of 300,000 deliveries. A mass change must not fill the disk."""

_PRUNED_AT_ONCE = 1_000
"""Events deleted in one transaction."""

# fmt: off
HANDLED = (
    events.WatchConnected, events.PendingReread, events.WatchEnded, events.WatchLost, events.WatchStandsBy,
    events.ClockSkewed, events.ClockAgrees,
)
# fmt: on
"""The events that `heed` takes."""


class Leading:
    """See the module's text; made by `opened`."""

    def __init__(self, process: Process, lead: Lead, caller: Client | wiring.Rehearsal) -> None:
        self._process = process
        self._lead = lead
        self._caller = caller
        self._config = process.config
        self._look_at = 0.0
        """When to look for tenants, by the event loop's clock."""
        self._lasting: Sequence[asyncio.Task[None]] = ()
        self.store = store = lead.store
        self._tenants = TenantNews(process.emit)
        settings = wiring.sender_settings(process.config)
        self._gate = Gate(lambda: self._sender.recheck())  # noqa: PLW0108 - it is made below
        self._sender = Sender(
            store.delivery,
            caller,
            settings,
            process.emit,
            store.driver.clock,
            may_begin=lead.may_call,
            may_send=self._gate.may_send,
        )
        database = partial(wiring.make_database, store=store)
        self._watches = RunningWatches(self._worker, database, process.emit)
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    @classmethod
    async def opened(cls, process: Process, lead: Lead, stack: AsyncExitStack) -> Self:
        """A lead's parts, which the stack closes."""
        caller = wiring.opened_caller(process.config, process.show, dry_run=process.dry_run)
        return cls(process, lead, await stack.enter_async_context(caller))

    async def first_configuration(self) -> Config | None:
        """The configuration with its present tenants; None if the daemon is to end."""
        known = await wiring.known_watches(self.store) or ()
        return await self._with_tenants(self._process.config, known, self._process.stopping)

    async def without_live_row(self, watch: str, ids: Sequence[str]) -> Collection[str]:
        """See `ats.rows_elsewhere`."""
        return await self._watches.without_live_row(self._config, watch, ids)

    def heed(self, event: Event) -> None:
        """Let watches send, or not; prune after the wall clock was set."""
        match event:
            case events.PendingReread(watch):
                self._gate.open(watch)
            case events.WatchConnected(watch) | events.WatchEnded(watch) | events.WatchStandsBy(watch):
                self._gate.close(watch)
            case events.WatchLost(watch):
                self._gate.lost(watch, event.code)
            case _:  # the wall clock may have been set back
                self._pruning.modify(next_run_time=datetime.now(UTC))

    async def work(self, config: Config) -> None:
        """Work until a signal, a part's failure, or the loss of the lead.

        Raises:
            BaseExceptionGroup: of the failures.
        """
        process, store, emit = self._process, self.store, self._process.emit
        self._begin_pruning()
        try:
            await wiring.report_unconfigured(config, store, emit, self._tenants.refused)
            await self._use(config)
            lateness = Lateness(lambda: self._config, store, process.metrics.lag.capture, emit, store.driver.clock)
            works = [
                self._send(),
                self._note_conditions(),
                regularly(lateness.look, LOOK_EVERY),
                regularly(self._log_actions, LOOK_EVERY),
                regularly(lambda: wiring.follow_pauses(self._sender, store), wiring.LOOK),
            ]
            if not process.dry_run:
                executed = partial(wiring.follow_requests, self._sender, store)
                works.append(execute_requests(store, lambda: self._config.watches, executed))
            self._lasting = [asyncio.create_task(work) for work in works]
            await self._follow_changes()
            if process.stop:
                await self._stop()
        finally:
            self._scheduler.shutdown(wait=False)
            # The calls first: a former leader has little time for that.
            await end(self._lasting[:1])
            self._lead.no_more_calls()
            await end(self._tasks)
        raise_failures(self._tasks)

    async def _stop(self) -> None:
        self._process.emit(events.DaemonStopping(self._process.stop, self._sender.under_way))
        await end(self._watches.tasks)
        if not await self._sender.stop(GRACE):
            with suppress(StoreError):  # then what is pending counts as attempted at the next start
                await self.store.delivery.stopped_cleanly()

    @property
    def _tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that work until the end; one that ends before is a failure."""
        return [self._lead.holding, *self._lasting, *self._watches.tasks]

    def _worker(self, config: Config, name: str, database: Database) -> WatchWorker:
        shared = database, self._process.emit, self._watches.others
        parts = wiring.make_parts(config, name, *shared, calls=self._sender, dry_run=self._process.dry_run)
        return WatchWorker(parts)

    # Reloads, and other tenants.

    async def _follow_changes(self) -> None:
        """Follow reloads and tenants until a signal asks for the end, or a part fails."""
        process = self._process
        while True:
            within = max(self._look_at - asyncio.get_running_loop().time(), 0)
            await until(process.signalled, besides=self._tasks, within=within)
            process.signalled.clear()
            if process.stop or any(task.done() for task in self._tasks):
                return
            if process.is_reload_wanted:
                process.is_reload_wanted = False
                await self._reload()
            else:
                await self._follow_tenants()

    async def _reload(self) -> None:
        """Use the file's present configuration, or report why not."""
        process = self._process
        config = await process.read_again()
        found = config and await self._with_tenants(config, self._config.watches, process.stopping)
        if found is None:
            return
        process.use(found)
        process.emit(await self._use(found))
        await wiring.report_unconfigured(found, self.store, process.emit, self._tenants.refused)

    async def _follow_tenants(self) -> None:
        """Start and end watches as tenants come and go."""
        config = await self._with_tenants(self._config, self._config.watches, self._process.signalled)
        if config is None or config.watches == self._config.watches:
            return
        changed = await self._use(config)
        if changed.begun:
            self._process.emit(events.TenantsFound(changed.begun))
        if changed.ended:
            self._process.emit(events.TenantsGone(changed.ended))

    async def _with_tenants(self, config: Config, known: Iterable[str], unless: asyncio.Event) -> Config | None:
        """A configuration with its present tenants; None if an event, or a part's failure, comes first."""
        looking = asyncio.create_task(discover(config, known, self._watches.pools(config)), name="looking for tenants")
        await until(unless, looking, besides=self._tasks)
        if looking.cancelled():
            return None
        found = looking.result()
        self._look_at = asyncio.get_running_loop().time() + look_after(found)
        return self._tenants.report(found)

    async def _use(self, config: Config) -> events.Reloaded:
        """Use another configuration; returns which watches begin and end.

        First for what they share: what a watch enqueues may be sent at once.
        """
        self._config = self._process.config = config
        self._lead.expect(longest_call(config), configuration_of(config))
        await wiring.note_configured(config, self.store)
        self._process.admin.use(config)
        self._gate.use(config)
        self._sender.use(wiring.sender_settings(config))
        # In one turn of the event loop: the sender's settings show which credentials a call had.
        if isinstance(self._caller, Client):
            await self._caller.use(Client(*wiring.client_settings(config)))
        return await self._watches.use(config)

    # What lasts.

    async def _send(self) -> None:
        while not await wiring.follow_pauses(self._sender, self.store):  # noqa: ASYNC110 - what is read is elsewhere
            await asyncio.sleep(wiring.LOOK)
        await self._sender.run()

    async def _log_actions(self) -> None:
        """Log operators' actions."""
        with suppress(StoreError):  # the sender reports it
            for acted in [] if self._process.dry_run else await self.store.operation.take_actions():
                self._process.emit(acted)

    async def _note_conditions(self) -> None:
        """Keep the store's list of conditions, for `status` from another process."""
        process, store = self._process, self.store
        noted: Mapping[str, str] | None = None
        while True:
            process.conditions_changed.clear()
            wanted = dict(process.conditions)
            try:
                if noted is None:
                    noted = {condition.name: condition.message for condition in await store.operation.conditions()}
                changed = {name: wanted.get(name) for name, _ in wanted.items() ^ noted.items()}
                if changed:
                    await store.operation.set_conditions(changed, store.driver.clock.for_people())
            except StoreError:  # no event may follow
                await asyncio.sleep(wiring.LOOK)
                continue
            noted = wanted
            await process.conditions_changed.wait()

    def _begin_pruning(self) -> None:
        self._pruning: Any = self._scheduler.add_job(
            self._prune,
            "interval",
            minutes=10,
            next_run_time=datetime.now(UTC),
            coalesce=True,
            max_instances=2,  # without a warning
            misfire_grace_time=None,  # however late: the clock may have been set forward
        )
        self._scheduler.start()

    async def _prune(self) -> None:
        await prune(self.store, self.store.driver.clock.for_people() - milliseconds(self._config.state.history))


async def prune(store: Store, before: int, keep: int = MOST_EVENTS) -> None:
    """Delete events older than `before` (milliseconds since the epoch), and all but the newest `keep`.

    In small steps, so that others can use the store.
    """
    with suppress(StoreError):
        while await store.operation.prune(before, keep, _PRUNED_AT_ONCE) == _PRUNED_AT_ONCE:
            pass

"""A leader's parts, made from one configuration: start the watches and the sender, follow tenants, end in order.

After a reload other parts follow, made from the other configuration. What these had not applied is in the change log or
behind the watermark. Each look for tenants may start and end watches; the others go on.

A watch sends from the moment at which the rows of its pending entries were read again, since it began: the database is
known to be the store's then, and the entries are not those of a restored store, with states that are older than what
HelloWork has. It begins at the start, after a reload, and each time its database was lost.
"""

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress
from functools import partial

from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.content import milliseconds
from cdc_sync.core.events import Event
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon import chores, wiring
from cdc_sync.daemon.process import Process, unless, until
from cdc_sync.daemon.pulse import LOOK_EVERY, Lateness
from cdc_sync.daemon.requests import execute_requests
from cdc_sync.daemon.tenants import Tenants
from cdc_sync.daemon.watching import RunningWatches
from cdc_sync.delivery.client import Client
from cdc_sync.event_loop import end, raise_failures, regularly
from cdc_sync.store.lead import Lead
from cdc_sync.store.opening import configuration_of, longest_call

GRACE = 20.0
"""Seconds that calls under way may take after the first signal."""

HANDLED = (
    events.WatchConnected,
    events.PendingReread,
    events.WatchEnded,
    events.WatchLost,
    events.WatchStandsBy,
    events.ClockSkewed,
    events.ClockAgrees,
)
"""The events that `heed` takes."""


class Leading:
    """See the module's text."""

    def __init__(
        self, process: Process, lead: Lead, caller: Client | wiring.Rehearsal, config: Config, tenants: Tenants
    ) -> None:
        self._process = process
        self._lead = lead
        self._caller = caller
        self._config = config
        self._tenants = tenants
        self._lasting: Sequence[asyncio.Task[None]] = ()
        self.store = lead.store
        self._may_send: set[str] = set()
        self._pruning = chores.Pruning(self.store, milliseconds(config.state.history))
        self._sender = wiring.make_sender(config, lead, caller, self._may_send, process.emit)
        self._watches = RunningWatches(config, self.store, process.emit, self._sender, dry_run=process.dry_run)

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._sender.under_way

    async def without_live_row(self, watch: str, ids: Sequence[str]) -> Collection[str]:
        """See `ats.rows_elsewhere`."""
        return await self._watches.without_live_row(self._config, watch, ids)

    async def _with_row(self, watch: str, ids: Sequence[str]) -> Collection[str]:
        """See `ats.rows_elsewhere`; nobody can ask for a watch that is not configured."""
        if watch not in self._config.watches:
            return ids
        return await self._watches.with_row(self._config, watch, ids)

    def heed(self, event: Event) -> None:
        """Let a watch send, or not; see the module's text."""
        match event:
            case events.ClockSkewed() | events.ClockAgrees():
                self._pruning.follow_clock()
            case events.PendingReread(watch):
                self._may_send.add(watch)
            case events.WatchConnected(watch) | events.WatchEnded(watch) | events.WatchStandsBy(watch):
                self._may_send.discard(watch)
            case events.WatchLost(watch, code="store-another-database"):
                self._may_send.discard(watch)
        self._sender.recheck()

    async def work(self) -> None:
        """Work until a signal asks for the end or for another configuration, a part fails, or the lead is lost.

        Raises:
            BaseExceptionGroup: of the failures.
        """
        store, config = self.store, self._config
        self._lead.expect(longest_call(config), configuration_of(config))
        await wiring.note_configured(config, store)
        await wiring.report_unconfigured(config, store, self._process.emit, self._tenants.refused)
        self._pruning.start()
        try:
            self._lasting = [asyncio.create_task(work) for work in self._works()]
            self._watches.start(config)
            await self._follow_changes()
            if not any(task.done() for task in self._tasks):
                await self._stop()
        finally:
            self._pruning.end()
            # The calls first: a former leader has little time for that.
            await end(self._lasting[:1])
            if self._lead.holding.done():
                self._lead.no_more_calls()
            await end([*self._lasting, *self._watches.tasks])
        raise_failures([task for task in self._tasks if task.done()])

    def _works(self) -> Sequence[Coroutine[object, object, None]]:
        process, store, clock = self._process, self.store, self.store.driver.clock
        lateness = Lateness(lambda: self._config, store, process.metrics.lag.capture, process.emit, clock)
        kept = milliseconds(self._config.state.forget_after)
        works = [
            self._send(),
            chores.NotedConditions(process, store).follow(),
            regularly(lambda: chores.count(process, store), LOOK_EVERY),
            regularly(lateness.look, LOOK_EVERY),
            regularly(lambda: wiring.follow_pauses(self._sender, store), wiring.LOOK),
        ]
        if not process.dry_run:
            executed = partial(wiring.follow_requests, self._sender, store)
            works.append(execute_requests(store, lambda: self._config.watches, executed))
            works.append(regularly(lambda: chores.report_actions(process, store), LOOK_EVERY))
            forget = partial(chores.forget_deleted, store, with_row=self._with_row)
            works.append(regularly(lambda: forget(clock.for_people() - kept), chores.FORGET_EVERY))
        return works

    async def _send(self) -> None:
        while not await wiring.follow_pauses(self._sender, self.store):  # noqa: ASYNC110 - what is read is elsewhere
            await asyncio.sleep(wiring.LOOK)
        await self._sender.run()

    async def _stop(self) -> None:
        """End capture, then the calls."""
        await end(self._watches.tasks)
        if not await self._sender.stop(GRACE):
            with suppress(StoreError):  # then what is pending counts as attempted from now on
                await self.store.delivery.stopped_cleanly()

    @property
    def _tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that work until the end; one that ends before is a failure."""
        return [self._lead.holding, *self._lasting, *self._watches.tasks]

    # Other tenants.

    async def _follow_changes(self) -> None:
        """Follow tenants until a signal asks for the end or another configuration, or a part fails."""
        process = self._process
        while not (process.stopping.is_set() or any(task.done() for task in self._tasks)):
            if process.is_reload_wanted:
                if await process.reload():
                    return
            elif self._tenants.look_at <= asyncio.get_running_loop().time():
                await self._follow_tenants()
            within = max(self._tenants.look_at - asyncio.get_running_loop().time(), 0)
            await until(process.signalled, besides=self._tasks, within=within)
            process.signalled.clear()

    async def _follow_tenants(self) -> None:
        """Start and end watches as tenants come and go."""
        watches, emit = self._watches, self._process.emit
        look = self._tenants.look(self._config, self._config.watches, watches.pools)
        config = await unless(self._process.signalled, look, besides=self._tasks)
        if config is None or config.watches == self._config.watches:
            return
        if gone := await watches.end_others(config):
            emit(events.TenantsGone(gone))
        await self._use(config)
        if found := self._watches.start(config):
            emit(events.TenantsFound(found))

    async def _use(self, config: Config) -> None:
        """Let what the watches share know other tenants: what a new one enqueues may be sent at once."""
        self._config = config
        await wiring.note_configured(config, self.store)
        self._process.admin.use(config)
        self._sender.use(wiring.sender_settings(config))
        # In one turn of the event loop: the sender's settings show which credentials a call had.
        if isinstance(self._caller, Client):
            await self._caller.use(wiring.make_client(config))

"""A leader's parts, made from one configuration: start the watches and the sender, follow tenants, end in order.

After a reload other parts follow, made from the other configuration. What these had not applied is in the change log or
behind the watermark. Each look for tenants may start and end watches; the others go on.

A watch sends from the moment at which the rows of its pending entries were read again, since it began: the database is
known to be the store's then, and the entries are not those of a restored store, with states that are older than what
HelloWork has. It begins at the start, after a reload, and each time its database was lost.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from cdc_sync.config import Config, models
from cdc_sync.core import events
from cdc_sync.core.content import milliseconds, request
from cdc_sync.core.events import Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import Reply
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.delivery.sender import Sender
from cdc_sync.event_loop import Task, Work, end, raise_failures, regularly
from cdc_sync.store.lead import Lead
from cdc_sync.store.opening import configuration_of, longest_call

from . import chores
from .process import Process, unless
from .watching import Watches

GRACE = 20.0
"""Seconds that calls under way may take after the first signal."""

_OPERATORS_EVERY = 1.0
"""Seconds between looks for what operators want."""

_MORE_REQUESTS = 0.1
"""Seconds after a request: a command with many entries asks again at once."""

_LOOK_EVERY = 5.0
"""Seconds between looks at what the store has, and at what is late."""


class Rehearsal(Client):
    """HelloWork in a dry run: `show` gets each call as text; all count as acknowledged."""

    def __init__(self, show: Callable[[str], None], *settings: Any) -> None:
        super().__init__(*settings)
        self._show = show

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `delivery.client.Caller`."""
        kinds = ", ".join(sorted(entry.kinds)) or "resend"
        body = visible_json(request(entry.application_id, entry.content)[0].decode())
        self._show(f"would POST {visible(entry.content.url)}\n           {body}\n           because: {kinds}")
        return Reply(status=200), ""


def sender_settings(config: Config) -> SenderSettings:
    """The sender's settings."""
    return SenderSettings(
        concurrency=config.hellowork.concurrency,
        rate=config.hellowork.rate_limit,
        policy=models.retry_policy(config),
        allowed=models.allowed_hosts(config),
        built=models.built_urls(config),
        accounts=frozenset(models.accounts(config)),
        expected=frozenset(models.expected_endpoints(config)),
    )


class Leading:
    """See the module's text; it works until the process's stage is over, which the loss of the lead ends, too."""

    def __init__(self, process: Process, lead: Lead, tenants: chores.Tenants) -> None:
        self.store = store = lead.store
        store.operation.observe = process.emit
        self._process = process
        self._over = over = process.over
        self._lead = lead
        self._config = config = tenants.found.config
        self._tenants = tenants
        self._tasks: set[Task] = set()
        """What works until the end."""
        self._may_send: set[str] = set()
        settings = models.accounts(config), config.hellowork.timeout.total_seconds(), config.hellowork.concurrency
        self._client = Rehearsal(process.show, *settings) if process.dry_run else Client(*settings)
        self.sender = Sender(
            store.delivery,
            self._client,
            sender_settings(config),
            process.emit,
            store.driver.clock,
            may_begin=lead.may_call,
            may_send=self._may_send.__contains__,
        )
        self.watches = Watches(process, store, config, self.sender, self._begin)
        process.hand_events_to(self.handlers)
        lead.holding.add_done_callback(lambda _: over.set())  # which keeps nothing else of this alive

    def handlers(self) -> Handlers:
        """Let a watch send, or not; see the module's text."""
        return {
            events.PendingReread: self._let_send,
            **dict.fromkeys((events.WatchConnected, events.WatchEnded, events.WatchStandsBy), self._hold_back),
            events.WatchLost: lambda e: self._hold_back(e) if e.code == "store-another-database" else None,
        }

    def _let_send(self, event: events.WatchEvent) -> None:
        self._may_send.add(event.watch)
        self.sender.recheck()

    def _hold_back(self, event: events.WatchEvent) -> None:
        self._may_send.discard(event.watch)
        self.sender.recheck()

    # Until it is over.

    async def work(self) -> None:
        """Work until a signal asks for the end or for another configuration, a part fails, or the lead is lost.

        Raises:
            BaseExceptionGroup: of the failures.
        """
        async with self._parts():
            sending = self._begin(self.sender.run())
            try:
                with chores.pruning(self.store, self._config):
                    await self._work_until_over()
            finally:
                # The calls first: a former leader has little time for that.
                await end([sending])
                if self._lead.holding.done():
                    # SIGALRM, at the end of its lease, must not end a process that leads no more.
                    self._lead.no_more_calls()

    async def _work_until_over(self) -> None:
        process, store = self._process, self.store
        self._begin(chores.save_conditions(process, store))
        self._begin(regularly(lambda: chores.report_late(process, store, self._config), _LOOK_EVERY))
        if not process.dry_run:
            self._begin(regularly(self._forget_deleted, chores.FORGET_EVERY))
        self.watches.start(self._config)
        following = self._begin(self._follow_tenants())
        await self._over.wait()
        if not self._ended_alone:
            await end([following, *self.watches.running.values()])
            is_call_open = await self.sender.stop(GRACE)
            if not is_call_open:
                with suppress(StoreError):  # then what is pending counts as attempted from now on
                    await self.store.delivery.stopped_cleanly()

    async def work_once(self) -> int:
        """Catch up with every watch, then deliver what is due; returns how many watches failed.

        Raises:
            BaseExceptionGroup: of the failures of parts.
            StoreError: the store cannot be used.
        """
        async with self._parts():
            failed = await unless(self._over, self._catch_up_and_send())
        if failed is None:
            raise AssertionError("only a part that failed ends it")
        return failed

    async def _catch_up_and_send(self) -> int:
        failed = await self.watches.catch_up(self._config.watches)
        await self.sender.run_once()
        await self.store.delivery.stopped_cleanly()
        return failed

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[None]:
        """The parts within this end with it.

        Raises:
            BaseExceptionGroup: of the failures of those that ended before.
            StoreError: the operators' pauses cannot be read.
        """
        self._lead.expect(longest_call(self._config), configuration_of(self._config))
        await chores.report_unconfigured(self._process, self.store, self._config, self._tenants.found.refused)
        await self._correct_waits()  # before the first call
        self.sender.pause(await self.store.operation.paused())
        async with self._client:
            try:
                self._begin(self._follow_operators())
                yield
            finally:
                await end(self._tasks)
        raise_failures(self._ended_alone)

    def _begin(self, work: Work) -> Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: Task) -> None:
        if task.cancelled():
            self._tasks.discard(task)
        else:
            self._over.set()

    @property
    def _ended_alone(self) -> list[Task]:
        """What should work until the end, and did not: it has failed."""
        return [task for task in (self._lead.holding, *self._tasks) if task.done() and not task.cancelled()]

    # The parts.

    async def _correct_waits(self) -> None:
        """Let nothing of the watches wait until a date that only a wrong clock can have set."""
        now = self.store.driver.clock()
        await self.store.delivery.hasten(self._config.watches, now, now + models.longest_wait(self._config))

    async def _forget_deleted(self) -> None:
        before = self.store.driver.clock.for_people() - milliseconds(self._config.state.forget_after)
        await chores.forget_deleted(self.store, before, self.watches.others.with_row)

    async def _follow_operators(self) -> None:
        """Execute operators' requests in their order, and apply their pauses; for ever."""
        while True:
            is_asked = False
            with suppress(StoreError):  # capture and delivery report it; a request that fails keeps no pause waiting
                while await self.store.operation.execute_next(self._config.watches):
                    is_asked = True
            with suppress(StoreError):
                self.sender.pause(await self.store.operation.paused())
            if is_asked:
                self.sender.look()
                self.watches.others.look(self.watches.running)
            await asyncio.sleep(_MORE_REQUESTS if is_asked else _OPERATORS_EVERY)

    # Other tenants.

    async def _follow_tenants(self) -> None:
        """Start and end watches as tenants come and go."""
        emit, watches = self._process.emit, self.watches
        while True:
            await asyncio.sleep(chores.LOOK_FOR_TENANTS)
            pools = {name: database.pool for name, database in watches.others.databases.items()}
            config = await self._tenants.look(self._config.watches, pools)
            if config.watches == self._config.watches:
                continue
            if gone := await watches.end_others(config):
                emit(events.TenantsGone(gone))
            await self._use(config)
            if found := watches.start(config):
                emit(events.TenantsFound(found))

    async def _use(self, config: Config) -> None:
        """Let what the watches share know other tenants: what a new one enqueues may be sent at once."""
        self._config = config
        with suppress(StoreError):
            await self.store.delivery.note_configured(config.watches, models.accounts(config))
            await self._correct_waits()
        self._process.admin.use(config)
        # Without a pause between: the sender's settings show which credentials a call had.
        self.sender.use(sender_settings(config))
        self._client.use(models.accounts(config))

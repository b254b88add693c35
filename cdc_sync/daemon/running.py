"""The daemon's process: stand by until it leads, lead until it ends or loses the lead, and stand by again.

At SIGTERM or SIGINT capture stops. The sender finishes the calls under way within the grace period; longer ones are
marked as attempted and sent again after the next start. A second signal ends the process at once, as safely as kill -9.

A daemon that loses the lead ends its calls and all its parts.

At SIGHUP the configuration is read again. A leader then ends all its parts, as at its end, and makes them again from
the other configuration. Meanwhile it keeps the lead and serves the page.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack

from cdc_sync import __version__, signals
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config
from cdc_sync.core import conditions, events
from cdc_sync.core.content import iso
from cdc_sync.core.events import Consumer, Dispatch, Event
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon import wiring
from cdc_sync.daemon.leading import HANDLED, Leading
from cdc_sync.daemon.notices import LOOK_EVERY, Notices
from cdc_sync.daemon.process import Process, Reread, unless, until, while_leading
from cdc_sync.daemon.standby_news import StandbyNews
from cdc_sync.daemon.tenants import Tenants
from cdc_sync.event_loop import end, regularly, ungrouped
from cdc_sync.listening import allow_all_descriptors
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.lead import Lead, Standby
from cdc_sync.wall_clock import wall_clock

_PASSING = {"store-lead-lost", "store-unusable"}
"""Errors after which a daemon that has led, or stood by, tries again to lead; others end it."""

_TRIES_EVERY = 1.0
"""Seconds between such tries."""

_BEATS_EVERY = 10.0
"""Seconds between heart beats; fewer if the watchdog expects more."""


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

    `show` gets the calls of a dry run. Without `reread`, SIGHUP has its default effect. Heart beats are at most
    `beat_every` seconds apart.

    Raises:
        StoreError: the store cannot be used, or belongs to another database.
        AdminError: the admin address cannot be listened on.
    """
    process = Process(config, show, reread, dry_run, beat_every)
    with ungrouped(AnotherDatabaseError, StoreError):
        await _Daemon(process, consumers).run()


class _Daemon:
    """One run of the process."""

    def __init__(self, process: Process, consumers: Sequence[Consumer]) -> None:
        self._process = process
        self._leading: Leading | None = None
        self._is_up = False
        """Whether it was reported as started."""
        self._serving = AsyncExitStack()
        self._notices = Notices(process)
        process.events = Dispatch(
            *consumers,
            self._notices.handlers,
            process.metrics.handlers,
            process.metrics.lag.handlers,
            lambda: dict.fromkeys(HANDLED, self._heed),
            lambda: dict.fromkeys(conditions.EVENTS, self._fold),
        )
        self._news = StandbyNews(process.emit)
        self._admin = process.admin = AdminServer(
            process.config,
            None,
            process.metrics,
            lambda: process.conditions,
            lambda: wall_clock() if self._leading is None else self._leading.store.driver.clock.for_people(),
            without_live_row=self._without_live_row,
            observe=process.emit,
        )

    async def run(self) -> None:
        """See `run`."""
        allow_all_descriptors()
        process, loop = self._process, asyncio.get_running_loop()
        for number in signals.ENDING:
            loop.add_signal_handler(number, self._end, number)
        # A reload waits for the start: it would begin the wait for the lead again.
        signals.deliver(signals.HELD if process.reread is None else signals.ENDING)
        works = [regularly(self._beat, min(_BEATS_EVERY, process.beat_every))]
        if not process.dry_run:
            works.append(regularly(self._notices.look, LOOK_EVERY))
        working = [asyncio.create_task(work) for work in works]
        try:
            async with self._serving:
                while not process.stopping.is_set():
                    await self._lead_once()
        finally:
            await end(working)
        process.emit(events.DaemonStopped())

    async def _beat(self) -> None:
        """The event loop turns."""
        counts = self._process.counts
        pending = None if counts is None else sum(of_watch.pending for of_watch in counts.values())
        self._process.emit(events.HeartBeat(pending))

    async def _lead_once(self) -> None:
        """Stand by, then lead until a signal, a part's failure, or the loss of the lead.

        Raises:
            StoreError: the store cannot be used.
        """
        process = self._process
        try:
            with ungrouped(AnotherDatabaseError, StoreError):
                async with AsyncExitStack() as stack:
                    stack.callback(self._admin.leave)  # once the store is closed
                    leading = wiring.leading(process.config, process.emit, self._stands_by, dry_run=process.dry_run)
                    lead = await unless(process.signalled, stack.enter_async_context(leading))
                    if lead is None:
                        await self._heed_signal()
                    else:
                        await self._lead(lead)
        except StoreError as error:
            if not self._is_up or error.code not in _PASSING:
                raise
            self._news.report_failure(error)
            await until(process.stopping, within=_TRIES_EVERY)

    async def _stands_by(self, standby: Standby) -> None:
        """See `StandingBy`."""
        if standby.store is not None:
            self._admin.show(standby.store)
        await self._start(tuple(self._process.config.watches))
        self._news.report(standby)

    async def _start(self, watches: tuple[str, ...]) -> None:
        """Serve, and report the start, once there is something to show."""
        if self._is_up:
            return
        process = self._process
        if not process.dry_run:
            await self._serving.enter_async_context(self._admin.serving())
        self._is_up = True
        process.emit(events.DaemonStarted(__version__, watches, process.dry_run, self._admin.url))
        if process.reread is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._want_reload)
            signals.deliver()

    async def _heed_signal(self) -> None:
        """Use a new configuration while standing by."""
        process = self._process
        process.signalled.clear()
        if process.is_reload_wanted and await process.reload():
            process.emit(events.Reloaded(()))

    async def _lead(self, lead: Lead) -> None:
        """Lead with one configuration, then with the next, until a signal asks for the end.

        Raises:
            BaseExceptionGroup: of the failures of parts.
        """
        process = self._process
        self._news.over()
        try:
            await self._lead_as_configured(lead, lambda watches: events.LeadTaken(iso(lead.leader.since), watches))
            while not process.stopping.is_set():
                await lead.store.delivery.begin_sending()
                await self._lead_as_configured(lead, events.Reloaded)
        finally:
            self._leading = None
            process.conditions, process.counts = conditions.NONE, None

    async def _lead_as_configured(self, lead: Lead, began: Callable[[tuple[str, ...]], Event]) -> None:
        process, tenants = self._process, Tenants(self._process.emit)
        process.conditions = conditions.starting(tuple(process.config.watches))
        look = tenants.look(process.config, await wiring.known_watches(lead.store))
        config = await while_leading(lead, look, process.stopping)
        if config is None:
            return
        watches = tuple(config.watches)
        process.conditions = {**process.conditions, **conditions.starting(watches)}
        caller = wiring.opened_caller(config, process.show, dry_run=process.dry_run)
        async with caller as opened:
            self._leading = leading = Leading(process, lead, opened, config, tenants)
            self._admin.use(config)
            self._admin.lead(lead.store)
            await self._start(watches)
            process.emit(began(watches))
            await leading.work()

    async def _without_live_row(self, watch: str, ids: Sequence[str]) -> Collection[str]:
        if self._leading is None:
            raise AssertionError("a standby does not act")
        return await self._leading.without_live_row(watch, ids)

    # Events and signals.

    def _heed(self, event: Event) -> None:
        if self._leading is not None:
            self._leading.heed(event)

    def _fold(self, event: Event) -> None:
        process = self._process
        before, process.conditions = process.conditions, conditions.fold(process.conditions, event)
        if process.conditions is not before:
            process.conditions_changed.set()

    def _want_reload(self) -> None:
        self._process.is_reload_wanted = True
        self._process.signalled.set()

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process.stopping.is_set():
            os._exit(128 + number)
        process.emit(events.DaemonStopping(number.name, 0 if self._leading is None else self._leading.under_way))
        process.stopping.set()
        process.signalled.set()

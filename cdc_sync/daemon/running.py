"""The daemon's process: stand by until it leads, lead until it ends or loses the lead, and stand by again.

At SIGTERM or SIGINT capture stops. The sender finishes the calls under way within the grace period; longer ones are
marked as attempted and sent again after the next start. A second signal ends the process at once, as safely as kill -9.

A daemon that loses the lead ends its calls and all its parts.
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
from cdc_sync.core.events import Consumer, Dispatch, Event, Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon import wiring
from cdc_sync.daemon.leading import HANDLED, Leading
from cdc_sync.daemon.process import Process, Reread, until
from cdc_sync.daemon.pulse import BEAT_EVERY, beat_for_ever
from cdc_sync.daemon.standby_news import StandbyNews
from cdc_sync.event_loop import end, ungrouped
from cdc_sync.listening import allow_all_descriptors
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.lead import Lead, Standby
from cdc_sync.wall_clock import wall_clock

_PASSING = {"store-lead-lost", "store-unusable"}
"""Errors after which a daemon that has led, or stood by, tries again to lead; others end it."""

_TRIES_EVERY = 1.0
"""Seconds between such tries."""


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
        process.events = Dispatch(
            *consumers,
            process.metrics.handlers,
            process.metrics.lag.handlers,
            self._handlers,
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
        every = min(BEAT_EVERY, process.beat_every)
        beating = asyncio.create_task(beat_for_ever(self._opened, process.emit, every), name="beating")
        try:
            async with self._serving:
                while not process.stop:
                    await self._lead_once()
        finally:
            await end([beating])
        process.emit(events.DaemonStopped())

    def _opened(self) -> Store | None:
        """The store, while this daemon leads."""
        return None if self._leading is None else self._leading.store

    async def _lead_once(self) -> None:
        """Stand by, then lead until a signal, a part's failure, or the loss of the lead.

        Raises:
            StoreError: the store cannot be used.
        """
        try:
            with ungrouped(AnotherDatabaseError, StoreError):
                async with AsyncExitStack() as stack:
                    lead = await self._stand_by(stack)
                    if lead is None:
                        await self._heed_signal()
                    else:
                        await self._lead(lead, stack)
        except StoreError as error:
            self._leave()
            if not self._is_up or error.code not in _PASSING:
                raise
            self._news.report_failure(error)
            await until(self._process.stopping, within=_TRIES_EVERY)
        finally:
            self._leave()

    def _leave(self) -> None:
        """The store is closed."""
        if self._leading is not None:
            self._leading = None
            self._process.conditions = conditions.NONE
        self._admin.leave()

    async def _stand_by(self, stack: AsyncExitStack) -> Lead | None:
        """Stand by until this daemon leads; None if a signal comes first."""
        process = self._process
        leading = wiring.leading(process.config, process.emit, self._stands_by, dry_run=process.dry_run)
        taking = asyncio.create_task(stack.enter_async_context(leading), name="standing by")
        await until(process.signalled, taking)
        return None if taking.cancelled() else taking.result()

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
        if process.is_reload_wanted:
            process.is_reload_wanted = False
            config = await process.read_again()
            if config is not None:
                process.config = config
                self._admin.use(config)
                process.use(config)
                process.emit(events.Reloaded((), begun=(), renewed=(), ended=()))

    async def _lead(self, lead: Lead, stack: AsyncExitStack) -> None:
        process = self._process
        process.conditions = conditions.starting(tuple(process.config.watches))
        self._news.over()
        self._leading = leading = await Leading.opened(process, lead, stack)
        config = await leading.first_configuration()
        if config is not None:
            process.conditions = {**process.conditions, **conditions.starting(tuple(config.watches))}
            self._admin.lead(lead.store)
            watches = tuple(config.watches)
            await self._start(watches)
            process.emit(events.LeadTaken(iso(lead.leader.since), watches))
            await leading.work(config)

    async def _without_live_row(self, watch: str, ids: Sequence[str]) -> Collection[str]:
        if self._leading is None:
            raise AssertionError("a standby does not act")
        return await self._leading.without_live_row(watch, ids)

    # Events and signals.

    def _handlers(self) -> Handlers:
        """For the present lead."""
        return dict.fromkeys(HANDLED, self._heed)

    def _heed(self, event: Event) -> None:
        if self._leading is not None:
            self._leading.heed(event)

    def _fold(self, event: Event) -> None:
        process = self._process
        after = conditions.fold(process.conditions, event)
        if after is not process.conditions:
            process.conditions = after
            process.conditions_changed.set()

    def _want_reload(self) -> None:
        self._process.is_reload_wanted = True
        self._process.signalled.set()

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process.stop:
            os._exit(128 + number)
        process.stop = number.name
        process.stopping.set()
        process.signalled.set()

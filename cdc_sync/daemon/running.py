"""The daemon's process: stand by until it leads, lead until it ends or loses the lead, and stand by again.

`run --once` catches up, delivers what is due, and returns.

At SIGTERM or SIGINT capture stops. The sender finishes the calls under way within the grace period; longer ones are
marked as attempted and sent again after the next start. A second signal ends the process at once, as safely as kill -9.

A daemon that loses the lead ends its calls and all its parts.

At SIGHUP the configuration is read again. A leader then ends all its parts, as at its end, and makes them again from
the other configuration. Meanwhile it keeps the lead and serves the page.
"""

import asyncio
import os
import resource
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from typing import get_args

from cdc_sync import __version__, signals
from cdc_sync.admin.report import endpoints
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config, ConfigurationError
from cdc_sync.core import conditions, events
from cdc_sync.core.conditions import Conditions
from cdc_sync.core.content import iso
from cdc_sync.core.events import Consumer, Event, Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.reasons import coded
from cdc_sync.event_loop import Task, end, raise_failures, regularly, ungrouped
from cdc_sync.store import opening
from cdc_sync.store.lead import Lead, Standby, StandingBy, in_use
from cdc_sync.wall_clock import wall_clock

from .chores import Tenants
from .leading import Leading
from .notices import LOOK_EVERY, Notices
from .process import Process, unless

_PASSING = {"store-lead-lost", "store-unusable"}
"""Errors after which a daemon that has led, or stood by, tries again to lead; others end it."""

_TRIES_EVERY = 1.0
"""Seconds between such tries."""

_BEATS_EVERY = 1.0
"""Seconds between heart beats: a watchdog needs some."""


class Daemon:
    """One run of the process.

    At SIGHUP, `read` reads the configuration again, and `used` is called when that is in use; a dry run ends.
    """

    def __init__(self, process: Process, read: Callable[[], Config], used: Callable[[Config], None]) -> None:
        self._process = process
        self._read = read
        self._used = used
        self._leading: Leading | None = None
        self._up = asyncio.Event()
        """Set once it was reported as started."""
        self._reload_wanted = asyncio.Event()
        self._serving = AsyncExitStack()
        self._notices = Notices(process)
        self._admin = process.admin = AdminServer(
            process.config,
            process.metrics,
            lambda: process.conditions,
            lambda: wall_clock() if self._leading is None else self._leading.store.driver.clock.for_people(),
            process.emit,
        )

    async def run(self) -> None:
        """Run until a signal ends it.

        Raises:
            StoreError: the store cannot be used.
            AdminError: the admin address cannot be listened on.
        """
        allow_all_descriptors()
        process = self._process
        self._handle_signals()
        works = [regularly(self.beat, _BEATS_EVERY), self._follow_reloads()]
        if not process.dry_run:
            works.append(regularly(self._notices.look, LOOK_EVERY))
        tasks = [asyncio.create_task(work) for work in works]
        for task in tasks:
            task.add_done_callback(self._work_ended)
        try:
            async with self._serving:
                while not process.stopping.is_set():
                    await self._stand_by_and_lead()
        finally:
            await end(tasks)
        raise_failures(tasks)
        process.emit(events.DaemonStopped())

    async def beat(self) -> None:
        """The event loop turns."""
        self._process.emit(events.HeartBeat())

    async def _stand_by_and_lead(self) -> None:
        """Stand by, then lead until a signal, a part's failure, or the loss of the lead.

        Raises:
            StoreError: the store cannot be used.
        """
        process = self._process
        process.over = over = asyncio.Event()
        try:
            with ungrouped(StoreError, OSError):
                async with AsyncExitStack() as stack:
                    stack.callback(self._admin.show, None)  # once the store is closed
                    lead = await unless(over, stack.enter_async_context(opened_lead(process, self._stand_by)))
                    if lead is not None:
                        await self._lead(lead)
        except StoreError as error:
            if not self._up.is_set() or error.code not in _PASSING:
                raise
            is_lost = error.code == "store-lead-lost"
            process.emit(
                events.LeadLost(error.message) if is_lost else events.StoreFailed(error.message, code=error.code)
            )
            await asyncio.sleep(_TRIES_EVERY)

    async def _stand_by(self, standby: Standby) -> None:
        """See `StandingBy`."""
        emit, blocked = self._process.emit, standby.not_taken_over
        leader = coded("no-leader", "no daemon leads yet") if standby.leader is None else standby.leader.shown
        self._admin.show(standby.store)
        await self._start(tuple(self._process.config.watches))
        emit(events.StoreRecovered())
        emit(events.StandsBy(leader))
        emit(events.StandbyDiffers() if standby.differs else events.StandbyAgrees())
        emit(events.TakeOverUnblocked() if blocked is None else events.TakeOverBlocked(blocked.message, blocked.code))

    async def _start(self, watches: tuple[str, ...]) -> None:
        """Serve, and report the start, once there is something to show."""
        if self._up.is_set():
            return
        process = self._process
        if not process.dry_run:
            await self._serving.enter_async_context(self._admin.serving())
        process.emit(events.DaemonStarted(__version__, watches, process.dry_run, self._admin.url))
        self._up.set()

    async def _lead(self, lead: Lead) -> None:
        """Lead with one configuration, then with the next, until a signal asks for the end.

        Raises:
            BaseExceptionGroup: of the failures of parts.
        """
        process = self._process
        for past in (events.StoreRecovered(), events.StandbyAgrees(), events.TakeOverUnblocked()):
            process.emit(past)
        if conditions.STANDBY in process.conditions:
            self._notices.happened.append("this daemon leads now: it has taken over")
        try:
            await self._lead_as_configured(lead, lambda watches: events.LeadTaken(iso(lead.leader.since), watches))
            while not process.stopping.is_set():
                await lead.store.delivery.begin_sending()
                await self._lead_as_configured(lead, events.Reloaded)
        finally:
            process.conditions, process.counts = conditions.NONE, None

    async def _lead_as_configured(self, lead: Lead, began: Callable[[tuple[str, ...]], Event]) -> None:
        process = self._process
        process.over = asyncio.Event()
        process.conditions, process.counts = conditions.starting(tuple(process.config.watches)), None
        tenants = Tenants(process)
        # Only a signal interrupts it. A reload, or the loss of the lead, ends the work below as it begins: so each lead
        # is reported.
        config = await unless(process.stopping, tenants.look_first(lead.store))
        if config is None or process.stopping.is_set():
            return
        watches = tuple(config.watches)
        process.conditions = {**process.conditions, **conditions.starting(watches)}
        self._leading = leading = Leading(process, lead, tenants)
        try:
            self._admin.use(config)
            self._admin.show(lead.store, leading.watches.others.present)
            await self._start(watches)
            process.emit(began(watches))
            await leading.work()
        finally:
            self._leading = None

    # Signals.

    def _handle_signals(self) -> None:
        """Handle signals from now on, also those that came before."""
        loop = asyncio.get_running_loop()
        for number in signals.HELD:
            loop.add_signal_handler(number, self._end, number)
        if not self._process.dry_run:  # which ends with its terminal
            loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        signals.deliver()

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process.stopping.is_set():
            os._exit(128 + number)
        process.emit(events.DaemonStopping(number.name, 0 if self._leading is None else self._leading.sender.under_way))
        process.stop()

    def _work_ended(self, task: Task) -> None:
        """Whatever else fails ends the process too."""
        if not task.cancelled():
            self._process.stop()

    async def _follow_reloads(self) -> None:
        """Use the file's present configuration after each SIGHUP; one that comes during the start waits for its end.

        If the file is not valid, or changes a setting that needs a restart, the whole configuration in use stays: never
        a mixture of two files.
        """
        process = self._process
        await self._up.wait()
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            process.emit(events.ReloadStarted())
            try:
                config = await asyncio.to_thread(self._read)
            except ConfigurationError as error:
                process.emit(events.ReloadRefused(tuple(str(error).splitlines())))
                continue
            if refusal := changes_that_need_a_restart(process.config, config):
                process.emit(events.ReloadRefused(refusal))
                continue
            self._used(config)
            process.config = config
            self._admin.use(config)
            process.over.set()
            if self._leading is None:
                process.emit(events.Reloaded(()))


def allow_all_descriptors() -> None:
    """Raise the process's soft limit of open files, which systemd sets to 1,024, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A sandbox that forbids it (systemd's filter @resources) has a deliberate limit.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def changes_that_need_a_restart(now: Config, then: Config) -> tuple[str, ...]:
    """A line for each changed setting that only a restart can change."""
    before, after = _of_the_process(now), _of_the_process(then)
    return tuple(
        f"{name} cannot be changed while the daemon runs: restart it for that, or write the present value again"
        for name in before
        if before[name] != after[name]
    )


def _of_the_process(config: Config) -> dict[str, object]:
    """The settings of the process: the store and the address."""
    state = config.state
    return {
        "state.backend": state.backend,
        "state.path": state.path,
        "the store's DSN": opening.store_dsn(config) if state.backend == "postgres" else None,
        "admin.listen": config.admin.listen,
    }


# `run --once`: for a cron job, a test, a first careful try.


@dataclass(frozen=True, slots=True)
class OnceResult:
    """What one run did, and what is left for the next.

    Attributes:
        calls: by outcome (acknowledged, retry, dead, also without a call).
        left: entries in the outbox, by state.
        failed: whether a watch could not catch up, or a due entry could not be delivered.
        conditions: what is wrong.
    """

    calls: Counter[str]
    failed: bool
    conditions: Conditions
    left: Mapping[EntryState, int]


async def run_once(
    config: Config, consumers: Sequence[Consumer], show: Callable[[str], None], *, dry_run: bool
) -> OnceResult:
    """Catch up with every watch, deliver what is due, and return. A watch that fails does not stop the others.

    Raises:
        StoreError: the store cannot be used, or the lead was lost.
    """
    calls: Counter[str] = Counter()

    def count(event: events.CallEnded | events.Decided) -> None:
        if isinstance(event, events.CallEnded) or event.outcome == "dead":
            calls[event.outcome] += 1

    counting: Handlers = {events.CallEnded: count, events.Decided: count}
    process = Process(config, [*consumers, lambda: counting], show, dry_run=dry_run)
    with ungrouped(StoreError, OSError):
        async with opened_lead(process, _insist_on_lead) as lead:
            tenants, store = Tenants(process), lead.store
            await tenants.look_first(store)
            failed = await Leading(process, lead, tenants).work_once()
            counts = (await store.report.counts()).values()
            targets = await endpoints(store, store.driver.clock.for_people())
    found = tenants.found
    are_refused = [each["late_seconds"] and (each["mode"] != "healthy" or each["sending_paused"]) for each in targets]
    return OnceResult(
        calls,
        bool(failed or found.refused or found.unasked or calls["retry"] or calls["dead"] or any(are_refused)),
        # After "connected" comes no "watching" in such a run.
        {name: why for name, why in process.conditions.items() if getattr(why, "code", "") != "preparing"},
        {state: sum(getattr(of, state) for of in counts) for state in get_args(EntryState)},
    )


async def _insist_on_lead(standby: Standby) -> None:
    """See `StandingBy`: wait for a former leader's calls to end, but not for a leader.

    Raises:
        StoreError: another daemon leads.
    """
    if not standby.is_free:
        raise in_use(standby.leader)


def opened_lead(process: Process, standing_by: StandingBy) -> AbstractAsyncContextManager[Lead]:
    """The process's lead of its store; for a dry run of a temporary copy.

    Raises:
        StoreError: the store cannot be used.
    """
    if process.dry_run:
        return opening.leading_copy(process.config)
    return opening.leading(process.config, standing_by)

"""The daemon's run: open what is shared, start the watches and the sender, end in order.

The end, on SIGTERM or SIGINT: capture stops where it is (what it has not recorded comes again), the sender finishes the
calls that are under way, for at most the grace period, and writes down what came of them. What is still under way then
is given up: it is marked as attempted, and is sent again at the next start. A second signal ends the process at once;
that costs no more than kill -9, which nothing is lost by.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cdc_sync import __version__
from cdc_sync.admin.metrics import Metrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config
from cdc_sync.config.rules import retry_policy, sender_horizon, watch_rules
from cdc_sync.core.conditions import Conditions, fold, starting
from cdc_sync.core.instants import milliseconds
from cdc_sync.core.observations import (
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    Observation,
    Observe,
    WatchConnected,
)
from cdc_sync.daemon.lateness import LOOK_EVERY, Lateness
from cdc_sync.daemon.rehearsal import Rehearsal
from cdc_sync.daemon.together import end, raise_failures
from cdc_sync.daemon.watching import WatchParts, WatchWorker, most_telling
from cdc_sync.delivery.client import Caller, Client
from cdc_sync.delivery.sender import Sender, SenderSettings, wall_clock
from cdc_sync.store.lock import StoreLock
from cdc_sync.store.protocol import Store, StoreError
from cdc_sync.store.sqlite import SqliteStore, copy_store

GRACE = 20.0
"""Seconds that calls under way may take after the first signal, at most."""

_PRUNE_EVERY_MINUTES = 10
_PRUNE_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How `run` was asked for."""

    dry_run: bool = False


@asynccontextmanager
async def opened_store(config: Config, *, dry_run: bool) -> AsyncIterator[Store]:
    """The daemon's store, locked; or for a dry run a copy of it that is thrown away.

    Raises:
        StoreError: it cannot be used, or another daemon has it.
    """
    if config.state.backend != "sqlite":
        raise StoreError("state.backend postgres is not available in this version: use sqlite.")
    async with AsyncExitStack() as stack:
        path = config.state.path
        if dry_run:
            copy = Path(stack.enter_context(_temporary_folder())) / "state.db"
            if path.exists():
                await asyncio.to_thread(copy_store, path, copy)
            path = copy
        else:
            stack.enter_context(StoreLock(path))
        store = SqliteStore(path)
        stack.push_async_callback(store.close)
        await store.release_claims()
        yield store


def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory(prefix="cdc-sync-dry-run-")
    except OSError as error:
        raise StoreError(
            f"A dry run works on a copy of the store, and there is no temporary folder for it: {error.strerror}. Let "
            f"TMPDIR name one that can be written."
        ) from error


@asynccontextmanager
async def opened_caller(config: Config, observe: Callable[[str], None], *, dry_run: bool) -> AsyncIterator[Caller]:
    """HelloWork's API; or for a dry run somebody who only shows the calls."""
    if dry_run:
        yield Rehearsal(observe)
        return
    headers = {name: value.get_secret_value() for name, value in config.hellowork.headers.items()}
    timeout = config.hellowork.timeout.total_seconds()
    async with Client(headers, timeout, config.hellowork.concurrency) as client:
        yield client


def make_sender(config: Config, store: Store, caller: Caller, observe: Observe) -> Sender:
    """The sender as configured."""
    rules = [watch_rules(config, name) for name in config.watches]
    settings = SenderSettings(
        concurrency=config.hellowork.concurrency,
        rate=config.hellowork.rate_limit,
        policy=retry_policy(config),
        allowed=rules[0].allowed,
        horizon=sender_horizon(config),
    )
    return Sender(store, caller, settings, observe)


def make_parts(
    config: Config, name: str, store: Store, observe: Observe, *, queued: Callable[[], None], dry_run: bool
) -> WatchParts:
    """A watch's parts as configured."""
    return WatchParts(
        name=name,
        watch=config.watches[name],
        rules=watch_rules(config, name),
        dsn=config.database.dsn.get_secret_value(),
        store=store,
        observe=observe,
        clock=wall_clock,
        queued=queued,
        dry_run=dry_run,
    )


class _Daemon:
    """What one run holds together."""

    def __init__(self, config: Config, options: RunOptions, observe: Observe, show: Callable[[str], None]) -> None:
        self._config = config
        self._options = options
        self._tell = observe
        self._show = show
        self._conditions: Conditions = starting(tuple(config.watches))
        self._conditions_changed = asyncio.Event()
        self._metrics = Metrics()
        self._bound = asyncio.Event()
        self._stop = asyncio.Event()
        self._signal = ""

    def observe(self, observation: Observation) -> None:
        """Hand an observation to the readers, and keep what is wrong now up to date."""
        self._tell(observation)
        self._metrics.read(observation)
        if isinstance(observation, WatchConnected):
            self._bound.set()
        conditions = fold(self._conditions, observation)
        if conditions is not self._conditions:
            self._conditions = conditions
            self._conditions_changed.set()

    async def run(self) -> None:
        dry_run = self._options.dry_run
        self._install_signals()
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(opened_store(self._config, dry_run=dry_run))
            caller = await stack.enter_async_context(opened_caller(self._config, self._show, dry_run=dry_run))
            sender = make_sender(self._config, store, caller, self.observe)
            workers = [
                WatchWorker(
                    make_parts(self._config, name, store, self.observe, queued=sender.wake, dry_run=dry_run),
                    lambda _: None,
                )
                for name in self._config.watches
            ]
            admin = AdminServer(self._config, store, self._metrics, lambda: self._conditions, wall_clock)
            if not dry_run:
                await stack.enter_async_context(admin)
            stack.enter_context(self._schedule(store))
            self.observe(DaemonStarted(__version__, tuple(self._config.watches), dry_run, admin.url))
            await self._supervise(workers, sender, store)
        self.observe(DaemonStopped())

    async def _supervise(self, workers: list[WatchWorker], sender: Sender, store: Store) -> None:
        capturing = [asyncio.create_task(worker.run()) for worker in workers]
        sending = asyncio.create_task(self._send(sender))
        noting = asyncio.create_task(self._note_conditions(store))
        stopped = asyncio.create_task(self._stop.wait())
        everything = [*capturing, sending, noting, stopped]
        try:
            await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                self.observe(DaemonStopping(self._signal, sender.under_way))
                await end(capturing)
                sender.stop()
                await asyncio.wait([sending], timeout=GRACE if self._bound.is_set() else 0)
        finally:
            await end(everything)
        raise_failures(everything)

    async def _send(self, sender: Sender) -> None:
        """Send, once it is known that the database is the one that the store belongs to."""
        await self._bound.wait()
        await sender.run()

    async def _note_conditions(self, store: Store) -> None:
        """Keep the store's list of what is wrong as it is here, for `status` from another process."""
        noted = {condition.name: condition.message for condition in await store.conditions()}
        while True:
            self._conditions_changed.clear()
            wanted = dict(self._conditions)
            try:
                for name in noted.keys() | wanted.keys():
                    if noted.get(name) != wanted.get(name):
                        await store.set_condition(name, wanted.get(name), wall_clock())
                noted = wanted
            except StoreError:
                pass  # noted with the next change: that the store can be written again is one
            await self._conditions_changed.wait()

    @contextmanager
    def _schedule(self, store: Store) -> Iterator[None]:
        """Jobs by the clock: pruning the history, and looking for what is late."""
        lateness = Lateness(self._config, store, self._metrics.lag.capture, self.observe, wall_clock)
        scheduler = AsyncIOScheduler(timezone=UTC)
        scheduler.add_job(
            self._prune, "interval", [store], minutes=_PRUNE_EVERY_MINUTES, coalesce=True, max_instances=1
        )
        scheduler.add_job(lateness.look, "interval", seconds=LOOK_EVERY, coalesce=True, max_instances=1)
        scheduler.start()
        try:
            yield
        finally:
            scheduler.shutdown(wait=False)

    async def _prune(self, store: Store) -> None:
        """Forget old history in small batches, so that nobody waits long for the store."""
        before = wall_clock() - milliseconds(self._config.state.history)
        pruned = _PRUNE_AT_ONCE
        while pruned == _PRUNE_AT_ONCE:
            try:
                pruned = await store.prune(before, _PRUNE_AT_ONCE)
            except StoreError:
                return  # whoever sends or consumes says it; the next turn tries again

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            os._exit(128 + number)
        self._signal = number.name
        self._stop.set()


async def run(config: Config, options: RunOptions, observe: Observe, show: Callable[[str], None]) -> None:
    """Run the daemon until a signal ends it.

    Args:
        config: the configuration.
        options: how it was asked for.
        observe: reads what happens.
        show: gets the calls of a dry run, as text.

    Raises:
        StoreError: the store cannot be used, belongs to another database, or another daemon has it.
        AdminError: the admin address cannot be listened on.
    """
    failure: Exception | None = None
    try:
        await _Daemon(config, options, observe, show).run()
    except* StoreError as group:
        failure = most_telling(group)
    if failure is not None:
        raise failure

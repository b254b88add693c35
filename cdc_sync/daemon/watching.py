"""A watch's life: connect, adopt, then capture, sweep and confirm until something is lost; and again."""

import asyncio
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial

from cdc_sync.ats.beginning import begin, connect
from cdc_sync.ats.database import wait_after
from cdc_sync.ats.deletions import Deletions
from cdc_sync.ats.errors import SourceError, refused_by_system
from cdc_sync.ats.intake import Capture, ChangedError, Intake, WatchParts
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.ats.session import StandbyError
from cdc_sync.ats.sweep import Sweep
from cdc_sync.config import Config
from cdc_sync.config.models import watch_rules
from cdc_sync.core import events
from cdc_sync.core.batch import BesideApply
from cdc_sync.core.failures import StoreError
from cdc_sync.event_loop import Task, Work, end, raise_failures, supervise, ungrouped
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError

from .process import Process

_SWEEP_SHARE = 10
"""Sweeps take at most one part in this many of the time."""

LONGEST_GRACE = 30_000
"""Milliseconds of a suspected deletion's grace for which a single run waits; a longer one is left to the next run."""

Begin = Callable[[Work], Task]
"""Begins a task that works until the end."""


class WatchWorker:
    """Keeps one watch running."""

    def __init__(self, parts: WatchParts) -> None:
        self._sweep_wanted = asyncio.Event()
        """A sweep shall begin as soon as the spacing of sweeps allows."""
        self._parts = replace(parts, want_sweep=self._sweep_wanted.set)
        # What the store refused of a sweep, only a sweep writes again.
        self._sweep_failed = False
        self._failures = 0
        """In a row."""
        self._next_sweep_from = 0.0

    async def run(self) -> None:
        """Work for ever; wait while a database, a store or the system refuses.

        Raises:
            AnotherDatabaseError: the database has the store in it, whose session may be in a copy: the process ends.
        """
        while True:
            try:
                await self._work()
            except ChangedError:
                pass
            except (SourceError, StoreError, OSError) as error:
                self._failures += 1
                database = self._parts.database
                if database.holds_store and isinstance(error, AnotherDatabaseError):
                    raise
                if error is database.failure:  # all of its watches try again together
                    wait = database.try_at - asyncio.get_running_loop().time()
                else:
                    wait = wait_after(error, self._failures)
                self.report(error)
                await asyncio.sleep(wait)

    def report(self, error: SourceError | StoreError | OSError) -> None:
        """Report a failure, and forget its frames: other watches may get it too, and the database keeps it."""
        name, observe = self._parts.name, self._parts.observe
        failure = refused_by_system(error) if isinstance(error, OSError) else error
        failure.__context__ = None
        failure.with_traceback(None)
        match failure:
            case StandbyError():
                # The event ends the condition.
                self._parts.event_dates.hours = 0
                observe(events.WatchStandsBy(name, failure.message))
            case SourceError() | AnotherDatabaseError():
                wrong = isinstance(failure, AnotherDatabaseError) or failure.kind == "misconfigured"
                observe(events.WatchLost(name, failure.message, wrong, failure.code, self._parts.database.name))
            case StoreError():
                observe(events.StoreFailed(failure.message, name, failure.code))

    async def _work(self) -> None:
        async with connect(self._parts) as intake:
            capture = await intake.sessions.unless_lost(begin(intake))
            jobs = await capture.jobs()
            jobs["sessions"] = intake.sessions.until_lost
            jobs["sweeps"] = partial(self._sweeps, capture)
            jobs["deletions"] = Deletions(intake).confirm
            # A store's error explains more than a source's.
            with ungrouped(AnotherDatabaseError, StoreError, SourceError, OSError, ChangedError):
                await supervise({f"{self._parts.name}: {job}": work for job, work in jobs.items()})

    def _store_works(self) -> None:
        self._parts.observe(events.StoreRecovered(self._parts.name))

    async def _sweeps(self, capture: Capture) -> None:
        """Report that capture has started; then sweep at once, at each interval and on request.

        The sweeps have their share of the time.
        """
        # Ready: capture works, and earlier commits are applied.
        await capture.catch_up()
        if not self._sweep_failed:
            self._store_works()
        self._parts.observe(events.CaptureStarted(self._parts.name))
        interval = self._parts.watch.capture.sweep.total_seconds()
        clock = asyncio.get_running_loop().time
        until_next = interval * random.random()  # noqa: S311 - spreads the watches' sweeps
        while True:
            # An interrupted sweep cost the database too: its pause outlasts the connection.
            await asyncio.sleep(max(self._next_sweep_from - clock(), 0))
            async with self._parts.database.sweeping:
                self._sweep_wanted.clear()
                started, sweep = clock(), Sweep(capture)
                try:
                    await sweep.run()
                except StoreError:
                    self._sweep_failed = True
                    raise
                finally:
                    self._next_sweep_from = clock() + sweep.worked * (_SWEEP_SHARE - 1)
            # Not before: a sweep that fails each time must not be tried twice a second.
            self._failures = 0
            self._sweep_failed = False
            self._store_works()
            next_at, until_next = started + until_next, interval
            try:
                async with asyncio.timeout_at(next_at):
                    await self._sweep_wanted.wait()
            except TimeoutError:
                continue

    async def catch_up(self, stack: AsyncExitStack) -> Intake:
        """Read what was missed, and compare the whole table, once; the watch stays connected within the stack.

        Raises:
            SourceError, OSError: the database cannot be used.
            StoreError: the store cannot be used.
        """
        if self._parts.database.failure is not None:
            raise self._parts.database.failure.with_traceback(None)  # one try for all of its watches
        # A watch that cannot be captured leaves the sessions open for the others.
        await stack.enter_async_context(self._parts.database.sessions(self._parts.name))
        intake = await stack.enter_async_context(connect(self._parts))
        await intake.sessions.unless_lost(_compare(intake))
        return intake


async def _compare(intake: Intake) -> None:
    capture = await begin(intake)
    await capture.catch_up()
    await Sweep(capture).run()


async def _confirm(intake: Intake) -> None:
    """Answer the suspected deletions with a grace that ends soon; in a dry run each at once."""
    until, deletions = intake.clock() + LONGEST_GRACE, Deletions(intake)
    if intake.parts.dry_run:
        await deletions.confirm_all()
        return
    while True:
        await deletions.confirm_due()
        due_at = await intake.store.capture.next_suspicion(intake.name)
        if due_at is None or due_at > until or deletions.left_some_unanswered:
            return  # the next run asks again
        await asyncio.sleep(max(due_at - intake.clock(), 1) / 1000)


class Watches:
    """The watches; none runs until `start`.

    Attributes:
        others: has the watches' databases, and reads their tables apart.
        running: the tasks of those that were started.
    """

    def __init__(self, process: Process, store: Store, config: Config, beside_apply: BesideApply, begin: Begin) -> None:
        self._process = process
        self._config = config
        self.others = OtherWatches(config, store)
        self._beside_apply = beside_apply
        self._begin = begin
        self.running: dict[str, Task] = {}

    def _worker(self, name: str) -> WatchWorker:
        database = self.others.database_of(name)
        parts = WatchParts(
            name=name,
            watch=self._config.watches[name],
            rules=watch_rules(self._config, name),
            database=database,
            others=self.others,
            observe=self._process.emit,
            clock=database.store.driver.clock,
            beside_apply=self._beside_apply,
            dry_run=self._process.dry_run,
        )
        return WatchWorker(parts)

    def start(self, config: Config) -> tuple[str, ...]:
        """Start the watches of a configuration that do not run yet; returns which."""
        self._config = config
        self.others.use(config)
        fresh = tuple(name for name in config.watches if name not in self.running)
        for name in fresh:
            self.running[name] = self._begin(self._worker(name).run())
        return fresh

    async def end_others(self, config: Config) -> tuple[str, ...]:
        """End the watches that a configuration does not have; returns which.

        Raises:
            BaseExceptionGroup: a watch's failures while it was ended.
        """
        gone = {name: task for name, task in self.running.items() if name not in config.watches}
        await end(gone.values())
        raise_failures(gone.values())
        for name in gone:
            del self.running[name]
            self._process.emit(events.WatchEnded(name))
        return tuple(gone)

    async def catch_up(self, names: Collection[str]) -> int:
        """Catch up with these watches, then answer their suspected deletions; returns how many watches failed."""
        failed = set[WatchWorker]()

        @contextmanager
        def noting(worker: WatchWorker) -> Iterator[None]:
            """Report a watch's failure: it ends neither the others' work nor their sessions."""
            try:
                yield
            except (SourceError, AnotherDatabaseError, OSError) as error:
                failed.add(worker)
                worker.report(error)

        for database in self.others.databases.values():
            workers = [self._worker(name) for name in names if self.others.database_of(name) is database]
            async with AsyncExitStack() as stack:
                intakes: dict[WatchWorker, Intake] = {}
                for worker in workers:
                    with noting(worker):
                        intakes[worker] = await worker.catch_up(stack)
                for worker, intake in intakes.items():
                    with noting(worker):
                        await intake.sessions.unless_lost(_confirm(intake))
        return len(failed)

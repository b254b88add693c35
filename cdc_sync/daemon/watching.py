"""A watch's life: connect, adopt, then capture, sweep and confirm until something is lost; and again."""

import asyncio
import zlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from cdc_sync.ats.beginning import begin, connect
from cdc_sync.ats.capture import Capture, ChangedError
from cdc_sync.ats.connection import Pool
from cdc_sync.ats.database import Sessions, WatchParts, wait_after
from cdc_sync.ats.deletions import Deletions
from cdc_sync.ats.errors import SourceError, refused_by_system
from cdc_sync.ats.rows_elsewhere import OtherWatches, with_row, without_live_row
from cdc_sync.ats.session import StandbyError
from cdc_sync.ats.sweep import Sweep
from cdc_sync.config import Config, format_duration
from cdc_sync.core import events
from cdc_sync.core.batch import Calls
from cdc_sync.core.failures import StoreError
from cdc_sync.core.reasons import coded
from cdc_sync.daemon.wiring import make_database, make_parts
from cdc_sync.event_loop import end, raise_failures, supervise, ungrouped
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError

_SWEEP_SHARE = 10
"""Sweeps take at most one part in this many of the time."""


def phase(watch: str) -> float:
    """The part of the interval, 0 < part ≤ 1, before a watch's second sweep: by name, to spread the sweeps."""
    return (zlib.crc32(watch.encode()) + 1) / 2**32


class WatchWorker:
    """Keeps one watch running."""

    def __init__(self, parts: WatchParts) -> None:
        self._parts = replace(parts, want_sweep=self.want_sweep)
        self._sweep_wanted = asyncio.Event()
        self._lost: str | None = None
        self._store_failed = False
        # What the store refused of a sweep, only a sweep writes again.
        self._sweep_failed = False
        self._sessions: Sessions | None = None
        self._next_sweep_from = 0.0

    def want_sweep(self) -> None:
        """Sweep as soon as the spacing of sweeps allows."""
        self._sweep_wanted.set()

    async def run(self) -> None:
        """Work for ever; wait while a database, a store or the system refuses.

        Raises:
            AnotherDatabaseError: nothing may be sent from the only database.
        """
        failures = 0
        while True:
            try:
                # A store's error explains more than a source's.
                with ungrouped(AnotherDatabaseError, StoreError, SourceError, OSError, ChangedError):
                    await self._work()
                continue
            except (SourceError, StoreError, OSError) as error:
                if isinstance(error, AnotherDatabaseError) and self._parts.database.is_only:
                    raise
                failure: Exception = error
            except ChangedError:
                continue
            # While the store fails, connecting is no success.
            failures = 1 if self._sessions is not None and not self._store_failed else failures + 1
            retry_at = self._parts.database.try_at if failure is self._parts.database.failure else None
            if isinstance(failure, OSError):
                # The other watches and the sender go on.
                failure = refused_by_system(failure)
            if isinstance(failure, SourceError) and self._sessions is not None:
                failure = await self._sessions.why_lost(failure)
            # Other watches may get it too, and the database keeps it: without each one's frames, also by a context.
            failure.__context__ = None
            self._report(failure.with_traceback(None))
            clock = asyncio.get_running_loop().time
            wait = wait_after(failure, failures)
            await asyncio.sleep(wait if retry_at is None else retry_at - clock())

    def _report(self, failure: Exception) -> None:
        """Report a failure if it is news."""
        name, observe = self._parts.name, self._parts.observe
        message: str = failure.message if isinstance(failure, SourceError | StoreError) else str(failure)
        if isinstance(failure, StandbyError):
            # The other store has what this one could not save.
            self._store_works()
            # The event ends the condition.
            self._parts.event_dates.hours = 0
            if message != self._lost:
                observe(events.WatchStandsBy(name, message))
            self._lost = message
        elif isinstance(failure, SourceError | AnotherDatabaseError):
            if message != self._lost:
                database = self._parts.database
                repeated, database.reported = failure is database.reported, failure
                wrong = isinstance(failure, AnotherDatabaseError) or failure.kind == "misconfigured"
                observe(events.WatchLost(name, message, wrong, failure.code, repeated, database.shown_name))
            self._lost = message
        elif not self._store_failed:
            self._store_failed = True
            observe(events.StoreFailed(message, name, failure.code if isinstance(failure, StoreError) else None))

    async def _work(self) -> None:
        self._sessions = None
        parts, watch = self._parts, self._parts.watch
        async with connect(parts) as intake:
            self._sessions = intake.sessions
            self._lost = None
            every = format_duration(watch.capture.sweep)
            meanwhile = coded("sweeps-find", "What that misses, sweeps find, every %(every)s.", every=every)
            capture = await begin(intake, meanwhile)
            jobs = await capture.jobs()
            jobs["sessions"] = intake.sessions.until_lost
            jobs["sweeps"] = partial(self._begin_and_sweep, capture)
            jobs["deletions"] = Deletions(intake).confirm
            await supervise({f"{parts.name}: {job}": work for job, work in jobs.items()})

    async def _begin_and_sweep(self, capture: Capture) -> None:
        # Ready: capture works, and earlier commits are applied.
        await capture.catch_up()
        if not self._sweep_failed:
            self._store_works()
        self._parts.observe(events.CaptureStarted(self._parts.name))
        await self._sweeps(capture)

    def _store_works(self) -> None:
        if self._store_failed:
            self._store_failed = False
            self._parts.observe(events.StoreRecovered(self._parts.name))

    async def _sweeps(self, capture: Capture) -> None:
        """Sweep at the start, at each interval and on request, within the sweeps' share of the time."""
        interval = self._parts.watch.capture.sweep.total_seconds()
        until_next, clock = interval * phase(self._parts.name), asyncio.get_running_loop().time
        while True:
            # An interrupted sweep cost the database too: its pause outlasts the connection.
            await asyncio.sleep(max(self._next_sweep_from - clock(), 0))
            async with self._parts.database.sweeping:
                self._sweep_wanted.clear()
                started, sweep = clock(), Sweep(capture, capture.catch_up)
                try:
                    await sweep.run()
                except StoreError:
                    self._sweep_failed = True
                    raise
                finally:
                    self._next_sweep_from = clock() + sweep.worked * (_SWEEP_SHARE - 1)
            self._sweep_failed = False
            self._store_works()
            next_at, until_next = started + until_next, interval
            try:
                async with asyncio.timeout_at(next_at):
                    await self._sweep_wanted.wait()
            except TimeoutError:
                continue


class RunningWatches:
    """The running watches, a task for each; none until `start`."""

    def __init__(self, config: Config, store: Store, emit: events.Emit, calls: Calls, *, dry_run: bool) -> None:
        self._databases = {name: make_database(config, name, store) for name in config.all_databases}
        self._others = OtherWatches()
        self._emit = emit
        self._calls = calls
        self._dry_run = dry_run
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The watches' tasks."""
        return list(self._running.values())

    @property
    def pools(self) -> dict[str, Pool]:
        """The open pools, by the database's name."""
        pools = {name: database.pool for name, database in self._databases.items()}
        return {name: pool for name, pool in pools.items() if pool is not None}

    async def without_live_row(self, config: Config, name: str, ids: Sequence[str]) -> Collection[str]:
        """See `ats.rows_elsewhere`."""
        database = self._databases[config.database_name(name)]
        return await without_live_row(database, name, config.watches[name], ids)

    async def with_row(self, config: Config, name: str, ids: Sequence[str]) -> Collection[str]:
        """See `ats.rows_elsewhere`."""
        database = self._databases[config.database_name(name)]
        return await with_row(database, name, config.watches[name], ids)

    def start(self, config: Config) -> tuple[str, ...]:
        """Start the watches of a configuration that do not run yet; returns which."""
        self._others.use(config, self._databases)
        fresh = tuple(name for name in config.watches if name not in self._running)
        for name in fresh:
            database = self._databases[config.database_name(name)]
            shared = database, self._emit, self._others
            parts = make_parts(config, name, *shared, calls=self._calls, dry_run=self._dry_run)
            self._running[name] = asyncio.create_task(WatchWorker(parts).run(), name=f"watch {name}")
        return fresh

    async def end_others(self, config: Config) -> tuple[str, ...]:
        """End the watches that a configuration does not have; returns which.

        Raises:
            BaseExceptionGroup: a watch's failures while it was ended.
        """
        gone = {name: task for name, task in self._running.items() if name not in config.watches}
        await end(gone.values())
        raise_failures(gone.values())
        for name in gone:
            del self._running[name]
            self._emit(events.WatchEnded(name))
        return tuple(gone)

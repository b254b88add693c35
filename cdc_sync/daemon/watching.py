"""One watch's life: connect, adopt, then capture, sweep and confirm until the connection is lost; then again."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from psycopg_pool import AsyncConnectionPool

from cdc_sync.config import Watch, format_duration
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.observations import (
    BaselineOverEarlierWork,
    BellLeftAlone,
    CaptureStarted,
    ListenerProved,
    Observe,
    StoreFailed,
    StoreRecovered,
    TriggersFound,
    TriggersMissing,
    WatchConnected,
    WatchLost,
    WatchStandsBy,
)
from cdc_sync.core.rules import WatchRules
from cdc_sync.daemon.pulse import CAPTURE, STEP_OF_DATABASE, SWEEPS, Pulse
from cdc_sync.daemon.together import live_together
from cdc_sync.pipeline import baseline, deletions, remapping
from cdc_sync.pipeline.drain import Doorbell, Drain
from cdc_sync.pipeline.intake import Delivery, Intake, NoDelivery, Unwritten
from cdc_sync.pipeline.missed import watch_missed
from cdc_sync.pipeline.poll import BEGAN, LONGEST_PAUSE, Poll
from cdc_sync.pipeline.poll import POSITION as WATERMARK
from cdc_sync.pipeline.recognition import recognise
from cdc_sync.pipeline.silent_changes import SilentChanges
from cdc_sync.pipeline.steps import STEPS, Steps
from cdc_sync.pipeline.sweep import sweep
from cdc_sync.source.bell import Bell
from cdc_sync.source.changelog import ChangeLog, listen
from cdc_sync.source.connection import Connection, asking, connected, pooled
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import ServerFacts, server_facts, table_facts
from cdc_sync.source.mapping import Mapping
from cdc_sync.source.polling import WatermarkReader
from cdc_sync.source.reading import Reader
from cdc_sync.source.recorders import tables_of, untriggered
from cdc_sync.source.replica_guard import POSITION as REPLICA
from cdc_sync.source.replica_guard import ReplicaGuard
from cdc_sync.source.session import (
    ECHO_WITHIN,
    LastSession,
    Process,
    Session,
    StandbyError,
    hold,
    own_session,
    primary_session,
)
from cdc_sync.source.triggers import Installation, installation, worked_before
from cdc_sync.store.protocol import AnotherDatabaseError
from cdc_sync.store.store import Store

_FIRST_WAIT = 0.5
_MISCONFIGURED_WAIT = 10.0
"""Seconds between tries when only a person can mend it: soon enough after the repair."""

_GIVES_BACK_WITHIN = 2.0
"""Seconds within which the store takes a lease back."""

_CONNECTING, _DELETING = "connecting", "deletions"
"""The names of a watch's loops beside capture."""

_SWEEP_SHARE = 10
"""A sweep never takes more than one part in this many of the time."""


class _TriggersChangedError(Exception):
    """The triggers were installed, removed or replaced, or the server's settings were: begin again with what is now."""


class FastPath(Protocol):
    """What captures changes between sweeps."""

    async def catch_up(self, progressed: Callable[[], None] = ...) -> None:
        """Record every change that was committed before this call; `progressed` is told of each step."""


class SweepsAlone:
    """The fast path of a watch in notify mode without triggers: there is none."""

    async def catch_up(self, progressed: Callable[[], None] = lambda: None) -> None:
        """Nothing to catch up with."""


@dataclass(frozen=True, slots=True)
class WatchParts:
    """What a watch works with, apart from its database."""

    name: str
    watch: Watch
    rules: WatchRules
    dsn: str
    store: Store
    observe: Observe
    clock: Callable[[], int]
    delivery: Delivery = field(default_factory=NoDelivery)
    unwritten: Unwritten = field(default_factory=Unwritten)
    dry_run: bool = False
    last_session: LastSession = field(default_factory=LastSession)
    steps: Steps = STEPS
    longest_wait: float = 5.0
    """Seconds between tries to connect, at most, if the trouble may pass."""
    prove_every: float = 15.0
    """Seconds between proofs that the lasting connection is alive."""
    answers_within: float = ECHO_WITHIN
    """Seconds that the answer to such a proof may take."""


@dataclass(slots=True)
class Connected:
    """A watch that is connected and fitted to its table."""

    parts: WatchParts
    session: Session
    locked: Session
    """The session that holds the watch's lock; another than `session` where a standby is read."""
    pool: AsyncConnectionPool[Connection]
    server: ServerFacts
    mapping: Mapping
    intake: Intake
    installation: Installation | None

    @property
    def log(self) -> ChangeLog:
        """The watch's change log."""
        return ChangeLog(
            self.pool, self.parts.name, self.intake.reader, consume=not self.parts.dry_run, guard=self.guard
        )

    @property
    def tables(self) -> list[QualifiedName]:
        """The tables whose changes are noticed. In poll mode related ones are left to the sweeps, in their time."""
        watch = self.parts.watch
        return tables_of(watch) if watch.capture.mode == "notify" else [watch.table]

    @property
    def guard(self) -> ReplicaGuard:
        """Which server was read and how far it was, over all connections of the watch."""
        return self.parts.last_session.guard

    def watermark_reader(self) -> WatermarkReader:
        """The reader of capture.mode poll."""
        capture = self.parts.watch.capture
        if capture.watermark is None:
            raise AssertionError("the configuration requires a watermark in poll mode")
        return WatermarkReader(self.pool, self.mapping, capture.watermark, capture.lookback, self.guard)


@asynccontextmanager
async def connect(parts: WatchParts) -> AsyncIterator[Connected]:
    """Connect a watch to its database and check that its configuration fits.

    Raises:
        SourceError: the database cannot be used as configured.
        AnotherDatabaseError: it is not the database that the store belongs to.
    """
    async with AsyncExitStack() as stack:
        session = locked = await stack.enter_async_context(own_session(parts.dsn))
        connection = session.connection
        async with asking("asking which server this is"):
            server = await server_facts(connection)
            # Before how far it is: the numbers of another database mean nothing.
            await recognise(parts.store, server.identity, parts.dsn, connection)
        guard = parts.last_session.guard
        guard.identity = server.identity
        guard.load((await parts.store.positions(parts.name)).get(REPLICA))
        # Whoever waits for its turn has found out that it could work, on a server that is not behind.
        pool = await stack.enter_async_context(pooled(parts.dsn, guard))
        async with asking("preparing to capture changes"):
            facts = await table_facts(connection, parts.watch.table)
            mapping = await Mapping.prepare(connection, parts.watch, facts)
        # A dry run takes no turn: it works beside the daemon that does.
        if not parts.dry_run:
            if server.in_recovery:
                primary = await stack.enter_async_context(primary_session(parts.dsn))
                locked = session if primary is None else primary
            await stack.enter_async_context(_turn(parts, locked))
        intake = Intake(
            parts.rules,
            Reader(pool, mapping, guard),
            parts.store,
            observe=parts.observe,
            clock=parts.clock,
            delivery=parts.delivery,
            unwritten=parts.unwritten,
        )
        await intake.load()
        await intake.look_for_policies(first=True)
        installed = None
        if parts.watch.capture.mode == "notify":
            async with asking("looking for the triggers"):
                installed = await installation(connection, parts.name, parts.watch)
            if installed.has_log and not parts.dry_run:
                # Now, since the baseline may take hours: see `source.bell`.
                await Bell(pool, parts.name).worked(begins=False)
        yield Connected(parts, session, locked, pool, server, mapping, intake, installed)


@asynccontextmanager
async def _turn(parts: WatchParts, session: Session) -> AsyncIterator[None]:
    """Be the one daemon that captures the watch: by its lease in the store, and by its lock on the ATS's database.

    The lease decides among daemons that share a store, whichever server each of them reads; the lock among those that
    do not. A lease whose session has ended on its server is taken over at once, since its daemon must begin anew; any
    other when its daemon has not renewed it in time. What is left of that daemon's session is ended then.

    Raises:
        StandbyError: another daemon captures it.
        SourceError: the database cannot be asked.
        StoreError: the store cannot be used.
    """
    name, store, last = parts.name, parts.store, parts.last_session
    process = session.process.as_text()
    lease = await store.take(name, process)
    if not lease.mine and lease.session:
        async with asking("looking for the session that captures"):
            over = await session.is_over(Process.from_text(lease.session))
        if over:
            lease = await store.take(name, process, instead_of=lease)
    if not lease.mine:
        raise StandbyError(
            f"Another cdc-sync works the watch {name} (process {lease.process} on {lease.host} holds its lease in the "
            f"store). Waiting for it to end; if it should not run, stop it."
        )
    try:
        before = Process.from_text(lease.session) if lease.session else None
        await session.lock(name, last.process, before)
        last.process = session.process
        yield
    finally:
        # If it cannot be given back, it goes with this daemon's own lease.
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_GIVES_BACK_WITHIN):
                await store.give_back(name)


def refused_by_system(error: OSError) -> SourceError:
    """What a watch says that lacks something of the machine's, open files for one: it may pass."""
    return SourceError("system-refused", f"The operating system refuses what the watch needs: {error}.")


async def bind(dsn: str, store: Store, wait: float = 5.0) -> None:
    """Make sure that the database is the one that the store belongs to, however long that takes.

    It tries again after `wait` seconds.

    Raises:
        AnotherDatabaseError: it is not.
    """
    while True:
        try:
            async with connected(dsn) as connection, asking("reading the server's identity"):
                identity = (await server_facts(connection)).identity
                await recognise(store, identity, dsn, connection)
        except AnotherDatabaseError:
            raise
        except (SourceError, StoreError, OSError):
            # The watches meet the same, and say it.
            await asyncio.sleep(wait)
        else:
            return


async def adopt(connected: Connected, progressed: Callable[[], None]) -> baseline.BaselinePosition:
    """Run the baseline, or the rest of it, if it is not done; returns its position."""
    parts = connected.parts
    positions = await parts.store.positions(parts.name)
    position = baseline.BaselinePosition.from_text(positions.get(baseline.POSITION))
    if position is None:
        await _look_for_earlier_work(connected)
        look = None
        if parts.watch.capture.mode == "poll":
            look = await connected.watermark_reader().look()
        position = baseline.BaselinePosition(look=look)
    if not position.done:
        position = await baseline.adopt_everything(connected.intake, position, progressed, steps=parts.steps)
    return position


async def _look_for_earlier_work(connected: Connected) -> None:
    """Say it if a silent baseline is about to take for told what an earlier store, which is not here, had to send."""
    parts, found = connected.parts, connected.installation
    if parts.dry_run or parts.rules.baseline != "adopt" or found is None or not found.has_log:
        return
    alone = not await parts.store.counts()
    if await worked_before(connected.session.connection, parts.name, alone=alone):
        parts.observe(BaselineOverEarlierWork(parts.name))
        await connected.intake.place({baseline.OVER_EARLIER_WORK: "yes"})


async def make_poll(connected: Connected, position: baseline.BaselinePosition, want_sweep: Callable[[], None]) -> Poll:
    """The poll, from where it was, or from where the baseline began."""
    parts, reader = connected.parts, connected.watermark_reader()
    positions = await parts.store.positions(parts.name)
    watermark, began = positions.get(WATERMARK), positions.get(BEGAN)
    if watermark is None:
        # Without a look the baseline was made in notify mode: what is older than now, the sweep at the start finds.
        look = position.look or await reader.look()
        watermark, began = await reader.watermark_at(look.instant), str(look.xmax)
        await connected.intake.place({WATERMARK: watermark, BEGAN: began})
    return Poll(connected.intake, reader, watermark, int(began) if began else None, want_sweep, steps=parts.steps)


class WatchWorker:
    """Keeps one watch going.

    Args:
        parts: what it works with.
        pulse: told by each loop that it gets round.
    """

    def __init__(self, parts: WatchParts, pulse: Pulse) -> None:
        self._unwritten = Unwritten(self._store_works)
        self._parts = replace(parts, unwritten=self._unwritten)
        self._sweep_wanted = asyncio.Event()
        self._pulse = pulse
        self._lost: str | None = None
        self._store_failed = False
        self._fresh = True
        self._next_sweep_from = 0.0

    def want_sweep(self) -> None:
        """Sweep as soon as the spacing of sweeps allows."""
        self._sweep_wanted.set()

    async def run(self) -> None:
        """Work for ever; a database or a store that cannot be used, or a system that refuses, is waited for.

        Raises:
            AnotherDatabaseError: nothing may be sent from this database.
        """
        try:
            await self._run()
        finally:
            self._rest(_CONNECTING)

    async def _run(self) -> None:
        failures = 0
        while True:
            self._beat(_CONNECTING)
            failure: Exception | None = None
            try:
                await self._work()
            except* (SourceError, StoreError, _TriggersChangedError, OSError) as group:
                failure = most_telling(group)
            if isinstance(failure, OSError):
                # The other watches and the sender go on.
                failure = refused_by_system(failure)
            if isinstance(failure, AnotherDatabaseError):
                raise failure
            if isinstance(failure, _TriggersChangedError):
                continue
            # While it is the store that fails, to be connected is no success.
            failures = 1 if self._was_connected and not self._store_failed else failures + 1
            await asyncio.sleep(self._wait_after(failure, failures))

    def _beat(self, loop: str, rest: float = 0.0) -> None:
        """A loop got round, and rests for so many seconds at most before its next step."""
        self._pulse.beat(loop, rest + STEP_OF_DATABASE, watch=self._parts.name)

    def _rest(self, *loops: str) -> None:
        for loop in loops:
            self._pulse.rest(loop, watch=self._parts.name)

    def _wait_after(self, failure: Exception | None, failures: int) -> float:
        """Say what is wrong if it is news, and tell how long to wait."""
        if isinstance(failure, StandbyError):
            if self._store_failed:
                # What this daemon could not record is recorded by the one whose turn it is.
                self._store_failed = False
                self._parts.observe(StoreRecovered(self._parts.name))
            if str(failure) != self._lost:
                self._lost = str(failure)
                self._parts.observe(WatchStandsBy(self._parts.name, str(failure)))
        elif isinstance(failure, SourceError):
            if str(failure) != self._lost:
                self._lost = str(failure)
                misconfigured = failure.kind == "misconfigured"
                self._parts.observe(WatchLost(self._parts.name, str(failure), misconfigured, failure.code))
            if failure.kind == "misconfigured":
                return _MISCONFIGURED_WAIT
        elif not self._store_failed:
            self._store_failed = True
            code = failure.code if isinstance(failure, StoreError) else None
            self._parts.observe(StoreFailed(str(failure), self._parts.name, code))
        ceiling = min(_FIRST_WAIT * 2.0 ** min(failures - 1, 10), self._parts.longest_wait)
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter

    async def _work(self) -> None:
        self._was_connected = False
        name, watch = self._parts.name, self._parts.watch
        async with connect(self._parts) as connected:
            self._was_connected = True
            self._lost = None
            self._parts.observe(WatchConnected(name, watch.capture.mode, connected.server.version))
            interval = format_duration(watch.capture.sweep)
            tell_triggers(connected, f"What that misses, sweeps find, every {interval}.")
            position = await adopt(connected, lambda: self._beat(_CONNECTING))
            await remapping.notice(connected.intake, lambda: self._beat(_CONNECTING))
            silent = await SilentChanges.since_now(connected.intake, connected.pool, connected.tables, self.want_sweep)
            # From here on nothing may fail before the jobs are begun: Python complains of those that never are.
            fast, jobs = await self._capture(connected, position)
            jobs["silent changes"] = silent.run(watch.capture.drain_interval.total_seconds())
            jobs["sweeps"] = self._begin_and_sweep(connected, fast)
            if connected.locked is not connected.session:
                jobs["lock on the primary"] = self._hold(connected.locked)
            jobs["deletions"] = deletions.run(connected.intake, self._deletions_progressed, steps=self._parts.steps)
            self._rest(_CONNECTING)
            self._deletions_progressed()
            self._beat(SWEEPS)
            try:
                await live_together({f"{name}: {job}": coroutine for job, coroutine in jobs.items()})
            finally:
                self._beat(_CONNECTING)
                self._rest(CAPTURE, SWEEPS, _DELETING)

    def _hold(self, session: Session) -> Coroutine[Any, Any, None]:
        return hold(session, self._parts.prove_every, within=self._parts.answers_within)

    def _deletions_progressed(self) -> None:
        self._beat(_DELETING, deletions.LONGEST_REST)

    async def _capture(
        self, connected: Connected, position: baseline.BaselinePosition
    ) -> tuple[FastPath, dict[str, Coroutine[Any, Any, None]]]:
        """What captures changes between sweeps, and the jobs that it takes."""
        name, capture = self._parts.name, self._parts.watch.capture
        longest_rest = max(capture.poll_interval.total_seconds(), capture.drain_interval.total_seconds(), LONGEST_PAUSE)
        progressed = partial(self._pulse.beat, CAPTURE, longest_rest + STEP_OF_DATABASE, watch=name)
        if capture.mode == "poll":
            poll = await make_poll(connected, position, self.want_sweep)
            progressed()
            return poll, {
                "lock": self._hold(connected.session),
                "poll": poll.run(capture.poll_interval.total_seconds(), progressed),
            }
        jobs: dict[str, Coroutine[Any, Any, None]] = {"triggers": self._watch_triggers(connected)}
        if connected.installation is None or not connected.installation.has_log:
            return SweepsAlone(), {**jobs, "lock": self._hold(connected.session)}
        progressed()
        drain = Drain(connected.intake, connected.log, self.want_sweep, capture.max_backlog, steps=self._parts.steps)
        drain_interval = capture.drain_interval.total_seconds()
        if not self._may_be_rung_for(connected.server):
            jobs["lock"] = self._hold(connected.session)
            pause = capture.poll_interval.total_seconds()
            if capture.wakeup == "notify":
                self._parts.observe(BellLeftAlone(name, pause))
            jobs["drain"] = self._drain_without_bell(connected, drain, progressed)
        else:
            proved = lambda usage: self._parts.observe(ListenerProved(name, usage))  # noqa: E731 - a bound argument
            jobs["listen"] = listen(
                connected.session, drain.rung.set, self._parts.prove_every, proved, within=self._parts.answers_within
            )
            if self._parts.dry_run:
                jobs["drain"] = drain.run(drain_interval, progressed)
            else:
                clock = asyncio.get_running_loop().time
                bell = Bell(connected.pool, name)
                poll_interval = capture.poll_interval.total_seconds()
                jobs["drain"] = Doorbell(drain, bell, drain_interval, clock, poll_interval).run(progressed)
        if not self._parts.dry_run:
            jobs["missed"] = watch_missed(connected.intake, connected.pool, drain, self.want_sweep, drain_interval)
        return drain, jobs

    async def _drain_without_bell(self, connected: Connected, drain: Drain, progressed: Callable[[], None]) -> None:
        capture = self._parts.watch.capture
        if capture.wakeup == "notify" and not self._parts.dry_run:
            # An earlier run may have left it armed, for up to its lease, before the server was set as it is now.
            await Bell(connected.pool, self._parts.name).disarm()
        await drain.run(capture.poll_interval.total_seconds(), progressed)

    def _may_be_rung_for(self, server: ServerFacts) -> bool:
        """Whether the bell may be armed: not where that would harm the ATS (`source.bell`)."""
        harms = server.prepares_transactions or server.waits_for_standbys
        return self._parts.watch.capture.wakeup == "notify" and not harms

    async def _begin_and_sweep(self, connected: Connected, fast: FastPath) -> None:
        # Ready means that it works, and that what was committed while nobody looked has been recorded.
        await fast.catch_up(lambda: self._beat(SWEEPS))
        if not self._unwritten.names:
            # It could not be read, and can. What it would not write is another matter.
            self._store_works()
        self._parts.observe(CaptureStarted(self._parts.name))
        await self._sweeps(connected, fast)

    def _store_works(self) -> None:
        self._unwritten.names.clear()
        if self._store_failed:
            self._store_failed = False
            self._parts.observe(StoreRecovered(self._parts.name))

    async def _sweeps(self, connected: Connected, fast: FastPath) -> None:
        """A sweep at the start, at each interval and when one is wanted, with pauses that keep it in its share."""
        interval = self._parts.watch.capture.sweep.total_seconds()
        clock = asyncio.get_running_loop().time
        while True:
            # An interrupted sweep was work for the database too, so its pause outlasts the connection.
            pause = max(self._next_sweep_from - clock(), 0)
            self._beat(SWEEPS, pause)
            await asyncio.sleep(pause)
            self._sweep_wanted.clear()
            started = reached = clock()

            def progressed() -> None:
                nonlocal reached
                reached = clock()  # waiting for a lost connection's end is no work
                self._beat(SWEEPS)

            progressed()
            try:
                done = await sweep(
                    connected.intake, lambda: fast.catch_up(progressed), progressed, steps=self._parts.steps
                )
            finally:
                self._next_sweep_from = clock() + (reached - started) * (_SWEEP_SHARE - 1)
            # Whatever was refused has been written by now, or is no news any more.
            self._store_works()
            if done.resumed:
                self.want_sweep()
            self._beat(SWEEPS, max(started + interval - clock(), 0))
            try:
                async with asyncio.timeout_at(started + interval):
                    await self._sweep_wanted.wait()
            except TimeoutError:
                continue

    async def _watch_triggers(self, connected: Connected) -> None:
        """Notice that triggers were installed, removed or replaced, and whether the bell may be armed still."""
        every = self._parts.watch.capture.drain_interval.total_seconds()
        while True:
            await asyncio.sleep(every)
            async with asking("looking for the triggers"), connected.pool.connection() as connection:
                found = await installation(connection, self._parts.name, self._parts.watch)
                server = await server_facts(connection)
            if found != connected.installation or server != connected.server:
                raise _TriggersChangedError


NO_TRIGGERS = "capture.mode is notify, but"
"""What the message of `TriggersMissing` begins with."""


def tell_triggers(connected: Connected, meanwhile: str) -> None:
    """Say whether capture.mode notify has what it needs, and what finds changes `meanwhile` if not."""
    found, parts = connected.installation, connected.parts
    if found is None:
        return
    if not found.problems:
        parts.observe(TriggersFound(parts.name))
        return
    reason = "; ".join(found.problems)
    remedy = "Let the DBA run what `cdc-sync sql install` prints, or use capture.mode poll."
    never = untriggered(connected.mapping.facts.kind, connected.server.version)
    if never is not None:
        reason, remedy = f"{parts.watch.table} {never.reason}", never.remedy
    parts.observe(TriggersMissing(parts.name, f"{NO_TRIGGERS} {reason}. {meanwhile} {remedy}"))


def most_telling(group: BaseExceptionGroup[Exception]) -> Exception:
    """The exception that tells most: another database before all, a store before a source, else the first."""
    flat: list[Exception] = []

    def collect(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                collect(inner)
        elif isinstance(error, Exception):
            flat.append(error)

    collect(group)
    return min(flat, key=lambda error: (not isinstance(error, AnotherDatabaseError), not isinstance(error, StoreError)))

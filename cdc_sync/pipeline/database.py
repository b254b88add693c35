"""The ATS's database and what a watch works with: sessions that all watches share, the store, how large its steps are.

Of sessions there is one that lasts, and a pool. They begin with the first watch that needs them and end with the last
one. When the lasting session is lost, so is every watch's lock: each ends what it does and comes back, the first to
come connects anew, and the others get what it has got, be it sessions or a reason why there are none. The pool ends
with the lasting session, so that nobody reads on for hours without his lock. A database that is down is tried once,
however many watches it has; each then takes its own lock again, or says why not.

Nothing of one watch waits for another's: see `source.connection` for the turns at the pool.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from cdc_sync.config import Watch
from cdc_sync.config.sessions import POOL_SIZE
from cdc_sync.core.events import Emit
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Whereabouts
from cdc_sync.core.outbox import Offer
from cdc_sync.core.plan import Applied
from cdc_sync.core.rows import WatchRules
from cdc_sync.core.watermark import Evidence
from cdc_sync.event_loop import end
from cdc_sync.source.connection import Connection, Pool, asking, connected, pooled
from cdc_sync.source.errors import SourceError, source_error
from cdc_sync.source.facts import ServerFacts, is_same_cluster, server_facts, whereabouts
from cdc_sync.source.lookout import Lookout
from cdc_sync.source.replica_guard import POSITION, ReplicaGuard
from cdc_sync.source.session import ECHO_WITHIN, Process, Session, StandbyError, own_session, primary_session
from cdc_sync.store.errors import AnotherDatabaseError, WatchMovedError, elsewhere, watch_moved
from cdc_sync.store.protocol import FROM_DATABASE, Lease
from cdc_sync.store.store import Store

_FIRST_WAIT = 0.5
_MISCONFIGURED_WAIT = 10.0
"""Seconds between tries when only a person can mend it: soon enough after the repair."""

_GIVES_BACK_WITHIN = 2.0
"""Seconds within which the store takes a lease back."""

_ALIVE_FOR = 1.0
"""Seconds for which a session that was alive is not asked for again: all watches of a daemon have the same."""
SWEEPS_AT_ONCE = 2
"""Watches that sweep at the same time, at most: a long sweep of one does not hold up all others."""

_REMEMBERED = 3
"""Earlier sessions of this daemon, one of which may hold a lock still."""


def nothing() -> None:
    """Whom progress, or a wish, does not interest."""


def nobody(_: str) -> None:
    """Whom it does not interest which watch it is."""


def wait_after(error: Exception, failures: int, longest: float) -> float:
    """Seconds until the next try, after so many that have failed in a row; `longest` at most, if it may pass."""
    if isinstance(error, AnotherDatabaseError) or (isinstance(error, SourceError) and error.kind == "misconfigured"):
        return _MISCONFIGURED_WAIT
    ceiling = min(_FIRST_WAIT * 2.0 ** min(failures - 1, 10), longest)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter


class LeasedElsewhereError(StandbyError):
    """Another daemon has the watch's lease; `lease` says which."""

    def __init__(self, watch: str, lease: Lease) -> None:
        held = source_error("standby/lease", watch=watch, process=lease.process, host=lease.host)
        super().__init__(held.message)
        self.lease = lease


@dataclass(slots=True, eq=False)
class Sessions:
    """What all watches of a database work with.

    Attributes:
        lasting: the session that listens.
        locked: the session that holds the watches' locks; another than `lasting` where a standby is read.
        pool: for everything else.
        held: ends when one of the two sessions is lost; it looks for all watches, too.
        lookout: looks at the database for all watches.
        stack: what ends with them.
        is_recognised: whether this is known to be the database that the store remembers by its name.
        users: how many watches work with them.
        is_new: whether only the watch that connected has joined them.
    """

    lasting: Session
    locked: Session
    pool: Pool
    held: asyncio.Task[None]
    lookout: Lookout
    stack: AsyncExitStack
    is_recognised: bool
    users: int = 0
    is_new: bool = True

    @property
    def server(self) -> ServerFacts:
        """What the server is."""
        return self.lookout.server

    async def until_lost(self) -> None:
        """Wait until the sessions are lost.

        Raises:
            SourceError: they are.
        """
        await asyncio.shield(self.held)

    async def why_lost(self, error: SourceError) -> SourceError:
        """What to say of an error: that the sessions are lost is the same for every watch, however it met it."""
        if error.kind != "unreachable" or isinstance(error, StandbyError):
            return error
        await asyncio.wait([self.held], timeout=_FIRST_WAIT)
        lost = self.held.exception() if self.held.done() and not self.held.cancelled() else None
        return lost if isinstance(lost, SourceError) else error


@dataclass(slots=True, eq=False)
class Database:
    """The ATS's database, as one daemon uses it.

    Attributes:
        dsn: where it is.
        store: the store, which remembers which database it is.
        size: connections of the pool, at most.
        name: its name in the configuration; "" for the section `database`.
        longest_wait: seconds between tries to connect, at most, if the trouble may pass.
        prove_every: seconds between proofs that the lasting session is alive.
        answers_within: seconds that the answer to such a proof may take.
        recognised: called with each watch of which it is known to be the database that the store remembers.
        is_only: whether there is no other one: if it is the wrong one, the daemon ends.
        guard: which server was read, and how far it was.
        failure: why there are no sessions, which concerns all watches; None if there is no reason.
        try_at: when all of them try again then, by the event loop's clock.
        said: the error that one of them has said last: the others need not repeat it.
        sweeping: the turns to sweep: a few watches at once have one, however many there are.
        given_way: how many sweeps wait for others in the middle.
    """

    dsn: str = field(repr=False)
    store: Store
    size: int = POOL_SIZE
    name: str = ""
    longest_wait: float = 5.0
    prove_every: float = 15.0
    answers_within: float = ECHO_WITHIN
    recognised: Callable[[str], None] = nobody
    is_only: bool = True
    guard: ReplicaGuard = field(default_factory=ReplicaGuard, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _sessions: Sessions | None = field(default=None, init=False)
    _closing: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    # Behind a network that fell silent the server keeps a session, and with it the locks, long after it was given up
    # here. Whoever remembers that it was its own may end it.
    _earlier: tuple[Process, ...] = field(default=(), init=False)
    # Of another daemon's session when it was found alive last.
    _alive_at: dict[str, float] = field(default_factory=dict, init=False)
    failure: Exception | None = field(default=None, init=False)
    try_at: float = field(default=0.0, init=False)
    said: Exception | None = field(default=None, init=False)
    sweeping: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, SWEEPS_AT_ONCE), init=False)
    given_way: int = field(default=0, init=False)
    _failed_in_a_row: int = field(default=0, init=False)
    _are_kept: bool = field(default=False, init=False)

    @property
    def shown_name(self) -> str | None:
        """Its name for people, if there are several."""
        return None if self.is_only else self.name

    @property
    def pool(self) -> Pool | None:
        """The pool, while there is one."""
        return None if self._sessions is None or self._sessions.held.done() else self._sessions.pool

    @asynccontextmanager
    async def sessions(self, watch: str) -> AsyncIterator[Sessions]:
        """The sessions, for as long as a watch works with them.

        Raises:
            SourceError: the database cannot be reached, or this server may not be read.
            AnotherDatabaseError: it is not the one that the store remembers, or not the one of this watch.
            StoreError: the store cannot be used.
        """
        sessions = await self._join(watch)
        is_new, sessions.is_new = sessions.is_new, False
        try:
            positions = await self.store.positions(watch)
            is_known = self._is_of(positions) and sessions.is_recognised
            if not is_known:
                recognise = partial(self._recognise, watch=watch, positions=positions)
                await sessions.pool.ask("asking which server this is", recognise)
                sessions.is_recognised = True
            self.recognised(watch)
            if not (is_new and is_known):
                # Whoever connects has looked.
                self.guard.load(positions.get(POSITION))
                await sessions.pool.ask("asking which server this is", self.guard.meet)
            yield sessions
        except SourceError as error:
            why = await sessions.why_lost(error)
            if why is error:
                raise
            raise why from error
        finally:
            sessions.users -= 1
            if not sessions.users and (sessions.held.done() or not self._are_kept):
                await self._leave(sessions)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the sessions, though no watch works with them for a moment."""
        self._are_kept = True
        try:
            yield
        finally:
            self._are_kept = False
            if self._sessions is not None and not self._sessions.users:
                await self._leave(self._sessions)

    async def _leave(self, sessions: Sessions) -> None:
        if self._sessions is sessions:
            self._sessions = None
        await asyncio.shield(self._close(sessions.stack.aclose()))

    @asynccontextmanager
    async def turn(self, watch: str, sessions: Sessions) -> AsyncIterator[None]:
        """Be the one daemon that captures a watch: by its lease in the store, and by its lock on the ATS's database.

        The lease decides among daemons that share a store, whichever server each of them reads; the lock among those
        that do not. A lease whose session has ended on its server is taken over at once, since its daemon must begin
        anew; any other when its daemon has not renewed it in time. What is left of that daemon's session is ended then.

        Raises:
            StandbyError: another daemon captures it.
            SourceError: the database cannot be asked.
            StoreError: the store cannot be used.
        """
        store, session = self.store, sessions.locked
        process = session.process.as_text()
        lease = await store.take(watch, process)
        if not lease.mine and lease.session and await self._is_over(session, lease.session):
            lease = await store.take(watch, process, instead_of=lease)
        if not lease.mine:
            raise LeasedElsewhereError(watch, lease)
        try:
            before = Process.from_text(lease.session) if lease.session else None
            await session.lock(watch, *(each for each in (*self._earlier, before) if each != session.process))
            yield
        finally:
            session.give_up(watch)
            try:
                # Before the lease: whoever takes that ends a session that still has the lock.
                if not sessions.held.done():
                    await session.unlock()
            finally:
                # If it cannot be given back, it goes with this daemon's own lease.
                with suppress(StoreError, TimeoutError):
                    async with asyncio.timeout(_GIVES_BACK_WITHIN):
                        await store.give_back(watch)

    async def _is_over(self, session: Session, other: str) -> bool:
        now = asyncio.get_running_loop().time()
        self._alive_at = {text: at for text, at in self._alive_at.items() if now - at < _ALIVE_FOR}
        if other in self._alive_at:
            return False
        is_over = await session.is_over(Process.from_text(other))
        if not is_over:
            self._alive_at[other] = now
        return is_over

    async def _join(self, watch: str) -> Sessions:
        before = self.failure
        async with self._lock:
            if self.failure is not None and self.failure is not before:
                raise self.failure  # another watch has tried meanwhile
            sessions = self._sessions
            try:
                if sessions is None or sessions.held.done():
                    if sessions is not None and not sessions.users:
                        self._close(sessions.stack.aclose())
                    if self._closing:
                        # There may be no connections for both.
                        await asyncio.wait(self._closing)
                    sessions = self._sessions = await self._connect(watch)
            except Exception as error:
                self.failure = error
                self._failed_in_a_row += 1
                wait = wait_after(error, self._failed_in_a_row, self.longest_wait)
                self.try_at = asyncio.get_running_loop().time() + wait
                raise
            self._failed_in_a_row, self.failure = 0, None
            sessions.users += 1
            return sessions

    async def _connect(self, watch: str) -> Sessions:
        async with AsyncExitStack() as stack:
            try:
                lasting = locked = await stack.enter_async_context(own_session(self.dsn))
            except SourceError as error:
                if error.kind == "misconfigured":
                    await self._recognise_alone(watch)
                raise
            positions, is_known = await self.store.positions(watch), await self.store.identity(self.name) is not None
            async with asking("asking which server this is"):
                server = await server_facts(lasting.connection)
                # Before how far it is: the numbers of another database mean nothing.
                if is_known:
                    await recognise(self.store, server.identity, self.dsn, lasting.connection, self.name)
            # What was read without news binds nobody: a standby may never get it, when its primary is gone.
            self.guard = ReplicaGuard()
            self.guard.identity = server.identity
            if is_known and self._is_of(positions):
                self.recognised(watch)
                self.guard.load(positions.get(POSITION))
            # Whoever waits for its turn has found out that it could work, on a server that is not behind.
            pool = await stack.enter_async_context(pooled(self.dsn, self.guard, size=self.size))
            if server.in_recovery:
                primary = await stack.enter_async_context(primary_session(self.dsn))
                locked = lasting if primary is None else primary
            lookout = Lookout(pool, server)
            held = asyncio.create_task(self._hold({lasting, locked}, lookout), name="holding the watches' locks")
            stack.push_async_callback(end, {held})
            held.add_done_callback(lambda held: None if held.cancelled() else self._close(pool.close(timeout=2)))
            self._earlier = (*self._earlier[-_REMEMBERED:], locked.process)
            return Sessions(lasting, locked, pool, held, lookout, stack.pop_all(), is_known)

    def _is_of(self, positions: Mapping[str, str]) -> bool:
        """Whether a watch with these positions was captured from the database of this name, or never was."""
        return not positions or positions.get(FROM_DATABASE, "") == self.name

    async def _recognise(self, connection: Connection, watch: str, positions: Mapping[str, str]) -> None:
        """Take a name that the store does not know, or a watch that was captured under another name, if all is well.

        Raises:
            AnotherDatabaseError: the watch was captured from another database, or this name stands for another one.
        """
        store, identity = self.store, (await server_facts(connection)).identity
        if not self._is_of(positions):
            was = positions.get(FROM_DATABASE, "")
            bound = await store.identity(was)
            if bound not in {None, identity}:
                raise watch_moved(watch, was, self.name, str(bound), identity)
            here = await whereabouts(self.dsn, connection)
            before = await store.hosts(was)
            if (why_not := await found_elsewhere(before, identity, self.dsn, here, connection, self.name)) is not None:
                raise WatchMovedError(why_not)
        await recognise(store, identity, self.dsn, connection, self.name)
        if not self._is_of(positions):
            await store.set_captured_from(watch, self.name)

    async def _recognise_alone(self, watch: str) -> None:
        """Where no session lasts, behind a pooler say, nothing is captured; what waits in the store is sent though.

        Raises:
            AnotherDatabaseError: nothing may be sent.
            StoreError: the store cannot be used.
        """
        with suppress(SourceError):
            async with connected(self.dsn) as connection, asking("asking which server this is"):
                await self._recognise(connection, watch, await self.store.positions(watch))
            self.recognised(watch)

    def _close(self, closing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Close something, also if the caller is cancelled meanwhile."""
        task = asyncio.create_task(closing, name="closing the sessions")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _hold(self, sessions: Collection[Session], lookout: Lookout) -> None:
        holding = {asyncio.create_task(each.hold(self.prove_every, within=self.answers_within)) for each in sessions}
        # On nobody's account (`connection.READS`): what it asks is quick.
        holding.add(asyncio.create_task(lookout.run(), name="looking for all watches", context=Context()))
        try:
            done, _ = await asyncio.wait(holding, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            await end(holding)


async def recognise(store: Store, identity: str, dsn: str, connection: Connection, database: str = "") -> None:
    """Bind the store to the database, the first time; afterwards insist on it, and remember where it is now.

    Args:
        store: the store.
        identity: the database's, as `ServerFacts` has it.
        dsn: how it is reached.
        connection: a connection to it.
        database: its name in the configuration.

    Raises:
        AnotherDatabaseError: the store belongs to another one.
        SourceError: the server cannot be asked.
        StoreError: the store cannot be used.
    """
    await store.bind(identity, database)
    here = await whereabouts(dsn, connection)
    while True:
        before = await store.hosts(database)
        why_not = await found_elsewhere(before, identity, dsn, here, connection, database)
        if why_not is not None:
            raise AnotherDatabaseError(why_not)
        # Other daemons may read other servers of the cluster, each by hosts of its own.
        now = Whereabouts.from_text(before).joined(here) if before and store.clock.shared else here
        if before == now.to_text() or await store.set_hosts(now.to_text(), before, database):
            return


async def found_elsewhere(  # noqa: PLR0917 - those of `recognise`, and what is compared
    before: str | None, identity: str, dsn: str, now: Whereabouts, connection: Connection, database: str = ""
) -> str | None:
    """Why a database of the store's identity may be a copy; None if it is the one that the store belongs to.

    Args:
        before: where the store remembers it, as text; None if it does not: stores of 0.1.0 remember no hosts.
        identity: its identity.
        dsn: how it is reached.
        now: where that leads.
        connection: a connection to it.
        database: its name in the configuration.
    """
    if not before:
        return None
    remembered = Whereabouts.from_text(before)
    if remembered.has(now) or await is_same_cluster(dsn, identity, remembered, now, connection):
        return None
    return elsewhere(identity, remembered, now, database)


class Delivery(Protocol):
    """The sender's part in an apply; see `delivery.sender.Sender`."""

    def offer(self, watch: str, application_ids: Collection[str]) -> Offer:
        """Withdraw the entries of these applications that have not begun, and say what may be claimed."""

    def settle(self, offered: Offer, watch: str, applied: Applied | None) -> None:
        """Take what the apply has claimed, and what it has left as it was; None if it failed."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How large a watch's steps are, and how often they come. Intervals are in seconds.

    Attributes:
        adopted: rows that the baseline reads and adopts at once.
        drained: changes taken from the change log at once.
        give_back_every: between tries to shorten the change log's file, at least: each takes a lock for a moment,
            which a standby replays.
        polled: rows that a poll reads at once.
        look_every: between looks at the server's transactions, and so between moves of a poll's watermark: each look,
            which is for all watches, takes one of the server's transaction ids.
        place_every: between savings of a poll's watermark, at least: what was read since is read again after a restart,
            which costs a comparison.
        compared: rows that a sweep compares at once: a statement of the store's of some 10 ms, for which the capture
            may have to wait.
        read: rows that a sweep reads at once, at most: what they take of memory Python gives little back.
        searched: record numbers looked at at once when a sweep searches for what it has not met.
        confirmed: suspected deletions that are answered at once.
        save_every: between savings of a sweep's position, at least: a sweep that is quicker than this is cheaper to
            repeat.
        save_share: saving never takes more than one part in this many of the time: a bitmap of many millions of
            records is large. 0 for no such limit.
    """

    adopted: int = 500
    drained: int = 1_000
    give_back_every: float = 60.0
    polled: int = 2_000
    look_every: float = 15.0
    place_every: float = 300.0
    compared: int = 5_000
    read: int = 500
    searched: int = 20_000
    confirmed: int = 500
    save_every: float = 5.0
    save_share: int = 20


STEPS = Steps()


@dataclass(frozen=True, slots=True)
class WatchParts:
    """What a watch works with over its connections, apart from its database's sessions.

    Attributes:
        name: the watch's.
        watch: its configuration.
        rules: the same as the core has it.
        database: the ATS's.
        observe: gets what was news.
        clock: our clock, milliseconds since the epoch.
        delivery: the sender; None if nothing is sent while this process captures.
        unwritten: names of what the store would not write, and has not written since.
        all_written: called when the last of it is written.
        evidence: what a poll has learnt of its watermark.
        want_sweep: called when a sweep should come.
        dry_run: whether nothing is changed.
        steps: how large its steps are.
    """

    name: str
    watch: Watch
    rules: WatchRules
    database: Database
    observe: Emit
    clock: Callable[[], int]
    delivery: Delivery | None = None
    unwritten: set[str] = field(default_factory=set)
    all_written: Callable[[], None] = nothing
    evidence: Evidence = field(default_factory=Evidence)
    want_sweep: Callable[[], None] = nothing
    dry_run: bool = False
    steps: Steps = STEPS

    @property
    def store(self) -> Store:
        """The store."""
        return self.database.store

"""The ATS's database: the sessions that all watches share, and the store.

The first watch opens one lasting session and one pool; the last one closes them. Losing the lasting session loses every
watch's lock, so the pool closes too. The first watch to come back connects, the others share its sessions or its error.
"""

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from cdc_sync.config import Config
from cdc_sync.event_loop import Task, Work, end, supervise, ungrouped
from cdc_sync.store import Store
from cdc_sync.store.capture import FROM_DATABASE
from cdc_sync.store.errors import AnotherDatabaseError, another_database, refuse_copy

from .connection import REPLICA, Pool, ReplicaGuard, pooled
from .errors import SourceError
from .facts import hosts_of, server_facts
from .lookout import Lookout
from .session import Process, Session, StandbyError, own_session, primary_session

T = TypeVar("T")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 5.0
"""Seconds between tries if the error may pass."""

_MISCONFIGURED_WAIT = 10.0
"""Seconds between tries when only a person can repair it."""

SWEEPS_AT_ONCE = 2
"""Watches that sweep at once, at most: one long sweep does not hold up all others."""

_REMEMBERED = 4
"""Sessions of this daemon, its present one included, and of the former leader, that may hold a lock."""


def wait_after(error: Exception, failures: int) -> float:
    """Seconds until the next try after `failures` in a row."""
    if isinstance(error, AnotherDatabaseError) or (isinstance(error, SourceError) and error.kind == "misconfigured"):
        return _MISCONFIGURED_WAIT
    ceiling = min(_FIRST_WAIT * 2.0 ** min(failures - 1, 10), _LONGEST_WAIT)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter


@dataclass(slots=True, eq=False)
class Sessions:
    """What all watches of a database share.

    Attributes:
        lasting: the session that listens.
        locked: the one that holds the watches' locks; on a standby another one than `lasting`.
        held: runs the lookout, and ends, by an error, when one of the two sessions is lost.
        stack: closes them.
        hosts: those of the DSN.
    """

    lasting: Session
    locked: Session
    pool: Pool
    held: Task
    lookout: Lookout
    stack: AsyncExitStack
    hosts: Sequence[str]
    users: int = 0

    async def until_lost(self) -> None:
        """Wait until the sessions are lost, then raise `SourceError`."""
        await asyncio.shield(self.held)

    async def unless_lost(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work that reads; end it when the sessions are lost, also if an answer never comes.

        Raises:
            SourceError: they are lost.
        """
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({working, self.held}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await self.until_lost()
            return await working
        finally:
            await end({working})

    async def why_lost(self, error: SourceError) -> SourceError:
        """The error to report: of lost sessions the same one for every watch."""
        if error.kind != "unreachable" or isinstance(error, StandbyError):
            return error
        await asyncio.wait([self.held], timeout=_FIRST_WAIT)
        lost = self.held.exception() if self.held.done() and not self.held.cancelled() else None
        return lost if isinstance(lost, SourceError) else error


class Database:
    """The ATS's database, as one daemon uses it; not connected yet.

    Attributes:
        name: in the configuration; "" for the section `database`.
        section: the one with its `dsn`, for messages.
        holds_store: whether the store is in it, too.
        failure: why no watch can have sessions.
        try_at: when they retry after it, by the event loop's clock.
        sweeping: the turns to sweep.

    Raises:
        SourceError: by `sessions` and `take_turn`: the database cannot be reached, or may not be read.
        StoreError: by both: the store cannot be used.
    """

    def __init__(self, config: Config, name: str, store: Store) -> None:
        self.store, self.name, self.section = store, name, config.section_of(name)
        self.holds_store = config.state.is_in_ats
        self.failure: Exception | None = None
        self.try_at = 0.0
        self.sweeping = asyncio.Semaphore(SWEEPS_AT_ONCE)
        self._dsn, self._size = config.dsn_of(name), config.all_databases[name].pool
        self._failed_in_a_row = 0
        self._lock = asyncio.Lock()
        self._sessions: Sessions | None = None
        self._closing: set[Task] = set()
        # Behind a silent network the server keeps a session and its locks for long. This daemon may end its own.
        self._earlier: deque[Process] = deque(maxlen=_REMEMBERED)

    @property
    def pool(self) -> Pool | None:
        """The pool, while there is one."""
        return None if self._sessions is None or self._sessions.held.done() else self._sessions.pool

    @asynccontextmanager
    async def sessions(self, watch: str) -> AsyncIterator[Sessions]:
        """The sessions, for as long as a watch uses them.

        Raises:
            AnotherDatabaseError: it is not the database in the store, or not this watch's.
        """
        sessions = await self._join()
        try:
            positions = await self.recognise(watch, sessions.lookout.server.identity, sessions.hosts)
            guard = sessions.pool.guard
            guard.load(positions.get(REPLICA))
            await sessions.pool.ask("asking which server this is", guard.meet)
            yield sessions
        except SourceError as error:
            why = await sessions.why_lost(error)
            if why is error:
                raise
            raise why.with_traceback(None) from None
        finally:
            sessions.users -= 1
            if not sessions.users:
                if self._sessions is sessions:
                    self._sessions = None
                await asyncio.shield(self._close(sessions.stack.aclose()))

    async def take_turn(self, watch: str, sessions: Sessions) -> None:
        """Be the only one that captures a watch, over all stores, until the session ends; else raise `StandbyError`.

        The session of the store's former leader, or an earlier one of this daemon, is ended if it still has the lock.
        """
        session = sessions.locked
        before = await self.store.databases.begin_capture(watch, json.dumps(session.process._asdict()))
        if before:
            former = json.loads(before)  # of 0.2.0 with more
            process = Process(former["pid"], former["started"])
            if process not in self._earlier:  # from now on the store has ours
                self._earlier.append(process)
        await session.lock(watch, *(each for each in self._earlier if each != session.process))

    async def _join(self) -> Sessions:
        before = self.failure
        async with self._lock:
            if self.failure is not None and self.failure is not before:
                # Another watch has tried meanwhile; it may still handle this exception.
                raise self.failure.with_traceback(None)
            try:
                sessions = self._sessions
                if sessions is None or sessions.held.done():
                    if self._closing:
                        # The server may not have connections for both.
                        await asyncio.wait(self._closing)
                    sessions = self._sessions = await self._connect()
            except Exception as error:
                self.failure = error
                self._failed_in_a_row += 1
                wait = wait_after(error, self._failed_in_a_row)
                self.try_at = asyncio.get_running_loop().time() + wait
                raise
            self._failed_in_a_row, self.failure = 0, None
            sessions.users += 1
            return sessions

    async def _connect(self) -> Sessions:
        async with AsyncExitStack() as stack:
            lasting = locked = await stack.enter_async_context(own_session(self._dsn))
            server, hosts = await server_facts(lasting.connection), hosts_of(self._dsn, lasting.connection)
            # One error for all watches; a name that is new to the store may be the wrong one for each.
            if await self.store.databases.identity(self.name) is not None:
                await self.store.databases.bind(server.identity, hosts, self.name, self.section)
            # Only reads with news bind: without its primary, a standby never receives the others' position.
            pool = await stack.enter_async_context(pooled(self._dsn, ReplicaGuard(server.identity), size=self._size))
            if server.in_recovery:
                primary = await stack.enter_async_context(primary_session(self._dsn))
                locked = lasting if primary is None else primary
            lookout = Lookout(pool, server)
            held = asyncio.create_task(self._hold({lasting, locked}, lookout), name="holding the watches' locks")
            stack.push_async_callback(end, {held})
            held.add_done_callback(lambda held: None if held.cancelled() else self._close(pool.close(timeout=2)))
            self._earlier.append(locked.process)
            return Sessions(lasting, locked, pool, held, lookout, stack.pop_all(), hosts)

    async def recognise(self, watch: str, identity: str, here: Sequence[str]) -> Mapping[str, str]:
        """Accept a name new to the store, or a watch captured under another name, if the database fits.

        `here` are its hosts. Returns the watch's positions. Of a store that is only read, nothing is written.

        Raises:
            AnotherDatabaseError: the store, or the watch, belongs to another database.
        """
        databases = self.store.databases
        positions = await self.store.capture.positions(watch)
        was = positions.get(FROM_DATABASE, "") if positions else self.name
        if was != self.name:
            bound = await databases.identity(was)
            if bound not in {None, identity}:
                facts = {"watch": watch, "was": was or "database", "bound": str(bound), "connected": identity}
                raise another_database("watch-moved", self.name, **facts)
            before = await databases.hosts(was)
            refuse_copy("watch-moved", identity, before, here, database=self.name, section=self.section)
        await databases.bind(identity, here, self.name, self.section)
        if was != self.name and self.store.driver.access == "own":
            await databases.set_captured_from(watch, self.name)
        return positions

    def _close(self, closing: Work) -> Task:
        """Close something, also if the caller is cancelled."""
        task = asyncio.create_task(closing, name="closing the sessions")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _hold(self, sessions: Collection[Session], lookout: Lookout) -> None:
        works = {f"holding {each.process}": each.hold for each in sessions}
        with ungrouped(SourceError, OSError):
            await supervise({**works, "looking for all watches": lookout.run})

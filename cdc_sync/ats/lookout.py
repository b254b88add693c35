"""Looks at a database for all its watches, by one statement each; idle watches query nothing.

- **a look** at the change log shows which watches have changes, and how often changes were not recorded. There is one
  every `drain_interval`, and one every few milliseconds while changes are so many that they do not ring.
- **a round**, every 30 seconds, reads a digest of what each watch depends on. If that is new, the watch verifies its
  triggers, looks for policies, and sweeps.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import sql
from psycopg_pool import PoolTimeout

from cdc_sync.ats.bell import RENEWED_EVERY, Bell
from cdc_sync.ats.connection import Pool, rows_of, with_position
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.expressions import arrays, composed, sections
from cdc_sync.ats.facts import ServerFacts, server_facts
from cdc_sync.ats.recorders import missed_of
from cdc_sync.core.identifiers import QualifiedName

T = TypeVar("T")

_SQL = sections("lookout.sql")

_BUSY_EVERY = 0.02
"""Least seconds between looks while changes do not ring."""

_AT_LEAST_EVERY = 10.0

_SHOWN_EVERY = 0.5
"""Least seconds between two looks that a watch without changes learns of."""

_COUNTED_AT_ONCE = 100
"""Watches whose counts one look reads: it locks each, of the 64 locks per connection."""

_LOOK = with_position(sql.SQL(_SQL["look"]), 2)

ROUND = 30.0
"""Seconds between rounds."""

_DISARMS_WITHIN = 2.0
"""Seconds."""

_READING = "reading the change log cdc_sync.changes"
_ASKING = "looking for what the watches depend on"


class Ears(NamedTuple):
    """How a watch in notify mode learns of changes in the log.

    Attributes:
        every: seconds between looks.
        arms: whether it arms the bell.
        rung: called if there are changes.
        looked: called with the seconds that a look took which found none, now and then.
    """

    every: float
    arms: bool
    rung: Callable[[], None]
    looked: Callable[[float], None]


@dataclass(slots=True, eq=False)
class Watched:
    """One watch, as the lookout knows it.

    Attributes:
        relations: those it depends on: tables, and the log with its count of unrecorded changes.
        state: a digest of what the catalog has of these: their files, triggers, rules and policies, and what belongs
            to partitions, and to what views read. None if there is nothing.
        ears: in notify mode, once it reads the log.
        missed: how many changes were never recorded; None if unknown.
        counted: set when `missed` changes.
        rechecks: whether it looks closer after each round.
        changed: set when there is something to look closer at.
    """

    name: str
    relations: Collection[QualifiedName]
    state: str | None = None
    ears: Ears | None = None
    missed: int | None = None
    counted: asyncio.Event = field(default_factory=asyncio.Event)
    rechecks: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    async def has_changed(self) -> None:
        """Wait for something to look closer at; raises the lookout's error."""
        await self.changed.wait()
        self.changed.clear()
        if self.error is not None:
            raise self.error

    def fail(self, error: Exception) -> None:
        """Let the watch know of an error."""
        self.error = error
        self.changed.set()


class Lookout:
    """Looks for many watches; `server` is as of the last round.

    Raises:
        SourceError: by each method, if the database cannot answer.
    """

    def __init__(self, pool: Pool, server: ServerFacts) -> None:
        self.server = server
        self.bell = Bell(pool)
        self._pool = pool
        self._watched: dict[str, Watched] = {}
        self._hurry = asyncio.Event()
        self._round_at = time.monotonic() + ROUND
        self._took = 0.0
        # How often the log was looked at, and when its idle watches learned of it.
        self._looks = 0
        self._shown_at = time.monotonic()
        self._shared: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}

    async def join(self, watched: Watched) -> None:
        """Add a watch, and find out its state."""
        self._watched[watched.name] = watched
        await self.find_states([watched])

    def leave(self, watched: Watched) -> None:
        """Remove a watch."""
        if self._watched.get(watched.name) is watched:
            del self._watched[watched.name]

    def listen(self, watched: Watched, ears: Ears) -> None:
        """Let a watch learn of changes in the log."""
        watched.ears = ears
        self._hurry.set()

    async def count(self, changes: int) -> None:
        """Count changes that a watch with an armed bell has read."""
        was_busy = self.bell.is_busy
        await self.bell.count(changes)
        if self.bell.is_busy and not was_busy:
            self._hurry.set()

    async def ask(self, what: Hashable, within: float, asking: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question of all watches, asked once in so many seconds."""
        now = time.monotonic()
        since, task = self._shared.get(what, (0.0, None))
        if task is None or now - since >= within or (task.done() and (task.cancelled() or task.exception())):
            self._shared = {key: one for key, one in self._shared.items() if now - one[0] < ROUND}
            task = asyncio.create_task(asking(), name="asking for all watches")
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._shared[what] = now, task
        answer: T = await asyncio.shield(task)
        return answer

    async def run(self) -> None:
        """Look for ever, and report failures to the watches that rely on it."""
        try:
            while True:
                if self._listening():
                    await self._attempt(self.look, lambda one: one.ears is not None)
                if time.monotonic() >= self._round_at:
                    self._round_at = time.monotonic() + ROUND
                    await self._attempt(self.go_round, lambda _: True)
                await self._pause()
        finally:
            # On a lost connection it fails, and the lease expires.
            with suppress(SourceError, OSError, TimeoutError):
                async with asyncio.timeout(_DISARMS_WITHIN):
                    await self.bell.disarm()

    async def look(self) -> None:
        """See to the bell, and let watches with changes know."""
        listening = self._listening()
        if not listening:
            return
        if self._arms():
            await self.bell.follow()
        begun = time.monotonic()
        counted = self._next_to_count(listening)
        names = [missed_of(one.name) for one in counted]
        ((with_changes, counts, _),) = await self._pool.read(
            _READING, partial(rows_of, query=_LOOK, parameters=(names,))
        )
        self._took = time.monotonic() - begun
        is_shown = begun - self._shown_at >= _SHOWN_EVERY
        if is_shown:
            self._shown_at = begun
        for one in listening:
            if one.ears is None:
                continue
            if one.name in with_changes:
                one.ears.rung()
            elif is_shown:
                one.ears.looked(self._took)
        found = json.loads(counts or "{}")
        for one in counted:
            await self._counted(one, found.get(missed_of(one.name)))

    async def go_round(self) -> None:
        """Look for what has changed around the watches."""
        if not self._watched:
            return
        await self.find_states(list(self._watched.values()))
        before, self.server = self.server, await self._pool.ask("asking how the server is set up", server_facts)
        for one in self._watched.values():
            if one.rechecks or self.server != before:
                one.changed.set()

    def _arms(self) -> bool:
        """Whether a watch wants changes to ring."""
        return any(one.ears.arms for one in self._listening() if one.ears is not None)

    def _listening(self) -> list[Watched]:
        return [one for one in self._watched.values() if one.ears is not None]

    def _next_to_count(self, listening: list[Watched]) -> list[Watched]:
        """The watches whose counts this look reads: all of them in turns."""
        pages = -(-len(listening) // _COUNTED_AT_ONCE)
        first = self._looks % pages * _COUNTED_AT_ONCE
        self._looks += 1
        return listening[first : first + _COUNTED_AT_ONCE]

    async def _counted(self, watched: Watched, missed: int | None) -> None:
        """Take over a watch's count."""
        if missed is None:
            name = missed_of(watched.name)
            counting = composed(_SQL["count"], sql.Identifier("cdc_sync", name))
            try:
                await self._pool.fetch(counting, (), f"reading cdc_sync.{name}")
            except SourceError as error:
                watched.fail(error)
        elif missed != watched.missed:
            watched.missed = missed
            watched.counted.set()

    async def _pause(self) -> None:
        """Wait until the next look or round."""
        self._hurry.clear()
        left = self._round_at - time.monotonic()
        for one in self._listening():
            if one.ears is not None:
                left = min(left, one.ears.every, RENEWED_EVERY)
        if self.bell.is_busy and self._arms():
            left = min(left, _BUSY_EVERY)
        # A look reads the whole log with its dead rows: a fifth of the time, unless that were too seldom.
        left = max(left, min(4 * self._took, _AT_LEAST_EVERY))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(left, 0)):
                await self._hurry.wait()

    async def _attempt(self, work: Callable[[], Awaitable[None]], whom: Callable[[Watched], bool]) -> None:
        """Do some work; the watches that rely on it get its error."""
        try:
            try:
                await work()
            except SourceError as error:
                # Again if its connection was lost, or a sequence was dropped meanwhile.
                if not isinstance(error.__cause__, psycopg.Error) or isinstance(error.__cause__, PoolTimeout):
                    raise
                await work()
        except (SourceError, OSError) as error:
            for one in filter(whom, list(self._watched.values())):
                one.fail(error)

    async def find_states(self, whom: Sequence[Watched]) -> None:
        """Find out the watches' states."""
        named = [(one.name, relation.schema, relation.name) for one in whom for relation in one.relations]
        parameters = arrays(("watches", "schemas", "names"), named)
        found: dict[str, str] = dict(await self._pool.fetch(_SQL["states"], parameters, _ASKING))
        for one in whom:
            if one.state != found.get(one.name):
                one.state = found.get(one.name)
                one.changed.set()

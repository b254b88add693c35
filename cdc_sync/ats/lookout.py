"""Looks at a database for all its watches, by one statement each; idle watches query nothing.

- **a look** at the change log shows which watches have changes, and how often changes were not recorded. There is one
  every `drain_interval`, or every `poll_interval` where changes cannot ring, and one every 20 ms while they are so many
  that they do not.
- **a round**, every 30 seconds, reads a digest of what each watch depends on. If that is new, the watch verifies its
  triggers, looks for policies, and sweeps.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier
from psycopg_pool import PoolTimeout

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.watermark import SnapshotReading

from .connection import Pool, rows_of, with_position
from .errors import SourceError
from .expressions import arrays, composed, sections
from .facts import ServerFacts, server_facts
from .triggers import missed_of

_SQL, _BELL = sections("lookout.sql"), sections("changelog.sql")

_BUSY_EVERY = 0.02
"""Least seconds between looks while changes do not ring."""

_AT_LEAST_EVERY = 10.0

_SHOWN_EVERY = 0.5
"""Least seconds between two looks that a watch without changes learns of."""

_COUNTED_AT_ONCE = 100
"""Watches whose counts one look reads: it locks each, of the 64 locks per connection."""

_LOOK = with_position(SQL(_SQL["look"]), 2)

ROUND = 30.0
"""Seconds between rounds."""

LEASE = 60
"""Seconds for which the bell stays armed without renewal."""

RENEWED_EVERY = LEASE / 3
"""Seconds: if one renewal fails, the next one can do it."""

BUSY = 50.0
"""Changes per second from which the bell is disarmed."""

CALM = 20.0
"""Changes per second below which it is armed."""

WINDOW = 0.5
"""Seconds over which the rate is measured."""

_MOST_OF_QUEUE = 0.25
"""The used share of the server's NOTIFY queue above which the bell is not armed: a full queue fails commits."""

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
        changed: set when there is something to look closer at, or an error.
        error: the lookout's, which the watch raises.
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

    def fail(self, error: Exception) -> None:
        """Let the watch know of an error."""
        self.error = error
        self.changed.set()


class Bell:
    """A sequence by which an idle daemon asks the triggers for NOTIFY, until a time of the server's clock.

    All watches of a database share it. It is armed while changes are few, so that each wakes the daemon at once. It is
    disarmed while they are many, since each NOTIFY costs the ATS something. Nothing relies on a ring: a change that did
    not ring is found by the next look at the log. So a wrong bell costs time, never a change.

    Attributes:
        is_armed: whether changes ring, as far as is known.
        is_busy: whether it is disarmed since changes are many.
        hurry: set when the log must be looked at sooner.

    Raises:
        SourceError: by each method, if the database cannot answer.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float] = monotonic) -> None:
        self.is_armed = self.is_busy = False
        self.hurry = asyncio.Event()
        self._pool = pool
        self._clock = clock
        # The present window, and the rate in the one before.
        self._since, self._changes, self._before = clock(), 0, 0.0
        self._renew_at = clock()
        self._is_new = True

    async def count(self, changes: int) -> None:
        """Count changes that were read, and disarm the bell before more of them ring."""
        if self._rate(changes) >= BUSY and not self.is_busy:
            self.is_busy = True
            self.hurry.set()
            await self.disarm()

    async def follow(self) -> None:
        """Arm it while changes are few, keep it disarmed while they are many, and renew either in time."""
        now, rate = self._clock(), self._rate(0)
        if self.is_busy and rate < CALM:
            self.is_busy, self._renew_at = False, now
        if now >= self._renew_at:
            self._renew_at = now + RENEWED_EVERY
            # Another daemon may have armed it.
            await self._set(until=-1 if self.is_busy else LEASE)
        if self.is_busy:  # `count` may have found that meanwhile, before it was armed
            await self.disarm()

    def _rate(self, changes: int) -> float:
        """Changes per second, with these: of the window before, or the least of the present one, as a burst begins."""
        now = self._clock()
        if now - self._since >= WINDOW:
            self._since, self._changes, self._before = now, 0, self._changes / (now - self._since)
        self._changes += changes
        return max(self._before, self._changes / WINDOW)

    async def silence(self) -> None:
        """Unset the bells of earlier versions, once: so they neither ring nor take a watch for abandoned."""
        if self._is_new:
            await self._pool.fetch("silencing earlier versions' bells", _BELL["silence"])
            self._is_new = False

    async def disarm(self) -> None:
        """Disarm it."""
        if self.is_armed:
            await self._set(until=-1)

    async def _set(self, until: int) -> None:
        """Set it to so many seconds from the server's present time, if it is there and we may."""
        parameters = {"until": until, "most": _MOST_OF_QUEUE}
        rows = await self._pool.fetch("setting the bell cdc_sync.bell", _BELL["set_bell"], parameters)
        self.is_armed = rows == [(True,)]


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
        self._round_at = monotonic() + ROUND
        self._took = 0.0
        # How often the log was looked at, and when its idle watches learned of it.
        self._looks = 0
        self._shown_at = monotonic()
        self._reading: SnapshotReading | None = None
        self._read_at = 0.0
        self._taking = asyncio.Lock()

    async def join(self, watched: Watched) -> None:
        """Add a watch, and find out its state."""
        self._watched[watched.name] = watched
        await self.find_states([watched])

    def leave(self, watched: Watched) -> None:
        """Remove a watch."""
        self._watched.pop(watched.name, None)

    def listen(self, watched: Watched, ears: Ears) -> None:
        """Let a watch learn of changes in the log."""
        watched.ears = ears
        self.bell.hurry.set()

    async def transactions(self, every: float, look: Callable[[], Awaitable[SnapshotReading]]) -> SnapshotReading:
        """The server's transactions, looked at for all watches, `every` so many seconds."""
        async with self._taking:
            if self._reading is None or monotonic() - self._read_at >= every:
                self._reading, self._read_at = await look(), monotonic()
            return self._reading

    async def run(self) -> None:
        """Look for ever, and report failures to the watches that rely on it."""
        try:
            while True:
                await self._attempt(self.look, lambda one: one.ears is not None)
                if monotonic() >= self._round_at:
                    self._round_at = monotonic() + ROUND
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
        begun = monotonic()
        # The counts of all watches are read in turns.
        pages = -(-len(listening) // _COUNTED_AT_ONCE)
        first = self._looks % pages * _COUNTED_AT_ONCE
        self._looks += 1
        counted = [one for one, _ in listening[first : first + _COUNTED_AT_ONCE]]
        names = [missed_of(one.name) for one in counted]
        ((with_changes, counts),) = await self._pool.read(_READING, partial(rows_of, query=_LOOK, parameters=(names,)))
        self._took = monotonic() - begun
        is_shown = begun - self._shown_at >= _SHOWN_EVERY
        if is_shown:
            self._shown_at = begun
        for one, ears in listening:
            if one.name in with_changes:
                ears.rung()
            elif is_shown:
                ears.looked(self._took)
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
        return any(ears.arms for _, ears in self._listening())

    def _listening(self) -> list[tuple[Watched, Ears]]:
        return [(one, one.ears) for one in self._watched.values() if one.ears is not None]

    async def _counted(self, watched: Watched, missed: int | None) -> None:
        """Take over a watch's count."""
        if missed is None:
            name = missed_of(watched.name)
            counting = composed(_SQL["count"], Identifier("cdc_sync", name))
            try:
                await self._pool.fetch(f"reading cdc_sync.{name}", counting)
            except SourceError as error:
                watched.fail(error)
        elif missed != watched.missed:
            watched.missed = missed
            watched.counted.set()

    async def _pause(self) -> None:
        """Wait until the next look or round."""
        self.bell.hurry.clear()
        left = self._round_at - monotonic()
        for _, ears in self._listening():
            left = min(left, ears.every, RENEWED_EVERY)
        if self.bell.is_busy and self._arms():
            left = min(left, _BUSY_EVERY)
        # A look reads the whole log with its dead rows: a fifth of the time, unless that were too seldom.
        left = max(left, min(4 * self._took, _AT_LEAST_EVERY))
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self.bell.hurry.wait()

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
            for one in filter(whom, self._watched.values()):
                one.fail(error)

    async def find_states(self, whom: Sequence[Watched]) -> None:
        """Find out the watches' states."""
        named = [(one.name, relation.schema, relation.name) for one in whom for relation in one.relations]
        parameters = arrays(("watches", "schemas", "names"), named)
        asking = partial(rows_of, query=_SQL["states"], parameters=parameters, prepare=True)
        found: dict[str, str] = dict(await self._pool.ask(_ASKING, asking))
        for one in whom:
            if one.state != found.get(one.name):
                one.state = found.get(one.name)
                one.changed.set()

"""Capture by notify: consume the change log when the bell rings, and now and then in case a bell was lost.

How a `Doorbell` drains: all the time while changes come fast, else when it is rung for.

- **asleep**: the bell is armed, and the fence of `source.bell` is passed. Each change rings, and is drained at once.
- **falling asleep**: the bell is armed, and transactions are open that may not have seen it. It goes on draining.
- **awake**: the bell is disarmed; commits take no lock for us. It drains every few milliseconds.

Some writers never ring: those whose session has a lock_timeout (`recorders`), and PostgreSQL 10's replication workers.
As soon as a drain finds changes that nobody rang for, it drains every `poll_interval` for minutes. So it does while
the bell may not be armed, since the server's NOTIFY queue fills up.

Each NOTIFY takes a lock that serialises the commits of the whole database. While changes are few nobody notices, and
latency is milliseconds; when they come fast the ATS would pay for it, and the daemon is awake anyway. Two limits apart
from each other keep the bell from being armed and disarmed in turn.

It starts awake. If it dies asleep, the lease runs out; if it dies awake, nothing was armed. Whatever is lost beyond all
this (a notification, a bell that somebody else has set) is found by the drain that runs every `drain_interval`.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cdc_sync.core.observations import CaughtUp
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.steps import STEPS, Steps
from cdc_sync.source.bell import LEASE, Bell, QueueFillsUpError
from cdc_sync.source.changelog import ChangeLog
from cdc_sync.source.errors import SourceError

_FALLING_ASLEEP = 0.1
"""Seconds between drains while transactions are open that may not have seen the bell."""

_RENEW_AFTER = LEASE / 3
"""Seconds after which the lease is renewed."""

_UNRUNG_FOR = 300.0
"""Seconds for which it drains every `poll_interval` after a change that nobody rang for."""

_LAST_WISH = 2.0
"""Seconds that disarming may take at the end; if the connection is lost, it fails, and the lease runs out by itself."""


BUSY = 50.0
"""Changes per second from which on whoever sleeps should stay awake."""

CALM = 10.0
"""Changes per second below which whoever is awake may sleep."""

WINDOW = 0.5
"""Seconds over which the rate is taken."""


class Pace(NamedTuple):
    """How fast changes come.

    Attributes:
        since: when the present window began, in seconds of any clock that does not go back.
        changes: how many came in it so far.
        before: the rate of the window before, in changes per second.
        rate: that rate, or what the present window will have at least: a burst is seen as it begins.
    """

    since: float
    changes: int = 0
    before: float = 0.0
    rate: float = 0.0


def count(pace: Pace, now: float, changes: int) -> Pace:
    """Take into account what was found."""
    since, before = pace.since, pace.before
    if now - since < WINDOW:
        changes += pace.changes
    else:
        since, before = now, pace.changes / (now - since)
    return Pace(since, changes, before, max(before, changes / WINDOW))


def pause(searched: float) -> float:
    """Seconds to wait until the next drain while awake, after one that looked `searched` seconds for changes.

    To look costs the server as much as the log has rows, those included that were taken and that VACUUM may not remove
    yet, as long as some old transaction might see them. So a fifth of the time at most is spent on it, until waiting
    would be felt too much.
    """
    return min(max(4 * searched, 0.02), 2.0)


class Drain:
    """Empties one watch's change log into the intake.

    Args:
        intake: where the keys go.
        log: the change log.
        sweep: called when the log asks for a sweep (TRUNCATE, a changed lookup table). What asks is consumed before
            the sweep has run; a crash in between loses nothing, since a whole sweep follows every start.
        max_backlog: the log's limit in bytes.
        steps: how many changes it takes at once.
    """

    def __init__(
        self, intake: Intake, log: ChangeLog, sweep: Callable[[], None], max_backlog: int, *, steps: Steps = STEPS
    ) -> None:
        self._intake = intake
        self._log = log
        self._sweep = sweep
        self._steps = steps
        self.max_backlog = max_backlog
        self._was_full = False
        self._gave_back_at = -math.inf
        self._worth_giving_back = max_backlog // 16
        self._nearly_full = max_backlog // 2
        # A drain that the sweep asks for and one that the bell asks for would wait for each other's row locks.
        self._lock = asyncio.Lock()
        self._begun: float | None = None
        # Set when there may be something in the log, until it is read.
        self.rung = asyncio.Event()
        self._found_some = True
        # For how many seconds the log was searched last.
        self.searched = 0.0

    def was_full(self) -> bool:
        """Whether the log was found full since this was asked last."""
        was_full, self._was_full = self._was_full, False
        return was_full

    async def catch_up(self, progressed: Callable[[], None] = lambda: None) -> None:
        """Empty the log of every change that was committed before this call; `progressed` is told of each batch.

        Those that come meanwhile may be as many as are taken, for hours: they are not waited for.

        Raises:
            SourceError: the log or the rows cannot be read.
            StoreError: the outcome cannot be recorded; the log keeps it.
        """
        if not await self.step():
            return
        begun = await self._log.clock()
        while await self._log.has_older(begun):
            progressed()
            if not await self.step():
                return

    async def step(self, found: Callable[[int], Awaitable[None]] | None = None) -> bool:
        """Record a batch of changes; returns whether there may be more.

        With `found`, that is told of the batch before it is recorded, which may take a while.

        Raises:
            SourceError: the log or the rows cannot be read.
            StoreError: the outcome cannot be recorded; the log keeps it.
        """
        async with self._lock:
            self._begun = time.monotonic() if self._begun is None else self._begun
            async with self._intake.lock:
                is_expected = self._found_some or self.rung.is_set()
                self.rung.clear()
                changes = await self._log.read(self._steps.drained, apart=not is_expected)
                self._found_some = changes.number > 0
                self.searched = changes.searched
                self._was_full = self._was_full or changes.size >= self.max_backlog
                if found is not None:
                    await found(changes.number)
                await self._intake.changes(changes)
            if changes.everything:
                await self._intake.requests.add()
            await self._log.delete(changes)
            if changes.everything:
                self._sweep()
            more = changes.full and self._log.consumes
            if not more:
                may_give_back = time.monotonic() - self._gave_back_at >= self._steps.give_back_every
                if self._log.consumes and changes.size >= self._worth_giving_back and may_give_back:
                    self._gave_back_at = time.monotonic()
                    await self._log.give_back(nearly_full=changes.size >= self._nearly_full)
                self._intake.observe(CaughtUp(self._intake.rules.watch, time.monotonic() - self._begun))
                self._begun = None
            return more

    async def run(self, every: float, progressed: Callable[[], None]) -> None:
        """Drain for ever: at each ring, and after `every` seconds without one."""
        while True:
            while await self.step():
                progressed()
            progressed()
            try:
                async with asyncio.timeout(every):
                    await self.rung.wait()
            except TimeoutError:
                continue


class Doorbell:
    """Drains one watch's change log for ever.

    Args:
        drain: empties the log.
        bell: the watch's bell.
        every: seconds after which to drain without having been rung for (`drain_interval`).
        clock: seconds that do not go back.
        poll_every: seconds after which to drain where the bell is not rung (`poll_interval`).

    Attributes:
        is_asleep: whether it depends on being rung for: the bell is armed, and its fence passed.
    """

    def __init__(
        self, drain: Drain, bell: Bell, every: float, clock: Callable[[], float], poll_every: float = 2.0
    ) -> None:
        self._drain = drain
        self._bell = bell
        self._every = every
        self._poll_every = poll_every
        self._clock = clock
        self._pace = Pace(clock())
        self._armed_at: float | None = None
        self._may_be_armed = False
        self._fence: int | None = None
        self._overdue = False
        self._unrung_until = -math.inf
        self.is_asleep = False

    async def run(self, progressed: Callable[[], None]) -> None:
        """Work for ever.

        Raises:
            SourceError: the database cannot answer.
            StoreError: what was read cannot be recorded.
        """
        try:
            while True:
                wait = await self.turn()
                self._overdue = False
                progressed()
                if not self.is_asleep:
                    await asyncio.sleep(wait)
                    continue
                try:
                    async with asyncio.timeout(wait):
                        await self._drain.rung.wait()
                except TimeoutError:
                    self._overdue = True
        finally:
            await self._disarm_quietly()

    async def turn(self) -> float:
        """Drain a batch and see to the bell; returns the seconds until the next turn, if nobody rings."""
        # If so, what they changed is visible now, and the drain that follows finds it.
        is_quiet = self._fence is not None and await self._bell.is_quiet(self._fence)
        if await self._drain.step(self._found):
            return 0.0
        if is_quiet:
            self._fence, self.is_asleep = None, self._armed_at is not None
        now = self._clock()
        if self._armed_at is None:
            if self._pace.rate >= CALM:
                return pause(self._drain.searched)
            await self._arm(now)
        elif now - self._armed_at >= _RENEW_AFTER:
            await self._arm(now)
        if self._armed_at is None:
            return self._poll_every
        if self.is_asleep:
            most = self._poll_every if now < self._unrung_until else self._every
            return min(most, self._every, _RENEW_AFTER)
        return max(_FALLING_ASLEEP, pause(self._drain.searched))

    async def _found(self, changes: int) -> None:
        """Wake for good as soon as changes come fast: until the bell is disarmed, each costs the ATS a NOTIFY."""
        now = self._clock()
        if changes and self._overdue and self.is_asleep:
            self._unrung_until = now + _UNRUNG_FOR
        self._pace = count(self._pace, now, changes)
        if self._armed_at is not None and self._pace.rate >= BUSY:
            self._armed_at, self._fence, self.is_asleep = None, None, False
            await self._bell.disarm()
            self._may_be_armed = False

    async def _arm(self, now: float) -> None:
        # Before it is: whoever is cancelled while the server arms it has to disarm it as well.
        self._may_be_armed = True
        try:
            fence = await self._bell.arm()
        except QueueFillsUpError:
            self._armed_at, self._fence, self.is_asleep = None, None, False
            return
        # A renewal leaves an older fence standing: it still has to be passed.
        self._armed_at, self._fence = now, self._fence if fence is None else fence
        self.is_asleep = self._fence is None

    async def _disarm_quietly(self) -> None:
        if not self._may_be_armed:
            return
        try:
            async with asyncio.timeout(_LAST_WISH):
                await self._bell.disarm()
        except (SourceError, TimeoutError):
            return

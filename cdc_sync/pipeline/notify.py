"""Capture by notify: read the change log when the bell rings, and at intervals in case a ring was lost.

Three states ([decision 10](../../docs/decisions/0010-the-bell-rings-for-sleepers-only.md) has the proof):

- **busy**, while changes come fast, and at the start: the bell is disarmed. The log is read every few milliseconds.
- **becoming idle**: the bell is armed, but open transactions may not have seen it. Looks for all watches
  (`source.lookout`) show changes, and the end of these transactions.
- **idle**: every writer has seen the armed bell. Nothing is queried until it rings or a look shows changes.

Some writers never ring (`docs/for-dbas.md`). After changes without a ring, the log is looked at every `poll_interval`
for minutes; likewise where no bell may be used, or while the server's NOTIFY queue fills up.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from cdc_sync.core.events import BellLeftAlone, CaughtUp, ChangesMissed, ListenerProved, LogReplaced
from cdc_sync.pipeline.capture import Capture, ChangedError, Jobs, SweepOnlyCapture, look_for_triggers
from cdc_sync.pipeline.database import nothing
from cdc_sync.pipeline.intake import Intake
from cdc_sync.source.changelog import Bell, ChangeLog, all_ended
from cdc_sync.source.errors import SourceError
from cdc_sync.source.lookout import Look
from cdc_sync.source.triggers import Installation, log_filled_by, worked_before

MISSED = "missed"
"""The position with the number of dropped changes that a sweep was requested for."""

_UNRUNG_FOR = 300.0
"""Seconds of looks every `poll_interval` after a change without a ring."""

_DISARMS_WITHIN = 2.0
"""Seconds; on a lost connection it fails, and the lease expires."""

BUSY = 50.0
"""Changes per second from which the bell is disarmed."""

CALM = 10.0
"""Changes per second below which it may be armed: far fewer, so that it does not alternate."""

WINDOW = 0.5
"""Seconds over which the rate is measured."""


class Pace(NamedTuple):
    """The rate of changes per second.

    Attributes:
        since: the present window's start, in seconds of a monotonic clock.
        changes: in it so far.
        before: the previous window's rate.
        rate: that, or the least that the present window will have: a burst shows as it begins.
    """

    since: float
    changes: int = 0
    before: float = 0.0
    rate: float = 0.0


def count(pace: Pace, now: float, changes: int) -> Pace:
    """Add the changes of a read."""
    since, before = pace.since, pace.before
    if now - since < WINDOW:
        changes += pace.changes
    else:
        since, before = now, pace.changes / (now - since)
    return Pace(since, changes, before, max(before, changes / WINDOW))


def pause(searched: float) -> float:
    """Seconds until the next read while busy, after a search of the log that took `searched` seconds.

    It costs as much as the log has rows, dead ones included: a fifth of the time at most.
    """
    return min(max(4 * searched, 0.02), 2.0)


class NotifyCapture(SweepOnlyCapture):
    """Consumes one watch's part of the change log; `rung` is set while that may have unread changes."""

    def __init__(self, intake: Intake, installed: Installation, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(intake, installed)
        parts, server = intake.parts, self.server
        configured = parts.watch.capture
        self._poll_interval = configured.poll_interval.total_seconds()
        self._drain_interval = configured.drain_interval.total_seconds()
        self._max_backlog = configured.max_backlog
        harms = server.prepares_transactions or server.waits_for_standbys
        self._may_ring = configured.wakeup == "notify" and not harms
        self._arms = self._may_ring and not parts.dry_run
        self._clock = clock
        self.log = ChangeLog(intake.sessions.pool, parts.name, intake.reader, consume=not parts.dry_run)
        self.bell = Bell(parts.name)
        if not parts.dry_run:
            self.watched.bell = self.bell
        self._log_seen = intake.seen.log
        self.rung = asyncio.Event()
        self._progressed = nothing
        self._pace = Pace(clock())
        # The look that woke it, if no ring did.
        self._look: Look | None = None
        self._unrung_until = -math.inf
        # A sweep's read and a ring's read would wait for each other's row locks.
        self._lock = asyncio.Lock()
        self._begun: float | None = None
        self._found_some = True
        self._searched = 0.0
        self._was_full = False
        self._gave_back_at = -math.inf

    @classmethod
    async def open(cls, intake: Intake) -> Capture:
        """See `Capture`; without a log, sweeps only."""
        installed = await look_for_triggers(intake)
        if not installed.has_log:
            return SweepOnlyCapture(intake, installed)
        return cls(intake, installed)

    async def was_worked_before(self) -> bool:
        """See `Capture`."""
        looking = partial(worked_before, name=self.parts.name)
        was_set, was_taken = await self.pool.ask("looking for an earlier daemon's work", looking)
        # The log does not show whose changes were taken: it counts for the first watch of a store only.
        return was_set or (was_taken and not await self.parts.store.report.counts())

    async def jobs(self, progressed: Callable[[], None]) -> Jobs:
        """See `Capture`."""
        name = self.parts.name
        if self._may_ring:
            proved = lambda usage: self.parts.observe(ListenerProved(name, usage))  # noqa: E731 - a bound argument
            await self.intake.sessions.lasting.listen(name, self._ring, proved)
        elif self.parts.watch.capture.wakeup == "notify":
            self.parts.observe(BellLeftAlone(name, self._poll_interval))
            if not self.parts.dry_run:
                # An earlier run, under other server settings, may have left it armed.
                await self.lookout.bells.disarm(self.bell)
        jobs = {**await super().jobs(progressed), "change log": self.run(progressed)}
        if not self.parts.dry_run:
            jobs["missed changes"] = self.watch_missed()
        return jobs

    async def catch_up(self, progressed: Callable[[], None] = nothing) -> None:
        """See `Capture`. Later changes, which may come as fast as they are read, are not waited for."""
        if not await self.step():
            return
        begun = await self.log.clock()
        while await self.log.has_older(begun):
            progressed()
            if not await self.step():
                return

    async def look_at_setup(self) -> None:
        """See `Capture`. What was in a log that is gone is found by the sweep at the new beginning."""
        if self.watched.state.log != self._log_seen:
            self.parts.observe(LogReplaced(self.parts.name))
            raise ChangedError
        await super().look_at_setup()

    async def run(self, progressed: Callable[[], None]) -> None:
        """Read the log for ever."""
        self._progressed = progressed
        try:
            while True:
                wait = await self.turn()
                progressed()
                if wait is None:
                    await self.rung.wait()
                else:
                    await asyncio.sleep(wait)
        finally:
            self.watched.looked = None
            self.intake.sessions.lasting.stop_listening(self.parts.name)
            if self.bell.wanted:
                with suppress(SourceError, TimeoutError):
                    async with asyncio.timeout(_DISARMS_WITHIN):
                        await self.lookout.bells.disarm(self.bell)

    async def turn(self) -> float | None:
        """Read a batch and update the bell; returns the seconds until the next turn, None until woken."""
        has_rested, self.watched.looked = self.watched.looked is not None, None
        if await self.step(keep_pace=True):
            return 0.0
        if (look := self._look) is not None:
            self._look = None
            self._pass_fence(look)
        if self._arms:
            if not self.bell.wanted and self._pace.rate >= CALM:
                return pause(self._searched)
            self.bell.wanted = True
        self.watched.looked = self._looked
        if not has_rested:  # after a rest the looks go on
            self.lookout.rest(self.watched, self._rest())
        return None

    def _ring(self) -> None:
        self._look = None
        self.rung.set()

    def _looked(self, look: Look) -> None:
        """Wake up if a look shows changes, which may not have rung."""
        if self.parts.name in look.watches:
            self._look, self._found_some = look, True
            self.rung.set()
            return
        self._pass_fence(look)
        self.intake.observe(CaughtUp(self.parts.name, look.took))
        self._progressed()
        self.watched.every = self._rest()

    def _pass_fence(self, look: Look) -> None:
        """Become idle once the transactions that may not have seen the bell are over, and read."""
        if self.bell.fence is not None and look.oldest > self.bell.fence:
            self.bell.fence = None

    def _rest(self) -> float:
        """Seconds until the next look at the log if the bell does not ring."""
        if self._may_ring and (not self._arms or self._clock() >= self._unrung_until) and not self.bell.refused:
            return self._drain_interval
        return min(self._poll_interval, self._drain_interval) if self._may_ring else self._poll_interval

    async def step(self, *, keep_pace: bool = False) -> bool:
        """Apply a batch of changes; returns whether there may be more.

        Only `turn` may `keep_pace`: others would disarm the bell while `run` sleeps or arms it.
        """
        async with self._lock:
            self._begun = time.monotonic() if self._begun is None else self._begun
            async with self.intake.lock:
                is_rung, look = self.rung.is_set(), self._look
                self.rung.clear()
                changes = await self.log.read(self.parts.steps.drained, apart=not (self._found_some or is_rung))
                self._found_some = changes.number > 0
                self._searched = changes.searched
                self._was_full = self._was_full or changes.size >= self._max_backlog
                if keep_pace:
                    now = self._clock()
                    if changes.number and look is not None and self.bell.is_heard:
                        self._unrung_until = now + _UNRUNG_FOR
                        self.lookout.rest(self.watched, self._rest())
                    self._pace = count(self._pace, now, changes.number)
                    if self.bell.wanted and self._pace.rate >= BUSY:
                        # Before they are applied: each costs the ATS a NOTIFY.
                        await self.lookout.bells.disarm(self.bell)
                await self.intake.changes(changes)
            # Deleted before the sweep, which a restart would run anyway.
            if changes.everything:
                await self.intake.request_sweeps(1)
            await self.log.delete(changes)
            if changes.everything:
                self.parts.want_sweep()
            if changes.full and self.log.consumes:
                return True
            if self.log.consumes and changes.size >= self._max_backlog // 16:
                await self._give_back(changes.size)
            self.intake.observe(CaughtUp(self.parts.name, time.monotonic() - self._begun))
            self._begun = None
            return False

    async def watch_missed(self) -> None:
        """Request a sweep whenever the triggers dropped changes, as soon as it can see all of them; for ever.

        A restart, which begins with a full sweep, reports only later ones.
        """
        name = self.parts.name
        answered = int((await self.parts.store.capture.positions(name)).get(MISSED, "0"))
        self.bell.begins = True
        while True:
            number = self.bell.missed
            if number is None or number == answered:
                await self.bell.counted.wait()
                self.bell.counted.clear()
                continue
            was_full, self._was_full = self._was_full, False
            # Else the sequence was set back, or recreated.
            dropped = number - answered if number > answered else number
            if dropped:
                self.parts.observe(ChangesMissed(name, dropped, await self._why_missed(was_full=was_full)))
            await all_ended(self.pool)
            self.parts.want_sweep()
            await self.intake.place({MISSED: str(number)})
            answered = number

    async def _why_missed(self, *, was_full: bool) -> str:
        filled_by = await log_filled_by(self.pool, self._max_backlog)
        bound = f"full (max_backlog is {self._max_backlog:,} bytes)"
        if filled_by:
            numbers = ", ".join(f"{number:,} of the watch {watch}" for watch, number in filled_by.items())
            return f"the change log is {bound}; in it are {numbers}"
        if filled_by is not None or was_full:
            return f"the change log was {bound}; its changes were taken since, and its space is given back"
        return (
            "writing to the change log failed (the server's log has the triggers' WARNINGs), or nobody had taken "
            "this watch's changes for a day while another's were taken"
        )

    async def _give_back(self, size: int) -> None:
        if time.monotonic() - self._gave_back_at >= self.parts.steps.give_back_every:
            self._gave_back_at = time.monotonic()
            await self.log.give_back(nearly_full=size >= self._max_backlog // 2)

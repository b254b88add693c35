"""Capture by notify: read the change log when the bell rings, or when a look shows changes.

The lookout (`ats.lookout`) looks at the log for all watches, and sees to the bell that they share. So a change that
did not ring waits for the next look. Some writers never ring (`docs/for-dbas.md`).
"""

import asyncio
import math
import time

from cdc_sync.ats.capture import Capture, Jobs, SweepOnlyCapture, look_for_triggers
from cdc_sync.ats.changelog import ChangeLog, all_ended
from cdc_sync.ats.intake import Intake
from cdc_sync.ats.lookout import Ears
from cdc_sync.ats.triggers import Installation, log_filled_by, worked_before
from cdc_sync.core.events import BellLeftAlone, CaughtUp, ChangesMissed, NotifyQueueSeen

MISSED = "missed"
"""The position with the number of dropped changes that a sweep was requested for."""


class NotifyCapture(SweepOnlyCapture):
    """Consumes one watch's part of the change log; `rung` is set while that may have unread changes."""

    def __init__(self, intake: Intake, installed: Installation) -> None:
        super().__init__(intake, installed)
        parts, server = intake.parts, self.server
        configured = parts.watch.capture
        self._max_backlog = configured.max_backlog
        harms = server.prepares_transactions or server.waits_for_standbys
        self._may_ring = configured.wakeup == "notify" and not harms
        self._arms = self._may_ring and not parts.dry_run
        every = configured.drain_interval if self._may_ring else configured.poll_interval
        self._look_every = every.total_seconds()
        self.log = ChangeLog(intake.sessions.pool, parts.name, consume=not parts.dry_run)
        self.rung = asyncio.Event()
        # A sweep's read and a ring's read would wait for each other's row locks.
        self._lock = asyncio.Lock()
        self._begun: float | None = None
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
        # Neither the bell nor the log shows for whom it was: it counts for the first watch of a store only.
        worked = await self.pool.ask("looking for an earlier daemon's work", worked_before)
        return worked and not await self.parts.store.report.counts()

    async def jobs(self) -> Jobs:
        """See `Capture`."""
        name = self.parts.name
        if self._may_ring:
            await self.intake.sessions.lasting.listen(name, self.rung.set, self._proved)
        elif self.parts.watch.capture.wakeup == "notify":
            self.parts.observe(BellLeftAlone(name, self._look_every))
        jobs = {**await super().jobs(), "change log": self.run}
        if not self.parts.dry_run:
            await self.lookout.bell.silence()
            jobs["missed changes"] = self.watch_missed
        return jobs

    async def catch_up(self) -> None:
        """See `Capture`. Later changes, which may come as fast as they are read, are not waited for."""
        if not await self.step():
            return
        begun = await self.log.clock()
        while await self.log.has_older(begun):
            if not await self.step():
                return

    async def run(self) -> None:
        """Read the log for ever."""
        self.rung.set()
        self.lookout.listen(self.watched, Ears(self._look_every, self._arms, self.rung.set, self._looked))
        try:
            while True:
                await self.rung.wait()
                while await self.step():
                    pass
        finally:
            self.watched.ears = None
            self.intake.sessions.lasting.stop_listening(self.parts.name)

    def _proved(self, queue_usage: float) -> None:
        self.parts.observe(NotifyQueueSeen(self.parts.name, queue_usage))

    def _looked(self, seconds: float) -> None:
        """A look has shown no changes."""
        self.intake.observe(CaughtUp(self.parts.name, seconds))

    async def step(self) -> bool:
        """Apply a batch of changes; returns whether there may be more."""
        async with self._lock:
            self._begun = time.monotonic() if self._begun is None else self._begun
            self.rung.clear()
            changes = await self.log.read(self.parts.steps.drained)
            self._was_full = self._was_full or changes.size >= self._max_backlog
            if self._arms:
                # Before they are applied: each of the next ones costs the ATS a NOTIFY.
                await self.lookout.bell.count(changes.number)
            if changes.times:
                await self.intake.keys(changes.times, "notify")
            # Deleted before the sweep, which a restart would run anyway.
            if changes.everything:
                await self.intake.request_sweeps(1)
            await self.log.delete(changes)
            if changes.everything:
                self.parts.want_sweep()
            if self.log.consumes and changes.full:
                return True
            if self.log.consumes and changes.number and not self.lookout.bell.is_armed:
                self.rung.set()  # the next change, which may be there already, does not ring
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
        while True:
            number = self.watched.missed
            if number is None or number == answered:
                await self.watched.counted.wait()
                self.watched.counted.clear()
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
        return "writing to the change log failed (the server's log has the triggers' WARNINGs)"

    async def _give_back(self, size: int) -> None:
        if time.monotonic() - self._gave_back_at >= self.parts.steps.give_back_every:
            self._gave_back_at = time.monotonic()
            await self.log.give_back(nearly_full=size >= self._max_backlog // 2)

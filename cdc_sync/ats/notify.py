"""Capture by notify: read the change log that the triggers write when the bell rings, or when a look shows changes.

The lookout (`ats.lookout`) looks at the log for all watches, and sees to the bell that they share. So a change that
did not ring waits for the next look. Some writers never ring (`docs/for-dbas.md`).

One statement reads a batch of changes. Another deletes the batch once its rows are read and the result is stored; if
anything fails before, the same changes come again. In between no transaction, lock or connection is held. The role
needs SELECT and DELETE, and TRUNCATE to give the file's space back.

Rows are deleted by their place (ctid), so the log needs no index. After another daemon's DELETE and a VACUUM another
row may be there. So one of the batch's transactions, which had ended at the read, must have written it (xmin). VACUUM
FULL moves their other rows into another file, which is compared too.
"""

import asyncio
import json
import math
from functools import partial
from time import monotonic
from typing import NamedTuple, Self

from psycopg import errors
from psycopg.sql import SQL

from cdc_sync.config import Capture as Configured
from cdc_sync.core import events
from cdc_sync.core.reasons import joined
from cdc_sync.core.rows import Key

from .connection import Connection, Pool, rows_of, with_position
from .errors import reason, source_error
from .expressions import composed, literal, sections
from .intake import Capture, ChangedError, Intake, Jobs
from .lookout import Ears
from .triggers import Installation, installation, untriggered

MISSED = "missed"
"""The position with the number of dropped changes that a sweep was requested for."""

_SQL = sections("changelog.sql")

_DOING = "reading the change log cdc_sync.changes"

_ENDED_EVERY = 0.5
"""Seconds between checks whether transactions have ended."""


class Changes(NamedTuple):
    """A batch of changes.

    Attributes:
        times: each key's last change, in milliseconds since the epoch.
        everything: whether one requires a sweep (TRUNCATE, a changed lookup table).
        size: bytes of the whole log, dead rows included.
        places: the places, the writing transactions, and the log's file, as SQL.
    """

    number: int
    times: dict[Key, int]
    everything: bool
    size: int
    places: tuple[str, str, str]


class ChangeLog:
    """One watch's part of the change log, only read unless `consume`."""

    def __init__(self, pool: Pool, watch: str, *, consume: bool = True) -> None:
        self._pool = pool
        self._watch = watch
        self.consumes = consume
        # A batch of which nothing was deleted, without an error.
        self._kept: tuple[str, ...] = ()
        # As text: composing a statement takes longer than running it.
        self._batch = with_position(composed(_SQL["batch"], watch=literal(watch)), 1)

    async def read(self, limit: int) -> Changes:
        """Read up to `limit` changes."""
        batch = partial(rows_of, query=self._batch, parameters=(limit,), prepare=True)
        ((text,),) = await self._pool.read(_DOING, batch)
        listed, size, *places = json.loads(text)
        listed = listed or []
        times: dict[Key, int] = {}
        for key, at in listed:
            # A related table's key with NULL belongs to no application.
            if key and None not in key:
                times[tuple(key)] = max(at, times.get(tuple(key), at))
        return Changes(len(listed), times, not all(key for key, _ in listed), size, tuple(places))

    async def delete(self, changes: Changes) -> None:
        """Delete the batch; raises `SourceError` also if it stays twice. Once, another daemon may have taken it."""
        if not changes.number or not self.consumes:
            return
        places, writers, file = changes.places
        query = SQL(_SQL["delete"]).format(places=places, writers=writers, watch=self._watch, file=file)
        ((deleted,),) = await self._pool.fetch(_DOING, query)
        if not deleted and self._kept == changes.places:
            raise source_error("log-kept")
        self._kept = () if deleted else changes.places

    async def give_back(self, *, nearly_full: bool) -> None:
        """Truncate the log's file if it is empty and unused."""
        query = composed(_SQL["may_give_back"], nearly_full=nearly_full)

        async def shorten(connection: Connection) -> None:
            try:
                if (True,) not in await rows_of(connection, query):
                    return
            except errors.LockNotAvailable:
                return  # being rewritten
            await connection.execute(_SQL["give_back_within"])
            try:
                await connection.execute(_SQL["give_back"])
            except errors.QueryCanceled:
                await connection.execute("ROLLBACK")

        await self._pool.ask(_DOING, shorten)


async def all_ended(pool: Pool) -> None:
    """Wait until every present writer has ended, however long that takes; not on a standby, which assigns no ids.

    Once a snapshot's xmin has passed a new transaction id, what they wrote is visible or gone. A snapshot's xmax may be
    too low (decision 3).
    """
    ((taken,),) = await pool.fetch("taking a transaction id", "SELECT txid_current()")
    snapshot_xmin = "SELECT txid_snapshot_xmin(txid_current_snapshot())"
    while True:
        ((oldest,),) = await pool.fetch("reading the server's snapshot", snapshot_xmin)
        if oldest > taken:
            return
        await asyncio.sleep(_ENDED_EVERY)


class NotifyCapture(Capture):
    """Consumes one watch's part of the change log; without a log it leaves all changes to sweeps.

    `rung` is set while the log may have unread changes.
    """

    def __init__(self, intake: Intake, installed: Installation) -> None:
        super().__init__(intake)
        parts, server = intake.parts, self.server
        configured = parts.watch.capture
        self.installed = installed
        self._max_backlog = configured.max_backlog
        harms = server.prepares_transactions or server.waits_for_standbys
        self._may_ring = configured.wakeup == "notify" and not harms
        self._arms = self._may_ring and not parts.dry_run
        every = configured.drain_interval if self._may_ring else configured.poll_interval
        self._look_every = every.total_seconds()
        self.log = ChangeLog(self.pool, self.name, consume=not parts.dry_run)
        self.rung = asyncio.Event()
        # A sweep's read and a ring's read would wait for each other's row locks.
        self._lock = asyncio.Lock()
        self._gave_back_at = -math.inf

    @classmethod
    async def open(cls, intake: Intake) -> Self:
        """See `Capture`."""
        capture = cls(intake, await look_for_triggers(intake))
        capture._report_problems()
        return capture

    @staticmethod
    def longest_silence(configured: Configured) -> float:
        """See `Capture`."""
        return 2 * max(configured.drain_interval, configured.poll_interval).total_seconds()

    async def was_worked_before(self) -> bool:
        """See `Capture`."""
        # Neither the bell nor the log shows for whom it was: it counts for the first watch of a store only.
        if not self.installed.has_log or await self.parts.store.driver.value("captured_any"):
            return False
        ((worked,),) = await self.pool.fetch("looking for an earlier daemon's work", _SQL["worked_before"])
        return bool(worked)

    async def jobs(self) -> Jobs:
        """See `Capture`."""
        jobs = await super().jobs()
        if not self.installed.has_log:
            return jobs
        if self._may_ring:
            await self.intake.sessions.lasting.listen(
                self.name, self.rung.set, lambda usage: self.observe(events.NotifyQueueSeen(self.name, usage))
            )
        elif self.parts.watch.capture.wakeup == "notify":
            self.observe(events.BellLeftAlone(self.name, self._look_every))
        if not self.parts.dry_run:
            await self.lookout.bell.silence()
            jobs["missed changes"] = self.watch_missed
        return {**jobs, "change log": self.run}

    def _report_problems(self) -> None:
        if not self.installed.problems:
            self.observe(events.TriggersFound(self.name))
            return
        problem: str = joined(self.installed.problems)
        remedy: str = reason("install")
        never = untriggered(self.intake.reader.mapping.facts.kind, self.server.version)
        if never is not None:
            problem, remedy = f"{self.parts.watch.table} {never.reason}", never.remedy
        message = reason("triggers", reason=problem, reason_remedy=remedy)
        self.observe(events.TriggersMissing(self.name, message))

    async def look_at_setup(self) -> None:
        """See `Capture`; server settings decide whether the bell may be armed."""
        if self.lookout.server != self.server or await look_for_triggers(self.intake) != self.installed:
            raise ChangedError

    async def catch_up(self) -> None:
        """See `Capture`. It ends with a batch that is not full, or, in a dry run, with the first."""
        if not self.installed.has_log:
            return
        async with self._lock:
            begun = monotonic()
            while await self.step():
                pass
            self.observe(events.CaughtUp(self.name, monotonic() - begun))

    async def run(self) -> None:
        """Read the log for ever."""
        self.rung.set()
        ears = Ears(
            self._look_every, self._arms, self.rung.set, lambda took: self.observe(events.CaughtUp(self.name, took))
        )
        self.lookout.listen(self.watched, ears)
        try:
            while True:
                await self.rung.wait()
                await self.catch_up()
        finally:
            self.watched.ears = None
            self.intake.sessions.lasting.stop_listening(self.name)

    async def step(self) -> bool:
        """Apply a batch of changes; returns whether to read another: a dry run would read the same one again."""
        self.rung.clear()
        changes = await self.log.read(self.parts.steps.drained)
        if self._arms:
            # Before they are applied: each of the next ones costs the ATS a NOTIFY.
            await self.lookout.bell.count(changes.number)
        if changes.times:
            await self.intake.keys(changes.times, "notify")
        await self.log.delete(changes)
        if changes.everything:
            self.intake.request_sweep()
        if not self.log.consumes:
            return False
        if changes.number == self.parts.steps.drained:
            return True
        if changes.number and not self.lookout.bell.is_armed:
            self.rung.set()  # the next change, which may be there already, does not ring
        is_due = monotonic() - self._gave_back_at >= self.parts.steps.give_back_every
        if is_due and changes.size >= self._max_backlog // 16:
            self._gave_back_at = monotonic()
            await self.log.give_back(nearly_full=changes.size >= self._max_backlog // 2)
        return False

    async def watch_missed(self) -> None:
        """Request a sweep whenever the triggers dropped changes, as soon as it can see all of them; for ever.

        A restart, which begins with a full sweep, reports only later ones.
        """
        why = (
            f"the change log was full (max_backlog is {self._max_backlog:,} bytes), or writing to it failed (the "
            "server's log has the triggers' WARNINGs)"
        )
        answered = int((await self.parts.store.capture.positions(self.name)).get(MISSED, "0"))
        while True:
            number = self.watched.missed
            if number is None or number == answered:
                await self.watched.counted.wait()
                self.watched.counted.clear()
                continue
            # Else the sequence was set back, or recreated.
            dropped = number - answered if number > answered else number
            if dropped:
                self.observe(events.ChangesMissed(self.name, dropped, why))
            await all_ended(self.pool)
            self.parts.want_sweep()
            await self.intake.place({MISSED: str(number)})
            answered = number


async def look_for_triggers(intake: Intake) -> Installation:
    """Look up the watch's triggers."""
    looking = partial(installation, name=intake.name, watch=intake.parts.watch)
    return await intake.sessions.pool.ask("looking for the triggers", looking)

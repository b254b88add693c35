"""The sweep: the whole table against the whole snapshot, in constant memory and short transactions.

It goes through the table in key order and only collects keys that look different. Before they are looked at, the fast
path catches up; what still differs then was really missed, and is counted by cause. Rows that are gone are found from
the other side: every record met is marked in a bitmap (one bit for each record number), and what is alive in the
snapshot but unmarked is suspected.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable

from cdc_sync.core.diff import Queue
from cdc_sync.core.observations import SweepDone
from cdc_sync.core.outbox import Known
from cdc_sync.core.rows import Foreign, Key, OutOfScope, Reading, Reportable, Unreportable, interpret
from cdc_sync.pipeline.intake import Intake, is_news
from cdc_sync.pipeline.marks import Marks

PAGE = 2_000
_WINDOW = 20_000
"""Record numbers looked at in one go when searching for what was not met."""


async def sweep(intake: Intake, catch_up: Callable[[], Awaitable[None]], progressed: Callable[[], None]) -> SweepDone:
    """Compare everything once; returns what it did.

    Raises:
        SourceError: a page cannot be read.
        StoreError: the store cannot be read or written.
    """
    return await _Sweep(intake, catch_up, progressed).run()


class _Sweep:
    def __init__(self, intake: Intake, catch_up: Callable[[], Awaitable[None]], progressed: Callable[[], None]) -> None:
        self._intake = intake
        self._catch_up = catch_up
        self._progressed = progressed
        self._marks = Marks(0)
        self._repaired: Counter[str] = Counter()
        self._skipped: set[Key] = set()

    async def run(self) -> SweepDone:
        started, rows, at = time.monotonic(), 0, self._intake.clock()
        store, watch = self._intake.store, self._intake.rules.watch
        skipped_before = set(self._intake.skipped)
        # Records made from now on were made by somebody who saw their row.
        last = await store.highest_number()
        self._marks = Marks(last)
        after: Key | None = None
        while True:
            page = await self._intake.reader.page(after, PAGE)
            if page.rows:
                rows, at = rows + len(page.rows), page.at
                await self._compare([interpret(row, self._intake.rules, at) for row in page.rows], at)
            self._progressed()
            if page.last is None:
                break
            after = page.last
        await self._find_gone(last, at)
        stale = (skipped_before & self._intake.skipped.keys()) - self._skipped
        if stale:
            await self._intake.unskip(stale)
        if self._repaired:
            await store.add_repairs(watch, self._repaired)
        done = SweepDone(watch, rows, time.monotonic() - started, dict(self._repaired))
        self._intake.observe(done)
        return done

    async def _compare(self, readings: list[Reading], at: int) -> None:
        """Mark what is known, and look again at what seems different once the fast path has caught up."""
        ids = [
            reading.application_id
            for reading in readings
            if not isinstance(reading, Foreign) and reading.application_id is not None
        ]
        known = await self._intake.store.known(self._intake.rules.watch, ids)
        self._marks.add(known.values())
        different = {reading.key: at for reading in readings if self._differs(reading, known)}
        self._skipped.update(reading.key for reading in readings if isinstance(reading, Unreportable))
        if not different:
            return
        await self._catch_up()
        deleted = [
            reading.application_id
            for reading in readings
            if isinstance(reading, Reportable) and reading.content.deleted and reading.key in different
        ]
        before = await self._suspected(deleted)
        for recorded in await self._intake.keys(different, "sweep"):
            if isinstance(recorded.decision, Queue):
                self._repaired.update(recorded.decision.kinds)
            else:
                self._repaired["undone"] += 1
        # They wait for their grace, so nothing was queued yet that could be counted.
        missed = await self._suspected(deleted) - before
        if missed:
            self._repaired["deleted"] += len(missed)

    async def _suspected(self, application_ids: list[str]) -> set[str]:
        if not application_ids:
            return set()
        return await self._intake.store.suspected(self._intake.rules.watch, application_ids)

    def _differs(self, reading: Reading, known: dict[str, Known]) -> bool:
        match reading:
            case Foreign(key):
                return key in self._intake.skipped
            case Unreportable(_, key, reason):
                return self._intake.skipped.get(key) != reason
            case OutOfScope(application_id, key):
                before = known.get(application_id)
                return key in self._intake.skipped or (before is not None and before.in_scope)
            case Reportable(application_id, key):
                before = known.get(application_id)
                return key in self._intake.skipped or is_news(reading, before, self._intake.rules.first_status)

    async def _find_gone(self, last: int, at: int) -> None:
        """Suspect what is alive in the snapshot and was not met."""
        watch, marks = self._intake.rules.watch, self._marks.bitmap()
        for first in range(1, last + 1, _WINDOW):
            gone = await self._intake.store.unseen(watch, marks, first, min(first + _WINDOW - 1, last))
            self._progressed()
            if not gone:
                continue
            await self._catch_up()
            suspected = await self._intake.suspect(gone, at, "sweep")
            if suspected:
                self._repaired["gone"] += suspected

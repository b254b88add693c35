"""The sweep: full reconciliation of the table with the snapshot, in constant memory and short transactions.

It walks the table in key order. When the capture has caught up, a row that still differs as the page had it is read
again and applied. It was missed if the capture does not name it by then: then it is counted by cause, unless a sweep
was requested for it (`Intake.requests`). A bitmap marks each record that was met; an unmarked live record's row is read
by its key, and applied: it is gone, out of scope, or has another key.

**Digests** ([decision 15](../../docs/decisions/0015-sweeps-by-digests.md)). Rows with the digest of the record's last
verification are not read, except those with a pending entry, and all rows of a page on which an expression fails.

An interrupted sweep starts again.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cdc_sync.ats.capture import Capture
from cdc_sync.ats.mapping import keys_of
from cdc_sync.ats.reading import Digests, Page, Read
from cdc_sync.core.batch import Batch, different
from cdc_sync.core.diff import Decision, Enqueue
from cdc_sync.core.events import ASKED_FOR, SweepDone
from cdc_sync.core.outbox import Known, Verified, completed
from cdc_sync.core.rows import Ignored, Key, Observation, Reportable


def mark(marks: bytearray, met: Iterable[int]) -> None:
    """Mark records by number: bit n & 7 of byte n >> 3. Numbers below 1 are ignored, and those of later records."""
    size = len(marks)
    for number in met:
        place = number >> 3
        if number > 0 and place < size:
            marks[place] |= 1 << (number & 7)


class Sweep:
    """One sweep.

    Attributes:
        catch_up: its capture's.
        worked: seconds until the last step, without a wait for a lost connection's end.
    """

    def __init__(self, capture: Capture) -> None:
        self._intake, self._watch, self._steps = capture.intake, capture.parts.name, capture.parts.steps
        self._sees_deletions = capture.sees_deletions
        self.catch_up = capture.catch_up
        self._shape = capture.intake.shape_of_digests
        self._rows = 0
        # The database's clock at the last page.
        self._at = 0
        self._marks = bytearray()
        self._repaired: Counter[str] = Counter()
        self._began = time.monotonic()
        self.worked = 0.0

    async def run(self) -> SweepDone:
        """Compare everything once; may raise `SourceError` and `StoreError`."""
        intake = self._intake
        requests = intake.requests
        # Records made later come from a row that was read.
        last = await intake.store.capture.highest_number()
        self._marks = bytearray((last >> 3) + 1)
        self._at = intake.store.driver.clock.for_people()
        after = await self._compare_page(None)
        while after is not None:
            after = await self._compare_page(after)
        await self._find_gone(last)
        skipped = list(intake.skipped)
        for first in range(0, len(skipped), self._steps.read):
            await intake.keys(dict.fromkeys(skipped[first : first + self._steps.read], self._at), "sweep")
        intake.requests -= requests
        await intake.compared()
        self._note_progress()
        done = SweepDone(self._watch, self._rows, self.worked, dict(self._repaired))
        intake.observe(done)
        return done

    def _note_progress(self) -> None:
        self.worked = time.monotonic() - self._began

    async def _compare_page(self, after: Key | None) -> Key | None:
        """Compare the next page; returns where the one after it begins."""
        reader = self._intake.reader
        page: Digests | Page | None = await reader.digests(after, self._steps.compared, self._shape)
        if isinstance(page, Digests) and await self._pass_over(page):
            number = page.rows
        else:
            page = await reader.page(after, self._steps.read, self._shape)
            await self._compare(page)
            number = len(page.rows)
        if number:  # an empty page has no clock
            self._rows, self._at = self._rows + number, page.at
        self._note_progress()
        return page.last

    async def _pass_over(self, page: Digests) -> bool:
        """Read the rows of a page that differ; False if one of them has no key."""
        numbers = await self._intake.store.capture.compare(self._watch, page.text)
        keys = keys_of(page.text, [place for place, number in enumerate(numbers) if number < 0])
        if keys is None:
            return False
        for first in range(0, len(keys), self._steps.read):
            part = keys[first : first + self._steps.read]
            async for read, _ in self._intake.reader.parts_by_key(part, shape=self._shape):
                await self._compare(read)
        mark(self._marks, numbers)
        return True

    async def _compare(self, read: Read) -> None:
        """Mark known records, and repair the rows that differ."""
        rows = self._intake.interpreted(read)
        known = await self._known(rows)
        rows = [completed(row, known.get(row.application_id or "")) for row in rows]
        mark(self._marks, (each.number for each in known.values()))
        different = self._different(rows, known)
        if different:
            await self._repair([row for row in rows if row.key in different])
        verified = [found for row in rows if row.key not in different and (found := _verified(row, known)) is not None]
        if verified:
            await self._intake.store.capture.verify(self._watch, verified)

    def _different(self, rows: Sequence[Observation], known: Mapping[str, Known]) -> set[Key]:
        intake = self._intake
        batch = Batch("sweep", intake.clock(), intake.rules.first_status, rows, skipped=intake.skipped)
        return different(intake.rules, batch, known)

    async def _known(self, rows: Iterable[Observation]) -> dict[str, Known]:
        ids = [row.application_id for row in rows if row.application_id is not None]
        return await self._intake.store.capture.known(self._watch, ids) if ids else {}

    async def _repair(self, rows: Sequence[Observation]) -> None:
        """Let the capture catch up; read again and apply the rows that still differ."""
        self._intake.unnamed = {row.application_id for row in rows if row.application_id is not None}
        await self.catch_up()
        different = self._different(rows, await self._known(rows))
        rows = [row for row in rows if row.key in different]
        deleted = {row.application_id for row in rows if isinstance(row, Reportable) and row.content.deleted}
        await self._apply({row.key: row.changed_at for row in rows}, "deleted", deleted)

    async def _apply(self, times: Mapping[Key, int], end: str, ended: set[str]) -> None:
        """Read and apply rows, and count what the capture missed, by its cause: `end` of suspected ones of `ended`.

        An interruption before this counts loses the count, and no repair.
        """
        intake, repaired = self._intake, Counter[str]()
        parts = await intake.keys(times, "sweep")
        if any(applied.written for applied in parts):
            await self.catch_up()  # the capture names by now what it has not missed
        for applied in parts:
            found = [result.decision for result in applied.results if result.application_id in intake.unnamed]
            repaired.update(cause for decision in found for cause in _causes(decision))
            # No result counts them before their grace.
            repaired[end] += len(applied.suspected & intake.unnamed & ended)
        if total := repaired.total():
            counted = {ASKED_FOR: total} if intake.requests else dict(+repaired)
            self._repaired.update(counted)
            await intake.store.operation.add_repairs(self._watch, counted)

    async def _find_gone(self, last: int) -> None:
        """Look for the rows of unmet live records."""
        store, steps = self._intake.store.capture, self._steps
        async for unmet in store.unmet(self._watch, bytes(self._marks), last, steps.searched):
            # In smaller parts, as what is known of each is as large as its row.
            for first in range(0, len(unmet), steps.confirmed):
                await self._look_for(unmet[first : first + steps.confirmed])
                self._note_progress()

    async def _look_for(self, unmet: list[str]) -> None:
        """Let the capture catch up; apply what stands under the keys of unmet applications, if anything."""
        store, self._intake.unnamed = self._intake.store.capture, set(unmet)
        await self.catch_up()
        suspected = await store.suspected(self._watch, unmet)
        known = await store.known(self._watch, unmet)
        keys = [each.key for id_, each in known.items() if id_ not in suspected]
        await self._apply(dict.fromkeys(keys, self._at), "gone", set(unmet if self._sees_deletions else ()))


def _verified(row: Observation, known: Mapping[str, Known]) -> Verified | None:
    """What to keep of a row that does not differ; None if it is unknown, or its entry is pending."""
    match row:
        case Reportable(application_id, key, content, _, str(digest)) if application_id in known:
            return None if known[application_id].entry else Verified(application_id, key, digest, content)
        case Ignored(application_id, key, str(digest)) if application_id in known:
            return Verified(application_id, key, digest, None)
    return None


def _causes(decision: Decision) -> Iterable[str]:
    match decision:
        case Enqueue(kinds):
            return kinds
        case "adopt":
            return ("first",)
        case _:
            return ("undone",)

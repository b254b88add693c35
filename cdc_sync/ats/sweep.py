"""The sweep: full reconciliation of the table with the snapshot, in constant memory and short transactions.

It walks the table in key order. A row that differs is read again and applied once the capture has caught up. It was
missed if the capture does not name it by then: then it is counted by cause, unless a sweep was requested for it
(`Intake.requests`). A bitmap marks each record that was met; an unmarked live record is a suspected deletion.

**Digests** ([decision 15](../../docs/decisions/0015-sweeps-by-digests.md)). Rows with the digest of the record's last
verification are not read, except those with a pending entry, and all rows of a page on which an expression fails.

An interrupted sweep starts again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from time import monotonic

from cdc_sync.core.batch import Batch, Resolved
from cdc_sync.core.diff import Decision, Enqueue
from cdc_sync.core.events import ASKED_FOR, SweepDone
from cdc_sync.core.outbox import Known, Verified, completed
from cdc_sync.core.plan import different
from cdc_sync.core.rows import Ignored, Key, Observation, Reportable, Unreportable, interpret

from .intake import MOST_CAPTURED, Capture
from .mapping import keys_of
from .reading import Digests, Read


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
        self._intake, self._watch, self._steps = capture.intake, capture.name, capture.parts.steps
        self._store = capture.parts.store.capture
        self._sees_deletions = capture.sees_deletions
        self.catch_up = capture.catch_up
        self._shape = capture.intake.shape_of_digests
        self._rows = 0
        # The database's clock at the last page.
        self._at = 0
        self._marks = bytearray()
        self._repaired: Counter[str] = Counter()
        self._skipped: set[Key] = set()
        # See `Intake.captured_meanwhile`.
        self._captured: set[Key | str] = set()
        self._began = monotonic()
        self.worked = 0.0

    async def run(self) -> SweepDone:
        """Compare everything once; may raise `SourceError` and `StoreError`."""
        intake = self._intake
        skipped_before, requests = set(intake.skipped), intake.requests
        try:
            # Records made later come from a row that was read.
            last = await self._store.highest_number()
            self._marks = bytearray((last >> 3) + 1)
            self._at = intake.store.driver.clock.for_people()
            after = await self._compare_page(None)
            while after is not None:
                after = await self._compare_page(after)
            await self._find_gone(last)
            stale = (skipped_before & intake.skipped.keys()) - self._skipped
            if stale:
                async with intake.lock:
                    await intake.apply(intake.batch("sweep")._replace(gone=dict.fromkeys(stale, self._at)))
            intake.requests -= requests
            await intake.compared()
        finally:
            intake.captured_meanwhile = None
        self._note_progress()
        done = SweepDone(self._watch, self._rows, self.worked, dict(self._repaired))
        intake.observe(done)
        return done

    def _note_progress(self) -> None:
        self.worked = monotonic() - self._began

    def _begin_page(self) -> None:
        self._captured = self._intake.captured_meanwhile = set()

    async def _compare_page(self, after: Key | None) -> Key | None:
        """Compare the next page; returns where the one after it begins."""
        self._begin_page()
        reader = self._intake.reader
        page: Digests | Read | None = await reader.digests(after, self._steps.compared, self._shape)
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
        numbers = await self._store.compare(self._watch, page.text)
        keys = keys_of(page.text, [place for place, number in enumerate(numbers) if number < 0])
        if keys is None:
            return False
        for first in range(0, len(keys), self._steps.read):
            part = keys[first : first + self._steps.read]
            async for read, _ in self._intake.reader.parts_by_key(part, shape=self._shape):
                await self._compare(read)
        mark(self._marks, numbers)
        return True

    async def _count(self, repaired: Mapping[str, int]) -> None:
        """Count repairs; an interruption before this loses the count, and no repair."""
        if repaired:
            if self._intake.requests:
                repaired = {ASKED_FOR: sum(repaired.values())}
            self._repaired.update(repaired)
            await self._intake.store.operation.add_repairs(self._watch, repaired)

    async def _compare(self, read: Read) -> None:
        """Mark known records, and repair the rows that differ."""
        intake = self._intake
        rows = intake.interpreted(read)
        ids = [row.application_id for row in rows if row.application_id is not None]
        known = await self._store.known(self._watch, ids) if ids else {}
        rows = [completed(row, known.get(row.application_id or "")) for row in rows]
        mark(self._marks, (each.number for each in known.values()))
        batch = Batch("sweep", intake.clock(), intake.rules.first_status, rows, skipped=intake.skipped)
        differing = different(intake.rules, batch, known)
        self._skipped.update(row.key for row in rows if isinstance(row, Unreportable))
        if differing:
            await self._repair([row for row in rows if row.key in differing])
        verified = [found for row in rows if row.key not in differing and (found := _verified(row, known)) is not None]
        if verified:
            await self._store.verify(self._watch, verified)

    async def _repair(self, rows: list[Observation]) -> None:
        """Let the capture catch up; read the rows again and apply them, and count the missed ones."""
        repaired = Counter[str]()
        await self.catch_up()
        deleted = {row.application_id for row in rows if isinstance(row, Reportable) and row.content.deleted}
        parts = await self._intake.keys({row.key: row.changed_at for row in rows}, "sweep")
        if any(applied.written for applied in parts):
            await self.catch_up()  # the capture names by now what it has not missed
        missed = self._missed({row.application_id: row.key for row in rows if row.application_id is not None})
        for applied in parts:
            found = [result.decision for result in applied.results if result.application_id in missed]
            repaired.update(cause for decision in found for cause in _causes(decision))
            # No result counts them before their grace.
            repaired["deleted"] += len(applied.suspected & missed & deleted)
        await self._count(+repaired)

    def _missed(self, keys: Mapping[str, Key]) -> set[str]:
        """Those of these applications of which nothing else has been applied since the page began."""
        if len(self._captured) >= MOST_CAPTURED:
            return set()  # any of them may be
        return {id_ for id_, key in keys.items() if self._captured.isdisjoint((id_, key))}

    async def _absent(self, unmet: list[str]) -> dict[str, Key]:
        """The unmet applications without a row under their key, each with the key."""
        # A row whose key moved to the part done, or behind the end, was not met either: the capture has its new key.
        await self.catch_up()
        known = await self._store.known(self._watch, unmet)
        found = (await self._intake.reader.by_key({before.key for before in known.values()})).rows
        there = {interpret(row, self._intake.rules, 0).application_id for row in found}
        unreadable = {row.key for row in found if row.unreadable is not None}
        return {id_: of.key for id_, of in known.items() if id_ not in there and of.key not in unreadable}

    async def _find_gone(self, last: int) -> None:
        """Suspect unmet live records."""
        at_once = self._steps.confirmed
        async for unmet in self._store.unmet(self._watch, bytes(self._marks), last, self._steps.searched):
            self._note_progress()
            # In smaller parts, as what is known of each is as large as its row.
            for first in range(0, len(unmet), at_once):
                await self._suspect(unmet[first : first + at_once])
                self._note_progress()

    async def _suspect(self, unmet: list[str]) -> None:
        self._begin_page()
        absent = await self._absent(unmet)
        gone = [Resolved(id_, self._at, None) for id_ in absent]
        async with self._intake.lock:
            applied = await self._intake.apply(self._intake.batch("sweep")._replace(resolved=gone))
        if applied.suspected:
            await self.catch_up()
        missed = applied.suspected & self._missed(absent) - self._intake.unreported
        if missed and self._sees_deletions:
            await self._count({"gone": len(missed)})


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

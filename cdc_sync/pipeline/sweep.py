"""The sweep: full reconciliation of the table with the snapshot, in constant memory and short transactions.

It walks the table in key order. Once the capture has caught up, a row that still differs as the page had it was missed:
it is read again, applied, and counted by cause, unless a sweep was requested for it (`Intake.requests`). A bitmap marks
each record that was met; an unmarked live record is a suspected deletion.

**Digests** ([decision 15](../../docs/decisions/0015-sweeps-by-digests.md)). Rows with the digest of the record's last
verification are not read, except those with a pending entry, and all rows of a page on which an expression fails. The
server computes the next page meanwhile; if that fails, this page is compared again.

**Interruptions.** The position is saved from time to time, after the differences before it are applied: a long sweep
outlives a lost connection. A resumed sweep misses later changes before its position, so another one follows. Decision
15 has what wrong marks do.
"""

import asyncio
import base64
import json
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from cdc_sync.core.diff import Adopt, Decision, Enqueue
from cdc_sync.core.events import ASKED_FOR, SweepDone
from cdc_sync.core.outbox import Known, Verified, with_last_job
from cdc_sync.core.rows import Ignored, Key, Observation, Reportable, Unreportable, interpret
from cdc_sync.pipeline.capture import Capture
from cdc_sync.source.mapping import keys_of
from cdc_sync.source.reading import Digests, Read

POSITION = "sweep"
FINISHED = ""
"""The position when no sweep is under way."""

_QUICKLY = 1
"""zlib's level: a bitmap is nearly all ones and zeros, or not compressible at any level."""

_NAMED = 100
"""Missed rows that are passed on, at most."""


@dataclass(slots=True)
class SweepPosition:
    """How far a sweep is.

    Attributes:
        shape: see `Intake.shape`.
        last: the highest record number when it began.
        after: the last key compared.
        walked: whether only the search for unmet records is left.
        rows: compared so far.
        at: the database's clock at the last page, in milliseconds since the epoch.
        seconds: of work so far.
        repaired: by cause.
        requests: sweeps requested before it began.
        marks: the met records (see `mark`).
    """

    shape: str
    last: int
    after: Key | None = None
    walked: bool = False
    rows: int = 0
    at: int = 0
    seconds: float = 0.0
    repaired: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    marks: bytearray = field(default_factory=bytearray)

    def to_text(self) -> str:
        """As the store keeps it; of 100 million records up to 17 MB, in half a second of processor time."""
        fields = asdict(self)
        fields["marks"] = base64.b64encode(zlib.compress(self.marks, _QUICKLY)).decode("ascii")
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | None, shape: str) -> "SweepPosition | None":
        """The inverse of `to_text`; None if it is invalid, or of another shape."""
        if not text:
            return None
        try:
            fields = json.loads(text)
            marks = bytearray(zlib.decompress(base64.b64decode(fields["marks"], validate=True)))
            after = fields["after"]
            position = cls(**fields | {"after": after if after is None else tuple(after), "marks": marks})
            fits = position.shape == shape and len(marks) == size_of(position.last)
        except (ValueError, TypeError, KeyError, zlib.error):
            return None
        return position if fits else None


def mark(marks: bytearray, met: Iterable[int]) -> None:
    """Mark records by number: bit n & 7 of byte n >> 3. Numbers below 1 are ignored, and those of later records."""
    size = len(marks)
    for number in met:
        place = number >> 3
        if number > 0 and place < size:
            marks[place] |= 1 << (number & 7)


def size_of(last: int) -> int:
    """Bytes of the marks for record numbers up to `last`."""
    return (last >> 3) + 1


async def _goes_on() -> float:
    """Nobody waits."""
    return 0.0


class Sweep:
    """One sweep, or the rest of an interrupted one.

    Args:
        catch_up: lets the capture catch up.
        progressed: called at each step.
        give_way: awaited between steps; returns the seconds that others swept.
    """

    def __init__(
        self,
        capture: Capture,
        catch_up: Callable[[], Awaitable[None]],
        progressed: Callable[[], None],
        give_way: Callable[[], Awaitable[float]] = _goes_on,
    ) -> None:
        self._intake, self._watch, self._steps = capture.intake, capture.parts.name, capture.parts.steps
        self._sees_deletions = capture.sees_deletions
        self._catch_up = catch_up
        self._progressed = progressed
        self._give_way = give_way
        self._digests = capture.intake.shape_of_digests
        self._ahead: tuple[Key, Digests | None] | None = None
        self._missed: list[Key] = []
        self._skipped: set[Key] = set()
        self._began = time.monotonic()
        self._save_at = self._began + self._steps.save_every

    async def run(self) -> SweepDone:
        """Compare everything once, or the rest; may raise `SourceError` and `StoreError`."""
        intake = self._intake
        skipped_before, shape = set(intake.skipped), intake.shape
        text = (await intake.store.capture.positions(self._watch)).get(POSITION)
        self._is_saved = bool(text)
        found = await asyncio.to_thread(SweepPosition.from_text, text, shape)
        if found is None:
            # Records made later come from a row that was read.
            last, now = await intake.store.capture.highest_number(), intake.store.driver.clock.for_people()
            marks = bytearray(size_of(last))
            self._position = SweepPosition(shape, last, at=now, requests=intake.requests, marks=marks)
        else:
            self._position = found
        position, is_resumed = self._position, found is not None
        while not position.walked:
            if not await self._pass_over():
                await self._read()
            await self._save()
            self._began += await self._give_way()
            self._progressed()
        await self._find_gone()
        stale = (skipped_before & intake.skipped.keys()) - self._skipped
        if stale and not is_resumed:  # an earlier part may have met them
            await intake.forget_skips(stale, position.at)
        if self._is_saved:
            await intake.place({POSITION: FINISHED})
        if position.requests:
            await intake.request_sweeps(-position.requests)
        if not is_resumed:
            await intake.compared()
        seconds = position.seconds + time.monotonic() - self._began
        missed = tuple(self._missed[:_NAMED])
        done = SweepDone(self._watch, position.rows, seconds, position.repaired, is_resumed, missed)
        intake.observe(done)
        return done

    async def _pass_over(self) -> bool:
        """Compare the next page by digests and read the rows that differ; False if these are most of it."""
        intake, compared, after = self._intake, self._steps.compared, self._position.after
        if self._ahead is not None and self._ahead[0] == after:
            page = self._ahead[1]
        else:
            page = await intake.reader.digests(after, compared, self._digests)
        self._ahead = None
        if page is None:
            return False
        comparing = intake.store.capture.compare(self._watch, page.text)
        if page.last is None:
            numbers = await comparing
        else:
            ahead = intake.reader.digests(page.last, compared, self._digests)
            numbers, following = await asyncio.gather(comparing, ahead)
            self._ahead = (page.last, following)
        others = [place for place, number in enumerate(numbers) if number < 0]
        if len(numbers) != page.rows or len(others) > compared // 2:
            return False
        keys = keys_of(page.text, others) if others else []
        if keys is None:
            return False
        for first in range(0, len(keys), self._steps.read):
            part = keys[first : first + self._steps.read]
            async for read, _ in intake.reader.parts_by_key(part, shape=self._digests):
                await self._compare(read)
        mark(self._position.marks, numbers)
        self._reach(page.rows, page.at, page.last)
        return True

    async def _read(self) -> None:
        """Compare the next page by reading it, in parts."""
        for left in range(self._steps.compared, 0, -self._steps.read):
            size, after = min(self._steps.read, left), self._position.after
            page = await self._intake.reader.page(after, size, self._digests)
            await self._compare(page)
            self._reach(len(page.rows), page.at, page.last)
            if page.last is None:
                return

    def _reach(self, rows: int, at: int, last: Key | None) -> None:
        """Move past a page; an empty one has no clock."""
        position = self._position
        position.at = at if rows else position.at
        position.rows += rows
        position.after, position.walked = last, last is None

    async def _save(self) -> None:
        """Save the position from time to time."""
        started = time.monotonic()
        if started < self._save_at:
            return
        self._position.seconds += started - self._began
        self._began = started
        await self._intake.place({POSITION: await asyncio.to_thread(self._position.to_text)})
        self._is_saved = True
        ended = time.monotonic()
        self._save_at = ended + max(self._steps.save_every, (ended - started) * (self._steps.save_share - 1))

    async def _count(self, repaired: Mapping[str, int]) -> None:
        """Count repairs at once: after an interruption, the rows no longer differ."""
        if repaired:
            if self._intake.requests:
                repaired = {ASKED_FOR: sum(repaired.values())}
            self._position.repaired = dict(Counter(self._position.repaired) + Counter(repaired))
            adding = self._intake.store.operation.add_repairs(self._watch, repaired)
            await self._intake.write(("repairs",), adding)

    async def _compare(self, read: Read) -> None:
        """Mark known records, and repair the rows that differ."""
        rows = self._intake.interpreted(read)
        known = await self._known(rows)
        rows = [with_last_job(row, known.get(row.application_id or "")) for row in rows]
        mark(self._position.marks, (each.number for each in known.values()))
        different = self._intake.different(rows, known)
        self._skipped.update(row.key for row in rows if isinstance(row, Unreportable))
        if different:
            await self._repair([row for row in rows if row.key in different])
        verified = [found for row in rows if row.key not in different and (found := _verified(row, known)) is not None]
        if verified:
            verifying = self._intake.store.capture.verify(self._watch, verified)
            await self._intake.write([each.application_id for each in verified], verifying)

    async def _known(self, rows: Iterable[Observation]) -> dict[str, Known]:
        ids = [row.application_id for row in rows if row.application_id is not None]
        return await self._intake.store.capture.known(self._watch, ids) if ids else {}

    async def _repair(self, rows: list[Observation]) -> None:
        """Let the capture catch up; read again, apply and count the rows that still differ.

        Twice: a row that changes just before the capture's turn, and back after it, differs though nothing was missed.
        """
        store, deleted, suspected = self._intake.store, list[str](), set[str]()
        for _ in range(2):
            await self._catch_up()
            different = self._intake.different(rows, await self._known(rows))
            rows = [row for row in rows if row.key in different]
            deleted = [row.application_id for row in rows if isinstance(row, Reportable) and row.content.deleted]
            # A deletion that is undone and repeated in between was not missed either.
            suspected |= await store.capture.suspected(self._watch, deleted)
            if not rows:
                return
        repaired: Counter[str] = Counter()
        results = await self._intake.keys({row.key: row.changed_at for row in rows}, "sweep")
        found = {result.application_id for result in results}
        applied = [row for row in rows if row.application_id in found]
        # Rows that are no longer as on the page changed after the capture's turn.
        different = self._intake.different(applied, await self._known(applied))
        found -= {row.application_id or "" for row in applied if row.key in different}
        for result in results:
            if result.application_id in found:
                repaired.update(_causes(result.decision))
        if not self._intake.requests and len(self._missed) < _NAMED:
            self._missed += [row.key for row in rows if row.application_id in found]
        # No result counts them before their grace.
        repaired.update(["deleted"] * len(await store.capture.suspected(self._watch, deleted) - suspected))
        await self._count(repaired)

    async def _absent(self, unmet: list[str]) -> list[str]:
        """The unmet applications with a row that has gone unnoticed by the capture.

        A row whose key moved to the part done, or behind the end, is not met either.

        Twice: a row that went and came back before the capture's turn rightly leaves no trace.
        """
        store = self._intake.store
        for _ in range(2):
            known = await store.capture.known(self._watch, unmet) if unmet else {}
            if not known:
                return []
            found = (await self._intake.reader.by_key({before.key for before in known.values()})).rows
            there = {interpret(row, self._intake.rules, 0).application_id for row in found}
            unreadable = {row.key for row in found if row.unreadable is not None}
            absent = {id_: each for id_, each in known.items() if id_ not in there and each.key not in unreadable}
            if not absent:
                return []
            await self._catch_up()
            after = await store.capture.known(self._watch, list(absent))
            suspected = await store.capture.suspected(self._watch, list(absent))
            unmet = [id_ for id_, now in after.items() if now.key == absent[id_].key and id_ not in suspected]
        return unmet

    async def _find_gone(self) -> None:
        """Suspect unmet live records; starts over after an interruption, and counts none twice."""
        last, at, marks = self._position.last, self._position.at, bytes(self._position.marks)
        async for unmet in self._intake.unmet(marks, last):
            absent = await self._absent(unmet)
            suspected = await self._intake.suspect(absent, at, "sweep") if absent else 0
            if suspected and self._sees_deletions:
                await self._count({"gone": suspected})
            self._began += await self._give_way()
            self._progressed()


def _verified(row: Observation, known: Mapping[str, Known]) -> Verified | None:
    """What to keep of a row that does not differ; None if it is unknown, or its entry is pending."""
    match row:
        case Reportable(application_id, key, content, _, str(digest)) if application_id in known:
            return None if known[application_id].pending else Verified(application_id, key, digest, content)
        case Ignored(application_id, key, str(digest)) if application_id in known:
            return Verified(application_id, key, digest, None)
    return None


def _causes(decision: Decision) -> Iterable[str]:
    match decision:
        case Enqueue(kinds):
            return kinds
        case Adopt():
            return ("first",)
        case _:
            return ("undone",)

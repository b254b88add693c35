"""The sweep: the whole table against the whole snapshot, in constant memory and short transactions.

It goes through the table in key order and only collects rows that look different. Then the capture catches up; what
still differs, as the page had it, was really missed: it is read once more and applied, and counted by cause, unless it
was left to a sweep on purpose (`requests`). Rows that are gone are found from the other side: every record met is
marked in a bitmap (one bit for each record number), and what is alive in the snapshot but unmarked is suspected.

**Digests.** Most rows are as they were. The server makes a digest of each row, of all that its reading depends on
(`source.mapping`); the store compares it with the one that the record was last verified with. What is equal is not
read. A digest says only this: a row that has it says what the record's columns say. So:

- whatever changes these columns makes the store forget the digest, in the same transaction and by its own schema: a
  call that was acknowledged, a discard, another row, the scope. Where something waits in the outbox, the row is read.
- a row is verified by one statement that compares what was read with the record as it is *then*. Whatever has come
  between reading and verifying, and wherever the process dies, no record gets a digest that is wrong; the worst is that
  a row is read once more.
- a row that changes after its digest was made is the capture's, as one that changes after its page was read.
- a page with a row on which an expression fails has no digests: its rows are read.
- digests never tell that a row is gone: what is passed over is marked as met, what is not marked is looked for.
- another configuration or another version makes other digests: every row is read once.

The server makes the next page's digests while the store compares this page's. Should that fail, this page is compared
again.

**Interruptions.** A lost connection or a dead daemon does not send it back to the beginning: on a large table it might
never reach the end. How far it is, is kept now and then as one value (`sweep_position`), in the store whose record
numbers it speaks of. Step by step:

- a page is compared and what differs is recorded *before* the position says so. Dying in between, the page is compared
  again: what was recorded is no news then, and was counted when it was recorded (dying between these two, it stays
  uncounted).
- what happens while nobody is there, or what the capture cannot see, to a row that was compared before the
  interruption, this sweep misses. The next one finds it, interrupted or not, since it compares every row later. So a
  sweep that was resumed is followed by another as soon as the spacing allows; whoever dies before that begins with one.
- a mark that should not be there (of a row deleted since, or of a record whose number belongs to another application
  now) hides a deletion until that next sweep. A mark that is missing (of a row whose key moved from the rest of the
  table to the part done) brings a suspicion, which a fresh read answers: no deletion was ever told because of a mark.
- with another configuration, another key or other types the place means nothing, and what was compared would have to be
  compared again: the position carries a digest of all that (`shape_of`), and if it differs, or if the text cannot be
  understood, the sweep begins anew.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace

from cdc_sync.core.diff import Adopt, Decision, Queue
from cdc_sync.core.observations import ASKED_FOR, SweepDone
from cdc_sync.core.outbox import Known, Verified, with_last_job
from cdc_sync.core.rows import Ignored, Key, Observation, Reportable, Unreportable, interpret
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.steps import STEPS, Steps
from cdc_sync.pipeline.sweep_position import FINISHED, POSITION, Marks, SweepPosition, shape_of, shape_of_digests
from cdc_sync.source.mapping import keys_of
from cdc_sync.source.reading import Digests, Read

_NAMED = 100
"""Keys of rows that were missed, of which one is told."""


async def sweep(
    intake: Intake,
    catch_up: Callable[[], Awaitable[None]],
    progressed: Callable[[], None],
    *,
    sees_deletions: bool = True,
    steps: Steps = STEPS,
) -> SweepDone:
    """Compare everything once, or the rest of what an interrupted sweep has left; returns what it did.

    Rows that are gone count as repaired if the capture `sees_deletions`.

    Raises:
        SourceError: a page cannot be read.
        StoreError: the store cannot be read or written.
    """
    return await _Sweep(intake, catch_up, progressed, sees_deletions=sees_deletions, steps=steps).run()


class _Sweep:
    def __init__(
        self,
        intake: Intake,
        catch_up: Callable[[], Awaitable[None]],
        progressed: Callable[[], None],
        *,
        sees_deletions: bool,
        steps: Steps,
    ) -> None:
        self._intake = intake
        self._catch_up = catch_up
        self._progressed = progressed
        self._sees_deletions = sees_deletions
        self._steps = steps
        self._digests = shape_of_digests(intake)
        self._ahead: tuple[Key, Digests | None] | None = None
        self._marks = Marks(0)
        self._repaired: Counter[str] = Counter()
        self._missed: list[Key] = []
        self._skipped: set[Key] = set()
        self._began = self._save_at = time.monotonic()
        self._is_saved = False

    async def run(self) -> SweepDone:
        skipped_before = set(self._intake.skipped)
        position, resumed = await self._begin()
        position = await self._walk(position)
        await self._find_gone(position)
        stale = (skipped_before & self._intake.skipped.keys()) - self._skipped
        if stale and not resumed:  # what an earlier part has met of them is not remembered
            await self._intake.forget_skips(stale, position.at)
        if self._is_saved:
            await self._intake.place({POSITION: FINISHED})
        await self._intake.requests.answer(position.requests)
        watch, seconds = self._intake.rules.watch, self._seconds(position)
        missed = tuple(self._missed[:_NAMED])
        done = SweepDone(watch, position.rows, seconds, dict(self._repaired), resumed, missed)
        self._intake.observe(done)
        return done

    async def _begin(self) -> tuple[SweepPosition, bool]:
        """Where to go on, and whether that is in the middle."""
        store, shape = self._intake.store, shape_of(self._intake)
        text = (await store.positions(self._intake.rules.watch)).get(POSITION)
        self._save_at += self._steps.save_every
        self._is_saved = bool(text)
        found = await asyncio.to_thread(SweepPosition.from_text, text, shape)
        if found is not None:
            self._marks = Marks(found.last, found.marks)
            self._repaired.update(found.repaired)
            return found, True
        # Records made from now on were made by somebody who saw their row.
        last = await store.highest_number()
        self._marks = Marks(last)
        return SweepPosition(shape, last, at=store.clock.for_people(), requests=self._intake.requests.number), False

    async def _walk(self, position: SweepPosition) -> SweepPosition:
        while not position.walked:
            position = await self._pass_over(position) or await self._read(position)
            self._progressed()
            await self._save(position)
        return position

    async def _pass_over(self, position: SweepPosition) -> SweepPosition | None:
        """Compare the next page by digests, and read only what is not as it was; None if that is most of it."""
        reader, store = self._intake.reader, self._intake.store
        if self._ahead is not None and self._ahead[0] == position.after:
            page = self._ahead[1]
        else:
            page = await reader.digests(position.after, self._steps.compared, self._digests)
        self._ahead = None
        if page is None:
            return None
        compared = store.compare(self._intake.rules.watch, page.text)
        if page.last is None:
            numbers = await compared
        else:
            # The server makes the next page's digests while the store compares these.
            ahead = reader.digests(page.last, self._steps.compared, self._digests)
            numbers, following = await asyncio.gather(compared, ahead)
            self._ahead = (page.last, following)
        if len(numbers) != page.rows:
            return None
        others = [place for place, number in enumerate(numbers) if number < 0]
        if len(others) > self._steps.compared // 2:
            return None
        if others:
            keys = keys_of(page.text, others)
            if keys is None:
                return None
            for first in range(0, len(keys), self._steps.read):
                part = keys[first : first + self._steps.read]
                async for read, _ in reader.parts_by_key(part, shape=self._digests):
                    await self._compare(read)
        self._marks.add_numbers(numbers)
        return _reached(position, page.rows, page.at, page.last)

    async def _read(self, position: SweepPosition) -> SweepPosition:
        """Compare the next page by reading it, in parts."""
        left = self._steps.compared
        while left > 0 and not position.walked:
            page = await self._intake.reader.page(position.after, min(self._steps.read, left), self._digests)
            await self._compare(page)
            position = _reached(position, len(page.rows), page.at, page.last)
            left -= self._steps.read
        return position

    async def _save(self, position: SweepPosition) -> None:
        """Let the position be kept, now and then; what is before it has been recorded."""
        started = time.monotonic()
        if started < self._save_at:
            return
        whole = replace(
            position, seconds=self._seconds(position), repaired=dict(self._repaired), marks=self._marks.bitmap()
        )
        await self._intake.place({POSITION: await asyncio.to_thread(whole.to_text)})
        self._is_saved = True
        ended = time.monotonic()
        self._save_at = ended + max(self._steps.save_every, (ended - started) * (self._steps.save_share - 1))

    def _seconds(self, position: SweepPosition) -> float:
        """How long the sweep has worked: its parts before the interruptions, and this one."""
        return position.seconds + time.monotonic() - self._began

    async def _count(self, repaired: Mapping[str, int]) -> None:
        """Count what a step has repaired, at once: after an interruption nobody would find it repaired once more."""
        if repaired:
            if self._intake.requests.number:
                repaired = {ASKED_FOR: sum(repaired.values())}
            self._repaired.update(repaired)
            adding = self._intake.store.add_repairs(self._intake.rules.watch, repaired)
            await self._intake.write(("repairs",), adding)

    async def _compare(self, read: Read) -> None:
        """Mark what is known, and look again at what seems different once the capture has caught up."""
        rows = [interpret(row, self._intake.rules, read.at) for row in read.rows]
        known = await self._known(rows)
        rows = [with_last_job(row, known.get(row.application_id or "")) for row in rows]
        self._marks.add(known.values())
        different = self._intake.different(rows, known)
        self._skipped.update(row.key for row in rows if isinstance(row, Unreportable))
        if different:
            await self._repair([row for row in rows if row.key in different])
        verified = [found for row in rows if row.key not in different and (found := _verified(row, known)) is not None]
        if verified:
            verifying = self._intake.store.verify(self._intake.rules.watch, verified)
            await self._intake.write([each.application_id for each in verified], verifying)

    async def _known(self, rows: Iterable[Observation]) -> dict[str, Known]:
        ids = [row.application_id for row in rows if row.application_id is not None]
        return await self._intake.store.known(self._intake.rules.watch, ids) if ids else {}

    async def _repair(self, rows: list[Observation]) -> None:
        """Let the capture catch up; read again, apply and count what still differs from what is known by then.

        Looked for twice. A row that changes anew before the capture's turn, and back after it, differs though nothing
        was missed; the second turn knows of it.
        """
        deleted: list[str] = []
        suspected: set[str] = set()
        for _ in range(2):
            await self._catch_up()
            different = self._intake.different(rows, await self._known(rows))
            rows = [row for row in rows if row.key in different]
            deleted = [row.application_id for row in rows if isinstance(row, Reportable) and row.content.deleted]
            # Each time: one that is taken back and deleted anew in between was not missed either.
            suspected |= await self._suspected(deleted)
            if not rows:
                return
        repaired: Counter[str] = Counter()
        results = await self._intake.keys({row.key: row.changed_at for row in rows}, "sweep")
        changed = await self._changed(rows, {result.application_id for result in results})
        found = {result.application_id for result in results} - changed
        for result in results:
            if result.application_id in found:
                repaired.update(_causes(result.decision))
        if not self._intake.requests.number and len(self._missed) < _NAMED:
            self._missed += [row.key for row in rows if row.application_id in found]
        # They wait for their grace, so nothing was queued yet that could be counted.
        missed = await self._suspected(deleted) - suspected
        if missed:
            repaired["deleted"] += len(missed)
        await self._count(repaired)

    async def _changed(self, rows: Iterable[Observation], applied: Collection[str]) -> set[str]:
        """Of what was applied, that which is not as the page had it: it changed after the capture's turn."""
        rows = [row for row in rows if row.application_id in applied]
        different = self._intake.different(rows, await self._known(rows))
        return {row.application_id for row in rows if row.application_id is not None and row.key in different}

    async def _absent(self, unmet: list[str]) -> list[str]:
        """Of the applications whose row was not met, those whose row has gone without the capture's knowing.

        Looked for twice. A row that went and came back between the first look and the capture's turn leaves no
        trace there, rightly; it is there the second time, or has gone anew and the second turn knows of it.
        """
        for _ in range(2):
            if unmet:
                unmet = await self._unknown_to_the_fast_path(await self._not_there(unmet))
        return unmet

    async def _not_there(self, application_ids: list[str]) -> dict[str, Known]:
        """Those whose row is not there, and is nowhere that is known of.

        A row whose key has moved to the part done, or behind the end, is not met, though the capture has seen it.
        """
        known = await self._intake.store.known(self._intake.rules.watch, application_ids)
        if not known:
            return {}
        found = (await self._intake.reader.by_key({before.key for before in known.values()})).rows
        there = {interpret(row, self._intake.rules, 0).application_id for row in found}
        unreadable = {row.key for row in found if row.unreadable is not None}
        return {id_: before for id_, before in known.items() if id_ not in there and before.key not in unreadable}

    async def _unknown_to_the_fast_path(self, absent: dict[str, Known]) -> list[str]:
        """Those of which the capture has recorded nothing, now that it has caught up with their absence."""
        if not absent:
            return []
        await self._catch_up()
        watch = self._intake.rules.watch
        after = await self._intake.store.known(watch, list(absent))
        suspected = await self._suspected(list(absent))
        return [id_ for id_, now in after.items() if now.key == absent[id_].key and id_ not in suspected]

    async def _suspected(self, application_ids: list[str]) -> set[str]:
        if not application_ids:
            return set()
        return await self._intake.store.suspected(self._intake.rules.watch, application_ids)

    async def _find_gone(self, position: SweepPosition) -> None:
        """Suspect what is alive in the snapshot and was not met. Interrupted, it begins anew, and counts none twice."""
        watch, marks, last = self._intake.rules.watch, self._marks.bitmap(), position.last
        for first in range(1, last + 1, self._steps.searched):
            gone = await self._intake.store.unseen(watch, marks, first, min(first + self._steps.searched - 1, last))
            self._progressed()
            # In parts, since what is known of each is as large as its row was.
            size = self._intake.reader.at_once(self._steps.read)
            for part in range(0, len(gone), size):
                absent = await self._absent(gone[part : part + size])
                suspected = await self._intake.suspect(absent, position.at, "sweep") if absent else 0
                if suspected and self._sees_deletions:
                    await self._count({"gone": suspected})
                self._progressed()


def _reached(position: SweepPosition, rows: int, at: int, last: Key | None) -> SweepPosition:
    """The position behind a page; an empty one has no clock that counts."""
    at = at if rows else position.at
    return replace(position, rows=position.rows + rows, at=at, after=last, walked=last is None)


def _verified(row: Observation, known: Mapping[str, Known]) -> Verified | None:
    """What may be kept of a row that does not differ: None if nothing is known of it, or something waits."""
    match row:
        case Reportable(application_id, key, content, _, str(digest)) if application_id in known:
            return None if known[application_id].waiting else Verified(application_id, key, digest, content)
        case Ignored(application_id, key, str(digest)) if application_id in known:
            return Verified(application_id, key, digest, None)
    return None


def _causes(decision: Decision) -> Iterable[str]:
    """What the capture has missed, as it is counted."""
    match decision:
        case Queue(kinds):
            return kinds
        case Adopt():
            return ("first",)
        case _:
            return ("undone",)

"""From keys, or rows just read, to one recorded batch. The only place that writes observations.

While row-level security may hide rows, no deletion is believed: it is held for a person (`source.row_security`).

A row that seems gone, softly deleted, or replaced by another row with the same application id is never believed at
first sight: all rows that carry the id are read, and the one that speaks for it decides (`core.rows.current`).
Deletions also wait for their grace: a move done as DELETE and INSERT in two transactions looks like one for a moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Adopt, Cancel, Nothing, Queue, Unseen, decide
from cdc_sync.core.hints import Origin
from cdc_sync.core.observations import ChangesRead, Decided, Observe, Outcome, RowsHidden, RowSkipped, RowsVisible
from cdc_sync.core.outbox import Known, Sighting, Skip, Suspicion, corrects, with_last_job
from cdc_sync.core.rows import (
    Foreign,
    Ignored,
    Key,
    Observation,
    OutOfScope,
    Reportable,
    Row,
    Unreportable,
    current,
    interpret,
)
from cdc_sync.core.rules import WatchRules
from cdc_sync.core.status_url import build
from cdc_sync.pipeline.requests import SweepRequests
from cdc_sync.source import row_security
from cdc_sync.source.reading import Read, Reader
from cdc_sync.source.replica_guard import POSITION as REPLICA
from cdc_sync.source.row_security import Hiding
from cdc_sync.store.protocol import ApplyResult, Batch, StoreError
from cdc_sync.store.store import Store

T = TypeVar("T")


class Written(Protocol):
    """Is told what the store was asked to write, and whether it did."""

    def __call__(self, what: Collection[str], *, kept: bool) -> None:
        """See the class."""


def no_account(what: Collection[str], *, kept: bool) -> None:
    """Keep no account of it."""


_REMEMBERED_SKIPS = 100_000


@dataclass(slots=True)
class _Found:
    """What a batch of readings amounts to, while it is put together."""

    sightings: dict[str, Sighting] = field(default_factory=dict)
    suspicions: dict[str, int] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    out_of_scope: list[str] = field(default_factory=list)
    unclear: dict[str, int] = field(default_factory=dict)

    def is_empty(self) -> bool:
        return not (self.sightings or self.suspicions or self.skips or self.out_of_scope)


class Intake:
    """One watch's way into the store.

    Args:
        rules: the watch's rules.
        reader: reads its table.
        store: where it goes.
        observe: told of what was news.
        clock: our clock, milliseconds since the epoch.
        queued: called when something may be due for sending.
        written: called with what the store was asked to write, and whether it did.
    """

    def __init__(
        self,
        rules: WatchRules,
        reader: Reader,
        store: Store,
        *,
        observe: Observe,
        clock: Callable[[], int],
        queued: Callable[[], None],
        written: Written = no_account,
    ) -> None:
        self.rules = rules
        self.reader = reader
        self.store = store
        self.observe = observe
        self.clock = clock
        self.suspected = asyncio.Event()
        self.requests = SweepRequests(self.place)
        # Rows that cannot be reported, as recorded: said once, not at each reading.
        self.skipped: dict[Key, str] = {}
        # Whose policies may hide rows from us, as far as is known.
        self._hidden_by: frozenset[Hiding] = frozenset()
        self._queued = queued
        self._written = written
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Take up what an earlier run recorded."""
        skips = await self.store.skipped(self.rules.watch, _REMEMBERED_SKIPS)
        self.skipped = {skip.key: skip.reason or "" for skip in skips}
        self.reader.expect_unreadable(self.skipped)
        positions = await self.store.positions(self.rules.watch)
        self.requests.load(positions)
        # Once more: another daemon may have recorded news until this one took the watch.
        self.reader.guard.load(positions.get(REPLICA))

    async def look_for_policies(self, *, first: bool = False) -> bool:
        """Find out whether row-level security may hide rows, and say so if that is news, or with `first` at any rate.

        Returns whether policies that hid rows do so no longer.
        """
        async with self._lock:
            before, self._hidden_by = self._hidden_by, await self.reader.hidden_by()
            if first or self._hidden_by != before:
                self._tell_hidden()
            return bool(before - self._hidden_by)

    async def keys(self, times: Mapping[Key, int], origin: Origin) -> list[ApplyResult]:
        """Read the rows of these keys and record what they say; `times` tells when each may have changed.

        Raises:
            SourceError: the rows cannot be read. Of large rows, which come in parts, some may be recorded by then.
            StoreError: the outcome cannot be recorded.
        """
        async with self._lock:
            news: list[ApplyResult] = []
            async for read, keys in self.reader.parts_by_key(times):
                dated = [(row, times.get(row.key, read.at)) for row in read.rows]
                found = {row.key for row in read.rows}
                gone = {key: times[key] for key in keys if key not in found}
                news += await self._take(dated, gone, origin, self.rules.first_status)
            return news

    async def rows(self, read: Callable[[], Awaitable[Read]], origin: Origin) -> Read:
        """Read rows, which did not change later than they are read, and record what they say."""
        async with self._lock:
            found = await read()
            await self._take([(row, found.at) for row in found.rows], {}, origin, self.rules.first_status)
            return found

    async def adopt(self, rows: Read, positions: Mapping[str, str]) -> list[ApplyResult]:
        """Record a page of the baseline together with the position that it reaches."""
        async with self._lock:
            return await self._take(
                [(row, rows.at) for row in rows.rows], {}, "baseline", self.rules.baseline, positions
            )

    async def unskip(self, keys: Iterable[Key]) -> None:
        """Rows that could not be reported and that a sweep did not meet any more."""
        async with self._lock:
            await self._record(_Found(skips=[Skip(key, None, None) for key in keys]), "sweep", self.rules.first_status)

    async def suspect(self, application_ids: Iterable[str], at: int, origin: Origin) -> int:
        """Applications whose row a sweep did not meet: a fresh read after the grace will tell.

        Returns how many of them were not suspected yet, nor known to be gone by now.
        """
        async with self._lock:
            known = await self.store.known(self.rules.watch, list(application_ids))
            already = await self.store.suspected(self.rules.watch, list(known))
            alive = [id_ for id_, before in known.items() if self._is_alive(before) and id_ not in already]
            await self._record(_Found(suspicions=dict.fromkeys(alive, at)), origin, self.rules.first_status)
            return len(alive)

    async def place(self, positions: Mapping[str, str]) -> None:
        """Save capture positions alone."""
        async with self._lock:
            await self._record(_Found(), "poll", self.rules.first_status, positions=positions)

    async def write(self, what: Collection[str], writing: Awaitable[T]) -> T:
        """Have something written, and say whether it was; `what` names it, so that it is known when it comes again.

        Raises:
            StoreError: it could not be written.
        """
        try:
            kept = await writing
        except StoreError:
            self._written(what, kept=False)
            raise
        self._written(what, kept=True)
        return kept

    async def confirm(self, suspicions: Sequence[Suspicion]) -> list[ApplyResult]:
        """Answer suspicions with a fresh read of all rows that carry the applications' ids."""
        async with self._lock:
            suspected = [suspicion.application_id for suspicion in suspicions]
            known = await self.store.known(self.rules.watch, suspected)
            current_rows = await self._current(suspected)
            still_there: set[Key] = set()
            unreadable: set[Key] = set()
            if gone := {known[id_].key for id_ in known.keys() - current_rows.keys()}:
                read = await self.reader.by_key(gone, doubting=True)
                self._doubt(read)
                still_there = nameless(read.rows, self.rules)
                unreadable = {row.key for row in read.rows if row.unreadable is not None}
            found = _Found()
            for suspicion in suspicions:
                before = known.get(suspicion.application_id)
                row = current_rows.get(suspicion.application_id)
                if row is not None:
                    reading = with_last_job(
                        interpret(row, self.rules, suspicion.at), known.get(suspicion.application_id)
                    )
                    self._sort(reading, before, found, suspicion.at, believe=True)
                elif before is not None and before.in_scope and before.latest is not None:
                    if before.key in unreadable:
                        # It may well have its id, and comes back to where it was when it can be read.
                        continue
                    if before.key in still_there:
                        # The row is there and has lost its id. That is no deletion, and nothing can be said of it.
                        found.out_of_scope.append(suspicion.application_id)
                        continue
                    content = content_of_gone(suspicion.application_id, before.latest, self.rules, suspicion.at)
                    refused = self.rules.allowed.refusal(content.url)
                    sighting = Sighting(suspicion.application_id, before.key, content, refused, changed_at=suspicion.at)
                    found.sightings[suspicion.application_id] = sighting
            return await self._record(found, "deletion", self.rules.first_status, answered=suspected)

    async def _take(
        self,
        dated: list[tuple[Row, int]],
        gone: Mapping[Key, int],
        origin: Origin,
        unseen: Unseen,
        positions: Mapping[str, str] | None = None,
    ) -> list[ApplyResult]:
        readings = [(interpret(row, self.rules, at), at) for row, at in dated]
        known = await self._known(readings, gone)
        readings = [
            (with_last_job(owned, known.get(owned.application_id or "")), at)
            for owned, at in ((_owned(reading, known), at) for reading, at in readings)
        ]
        found = _Found()
        self._disowned(readings, gone, known, found)
        seen: set[str] = set()
        for reading, at in readings:
            before = None
            if not isinstance(reading, Foreign) and reading.application_id is not None:
                before = known.get(reading.application_id)
                if reading.application_id in seen or (before is not None and before.key != reading.key):
                    # Two rows with one id, or another row than before: only all of them together tell.
                    found.unclear[reading.application_id] = at
                    continue
                seen.add(reading.application_id)
            self._sort(reading, before, found, at, believe=origin == "baseline")
        await self._resolve(known, found, believe=origin == "baseline")
        if origin != "poll" or not found.is_empty():  # a poll reads the same rows again and again
            self.observe(ChangesRead(self.rules.watch, origin, len(dated) + len(gone)))
        return await self._record(found, origin, unseen, positions=positions)

    async def _known(self, readings: list[tuple[Observation, int]], gone: Mapping[Key, int]) -> dict[str, Known]:
        """What is known of the applications that spoke through these rows last, or speak through them now."""
        known = await self.store.owners(self.rules.watch, [*(reading.key for reading, _ in readings), *gone])
        others = {
            reading.application_id
            for reading, _ in readings
            if not isinstance(reading, Foreign) and reading.application_id is not None
        } - known.keys()
        return {**known, **await self.store.known(self.rules.watch, sorted(others))} if others else known

    def _disowned(
        self,
        readings: list[tuple[Observation, int]],
        gone: Mapping[Key, int],
        known: Mapping[str, Known],
        found: _Found,
    ) -> None:
        """Applications whose row is gone, or now carries another id."""
        speaks = {reading.key: (getattr(reading, "application_id", None), at) for reading, at in readings}
        for application_id, before in known.items():
            says, at = speaks.get(before.key, (None, gone.get(before.key)))
            if at is not None and says != application_id and self._is_alive(before):
                found.unclear[application_id] = at
        for key in gone:
            self._not_skipped(key, found)

    def _is_alive(self, known: Known) -> bool:
        return known.in_scope and known.latest is not None and not known.latest.deleted

    async def _current(self, application_ids: Iterable[str]) -> dict[str, Row]:
        """For each application that has rows, the one that speaks for it now."""
        return _speakers(await self._rows_of(application_ids))

    async def _rows_of(self, application_ids: Iterable[str]) -> dict[str, list[Row]]:
        """All rows that carry these applications' ids now."""
        wanted = set(application_ids)
        if not wanted:
            return {}
        by_id: dict[str, list[Row]] = {}
        read = await self.reader.by_application(wanted)
        self._doubt(read)
        for row in read.rows:
            reading = interpret(row, self.rules, 0)
            if not isinstance(reading, Foreign) and reading.application_id in wanted:
                by_id.setdefault(reading.application_id, []).append(row)
        return by_id

    def _doubt(self, read: Read) -> None:
        """Take what may have hidden rows from a read into account, and keep it until `look_for_policies`."""
        if not read.hidden_by <= self._hidden_by:
            self._hidden_by |= read.hidden_by
            self._tell_hidden()

    def _tell_hidden(self) -> None:
        if not self._hidden_by:
            self.observe(RowsVisible(self.rules.watch))
            return
        self.observe(RowsHidden(self.rules.watch, row_security.warning(self._hidden_by)))

    async def _resolve(self, known: Mapping[str, Known], found: _Found, *, believe: bool) -> None:
        rows = await self._rows_of(found.unclear)
        speakers = _speakers(rows)
        for application_id, at in found.unclear.items():
            row, before = speakers.get(application_id), known.get(application_id)
            # What single rows of it said counts no more.
            found.sightings.pop(application_id, None)
            found.suspicions.pop(application_id, None)
            if row is None:
                # No row carries the id any more, or not just now.
                found.suspicions[application_id] = at
            else:
                reading = with_last_job(interpret(row, self.rules, at), known.get(application_id))
                self._sort(reading, before, found, at, believe=believe)
                if application_id in found.sightings and before is not None:
                    moved = all(row.key != before.key for row in rows[application_id])
                    found.sightings[application_id] = replace(found.sightings[application_id], moved=moved)

    def _sort(self, reading: Observation, before: Known | None, found: _Found, at: int, *, believe: bool) -> None:
        """Put one reading where it belongs. With `believe`, a soft deletion needs no grace any more."""
        match reading:
            case Foreign(key):
                self._not_skipped(key, found)
            case Unreportable(application_id, key, reason):
                if self.skipped.get(key) != reason:
                    found.skips.append(Skip(key, application_id, reason))
            case OutOfScope(application_id, key):
                self._not_skipped(key, found)
                if before is not None and before.in_scope:
                    found.out_of_scope.append(application_id)
            case Ignored(application_id, key):
                self._not_skipped(key, found)
                if (sighting := takes_over(reading, before)) is not None:
                    found.sightings[application_id] = sighting
            case Reportable(_, key):
                self._not_skipped(key, found)
                if is_news(reading, before, self.rules.first_status):
                    self._see(reading, before, found, at, believe=believe)

    def _see(self, news: Reportable, before: Known | None, found: _Found, at: int, *, believe: bool) -> None:
        if news.content.deleted and not believe and not self._told_gone(before):
            found.suspicions[news.application_id] = at
        else:
            found.sightings[news.application_id] = Sighting(
                news.application_id, news.key, news.content, news.refused, news.digest, changed_at=at
            )

    def _not_skipped(self, key: Key, found: _Found) -> None:
        if key in self.skipped:
            found.skips.append(Skip(key, None, None))

    def _told_gone(self, before: Known | None) -> bool:
        return before is not None and before.latest is not None and before.latest.deleted

    async def _record(
        self,
        found: _Found,
        origin: Origin,
        unseen: Unseen,
        *,
        answered: Sequence[str] = (),
        positions: Mapping[str, str] | None = None,
    ) -> list[ApplyResult]:
        if found.is_empty() and not answered and not positions:
            return []
        now = self.clock()
        batch = Batch(
            origin=origin,
            now=now,
            unseen=unseen,
            sightings=list(found.sightings.values()),
            suspicions=[
                Suspicion(application_id, at, now + self.rules.deletion_grace)
                for application_id, at in found.suspicions.items()
            ],
            answered=answered,
            skips=found.skips,
            out_of_scope=found.out_of_scope,
            # With the news: after a restart no server is read that does not show them.
            positions={**(positions or {}), **self.reader.guard.unstored()},
            doubt=row_security.described(self._hidden_by) if self._hidden_by else None,
        )
        if found.sightings:
            # Before it is recorded, too: a claim that follows at its heels may share its commit. `_tell` says it again
            # for a store where the claim was faster.
            self._queued()
        applied = await self.write(_named_by(batch), self.store.apply(self.rules, batch))
        news = list(applied.results)
        self.reader.guard.load(batch.positions.get(REPLICA))
        self._tell(found, news, origin)
        return news

    def _tell(self, found: _Found, news: list[ApplyResult], origin: Origin) -> None:
        if any(recorded.state == "pending" for recorded in news):
            self._queued()
        if found.suspicions:
            self.suspected.set()
        for skip in found.skips:
            if skip.reason is None:
                self.skipped.pop(skip.key, None)
            else:
                self.skipped[skip.key] = skip.reason
                key = "/".join(skip.key)
                self.observe(RowSkipped(self.rules.watch, key, skip.application_id, skip.reason))
        for recorded in news:
            if origin == "baseline" and isinstance(recorded.decision, Adopt):
                continue  # told as a number, not one by one
            self.observe(
                Decided(self.rules.watch, recorded.application_id, origin, _outcome(recorded), recorded.reason)
            )


def _owned(reading: Observation, known: Mapping[str, Known]) -> Observation:
    """A reading of a row whose id cannot be read, as one of the application for which the row spoke last."""
    if not isinstance(reading, Unreportable) or not reading.unreadable or reading.application_id is not None:
        return reading
    owner = next((id_ for id_, before in known.items() if before.key == reading.key), None)
    return replace(reading, application_id=owner)


def _speakers(rows: Mapping[str, Sequence[Row]]) -> dict[str, Row]:
    return {application_id: best for application_id, of_it in rows.items() if (best := current(of_it)) is not None}


def nameless(rows: Iterable[Row], rules: WatchRules) -> set[Key]:
    """The keys of rows that carry no usable id: nothing can be said of them, so that they have none is no deletion."""
    readings = [interpret(row, rules, 0) for row in rows]
    return {reading.key for reading in readings if isinstance(reading, Foreign | Unreportable)}


def content_of_gone(application_id: str, latest: Content, rules: WatchRules, at: int) -> Content:
    """What HelloWork is to be told of an application whose row is gone since `at`."""
    status = rules.status.deleted
    content = latest.as_deleted(status, at, rules.extra_fields_of(status))
    # What was told last may have gone to an earlier base_url.
    return content if rules.own_urls else replace(content, url=build(rules.base_url, application_id))


def takes_over(reading: Ignored, before: Known | None) -> Sighting | None:
    """The sighting that makes this row the one whose end is its application's; None if it is so, or none was told of.

    It says what is known already: no news.
    """
    if before is None or before.latest is None or _speaks_already(reading, before):
        return None
    return Sighting(reading.application_id, reading.key, before.latest)


def _speaks_already(reading: Ignored | Reportable, before: Known) -> bool:
    return before.key == reading.key and before.in_scope


def is_news(reading: Reportable, before: Known | None, unseen: Unseen) -> bool:
    """Whether recording this reading would change anything.

    Decided from a state that may be a moment old, so only to spare the store a useless transaction: a reading that
    equals what was told or waits stays no news whatever the sender does meanwhile. The store decides again.
    """
    if before is None or not _speaks_already(reading, before):
        return True
    if corrects(reading.content, reading.refused, before.waiting):
        return True
    return not isinstance(decide(reading.content, before.told, before.waiting, unseen), Nothing)


def _outcome(recorded: ApplyResult) -> Outcome:
    match recorded.decision:
        case Adopt():
            return "adopted"
        case Cancel():
            return "cancelled"
        case Queue():
            return {"pending": "queued", "held": "held", "dead": "dead"}[recorded.state or "pending"]  # type: ignore[return-value] # the three states
        case _:
            raise AssertionError("the store returns only news")


def _named_by(batch: Batch) -> set[str]:
    """The applications and rows of a batch; its positions, if it is about none."""
    of_rows = {each.application_id for each in batch.sightings}
    of_rows |= {each.application_id for each in batch.suspicions}
    of_rows |= {*batch.answered, *batch.out_of_scope, *("/".join(skip.key) for skip in batch.skips)}
    return of_rows or set(batch.positions)

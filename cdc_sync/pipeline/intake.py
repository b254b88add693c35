"""From keys, or rows just read, to one applied batch. The only place that writes observations.

The store's transaction decides what a row means (`core.batch`). If one row cannot decide, all rows of its application
are read and applied in a second transaction.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TypeVar

from cdc_sync import __version__
from cdc_sync.core.batch import ASKED_AGAIN_AFTER, Applied, ApplyResult, Batch, Resolved, different
from cdc_sync.core.diff import Adopt, Cancel, Enqueue, Unseen
from cdc_sync.core.events import (
    ChangesRead,
    Decided,
    DeletionsDecided,
    DeletionsWait,
    Outcome,
    RowsHidden,
    RowSkipped,
    RowsVisible,
)
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import ANSWERED_WITHIN, EntryState, Known, Suspicion, former_row
from cdc_sync.core.rows import (
    Key,
    Observation,
    Origin,
    Row,
    WatchRules,
    by_application,
    current,
    interpret,
)
from cdc_sync.pipeline.database import Elsewhere, Sessions, UnreadElsewhereError, WatchParts
from cdc_sync.pipeline.tenant_table import POSITION as TABLE
from cdc_sync.pipeline.tenant_table import TenantTable
from cdc_sync.source import row_security
from cdc_sync.source.changelog import Changes, latest
from cdc_sync.source.lookout import Watched
from cdc_sync.source.mapping import Mapping as TableMapping
from cdc_sync.source.reading import Read, Reader
from cdc_sync.source.recorders import functions_of, tables_of
from cdc_sync.source.replica_guard import POSITION as REPLICA
from cdc_sync.source.row_security import Hiding

T = TypeVar("T")
Found = TypeVar("Found", bound=Read)


REQUESTS = "sweeps-asked-for"

LONGEST_REST = 600.0
"""Seconds between looks while no deletion is suspected, at most; a suspicion ends the rest."""

_LOOK_EVERY = 1.0
"""Seconds between looks, at most: a change of the clock may make a suspicion due earlier."""

_SLACK = 60_000
"""Milliseconds by which the clock may go back before a suspicion seems to come from a wrong one."""

_REMEMBERED_SKIPS = 100_000
_QUEUED: Mapping[EntryState, Outcome] = {"pending": "queued", "held": "held", "dead": "dead"}
_OUTCOMES: Mapping[type, Outcome] = {Cancel: "cancelled", Adopt: "adopted"}


class Intake:
    """One watch's way from its database into the store.

    Attributes:
        lock: held from the reading of rows until they are applied; every method but `changes` takes it.
        requests: sweeps requested since the last complete one began, for changes that no event names (a TRUNCATE,
            another partition, a row of a table that any application may depend on). Meanwhile a difference does not
            prove that the capture missed something.
        suspected: set when a deletion is suspected.
        left_some_unanswered: whether the last look at suspected deletions had to wait for another watch.
        skipped: unreportable rows in the store: each is reported once.
        watched: the lookout's part.
        seen: its last examined state.
        table: whether it is still the same.

    Raises:
        SourceError: by every method: rows cannot be read; some parts of large ones may be applied.
        StoreError: by every method: the outcome cannot be saved.
    """

    def __init__(self, parts: WatchParts, sessions: Sessions, mapping: TableMapping) -> None:
        self.parts, self.sessions = parts, sessions
        self.rules, self.store, self.observe, self.clock = parts.rules, parts.store, parts.observe, parts.clock
        self.reader = Reader(sessions.pool, mapping)
        name, watch = parts.name, parts.watch
        records = watch.capture.needs.log
        self.watched = Watched(
            name,
            tables_of(watch) if records else [watch.table],
            functions_of(name, watch) if records else [],
            watch.capture.drain_interval.total_seconds(),
        )
        self.seen = self.watched.state
        self.table = TenantTable(parts, mapping.facts, sessions.pool)
        self.suspected = asyncio.Event()
        self.left_some_unanswered = False
        self._elsewhere_unread_until = 0
        parts.others.expect(name, self.suspected)
        self.requests = 0
        self.skipped: dict[Key, str] = {}
        self._hidden_by: frozenset[Hiding] = frozenset()
        # The position that the store has for this watch.
        self._replica = ""
        self.lock = asyncio.Lock()

    @property
    def shape(self) -> str:
        """A digest of what a comparison depends on beside the data: table, key, mapping, rules."""
        # As a list: the fields' order is that of the row's values.
        extra = [{"name": name, "only_for": statuses} for name, statuses in self.rules.extra.items()]
        # Sets have no order of their own.
        rules = json.dumps(asdict(self.rules) | {"extra": extra}, sort_keys=True, default=sorted)
        return hashlib.sha256(f"{self.reader.shape}\0{rules}".encode()).hexdigest()

    @property
    def shape_of_digests(self) -> str:
        """The same for row digests, which outlive a sweep: another version may interpret rows differently."""
        return f"{__version__} {self.shape}"

    async def load(self) -> None:
        """Load the results of an earlier run."""
        skips = await self.store.report.skipped(self.rules.watch, _REMEMBERED_SKIPS)
        self.skipped = {skip.key: skip.reason or "" for skip in skips}
        positions = await self.store.capture.positions(self.rules.watch)
        self.requests = int(positions.get(REQUESTS, "0"))
        # Another daemon may have saved news before this one took the watch.
        self._replica = positions.get(REPLICA, "")
        self.reader.pool.guard.load(self._replica)
        await self._place_table(await self.table.recognise(positions.get(TABLE), self._is_empty))

    async def _is_empty(self) -> bool:
        return not (await self.reader.page(None, 1)).rows

    async def _place_table(self, position: Mapping[str, str]) -> None:
        if position:
            await self.place(position)

    async def compared(self) -> None:
        """A sweep has compared every row."""
        self.table.compared()
        await self._place_table(await self.table.accepted())

    def doubt(self, hidden_by: frozenset[Hiding]) -> str | None:
        """Why deletions are held; `hidden_by` may hide rows."""
        return row_security.described(hidden_by) if hidden_by else self.table.doubt

    async def look_for_policies(self, *, first: bool = False) -> bool:
        """Check whether row-level security may hide rows; report a change, or with `first` the present state.

        Returns whether some policy no longer hides rows.
        """
        async with self.lock:
            before = self._hidden_by
            self._see_hiding(await self.reader.hidden_by(), anyhow=first)
            return bool(before - self._hidden_by)

    async def changes(self, changes: Changes) -> None:
        """Apply changes of the log, read under `lock`."""
        if changes.rows is not None:
            await self._read(changes.rows, changes.times, changes.times, "notify")
        elif changes.times:
            read_as = await self.reader.as_read(changes.times)
            times = latest((read_as.get(key, key), at) for key, at in changes.times.items())
            await self._keys(times, "notify")

    async def keys(self, times: Mapping[Key, int], origin: Origin) -> list[ApplyResult]:
        """Read the rows of these keys and apply them; `times` has when each may have changed."""
        async with self.lock:
            return await self._keys(times, origin)

    async def _keys(self, times: Mapping[Key, int], origin: Origin) -> list[ApplyResult]:
        results: list[ApplyResult] = []
        async for read, keys in self.reader.parts_by_key(times):
            results += await self._read(read, keys, times, origin)
        return results

    async def _read(
        self, read: Read, keys: Collection[Key], times: Mapping[Key, int], origin: Origin
    ) -> Sequence[ApplyResult]:
        """Apply what was read by keys; a key without a row is gone."""
        found = {row.key for row in read.rows}
        gone = {key: times[key] for key in keys if key not in found}
        if not read.rows and not gone:
            return ()
        self.observe(ChangesRead(self.rules.watch, origin, len(read.rows) + len(gone)))
        observations = [interpret(row, self.rules, times.get(row.key, read.at)) for row in read.rows]
        return (await self._apply(self._batch(origin, observations, gone))).results

    async def reread_pending(self, progressed: Callable[[], None]) -> int:
        """Read the rows of the pending entries by their stored keys and apply them; returns the number of entries.

        The store may be a restored backup, and HelloWork may have received later states. An entry without a living row
        waits until the suspected deletion is answered. A pending deletion is confirmed again: a row with the
        application's id may have come since, under any key.
        """
        number = 0
        async for found in self.store.capture.pending(self.rules.watch, self.parts.steps.read):
            if found:
                async with self.lock:
                    await self._reread(found)
                await self._confirm_again(found)
            number += len(found)
            progressed()
        return number

    async def _reread(self, keys: Mapping[str, Key]) -> None:
        """Read and apply the rows of these applications, each with its key."""
        now = self.store.driver.clock.for_people()
        # A key of other columns than now is a row's that is not there: all rows of its application are read.
        parts = len(self.reader.mapping.key_columns)
        fitting = {key for key in keys.values() if len(key) == parts}
        others = dict.fromkeys(set(keys.values()) - fitting, now)
        # No sweep found what these reads show.
        origin = self.parts.watch.capture.mode
        if others:
            await self._apply(self._batch(origin, gone=others))
        async for read, answered in self.reader.parts_by_key(fitting):
            await self._read(read, answered, dict.fromkeys(answered, read.at or now), origin)
        if suspected := await self.store.capture.suspected(self.rules.watch, list(keys)):
            # An earlier suspicion may be of a row that came back.
            found = await self._resolve(dict.fromkeys(suspected, now))
            gone = [each.application_id for each in found if each.is_deletion]
            answered_at = self.clock() + self.rules.deletion_grace + ANSWERED_WITHIN
            await self.store.capture.postpone(self.rules.watch, gone, answered_at)

    async def _confirm_again(self, application_ids: Collection[str]) -> None:
        """Confirm those of these applications' entries that are pending deletions."""
        now, watch = self.clock(), self.rules.watch
        known = await self.store.capture.known(watch, list(application_ids))
        deletions = [
            Suspicion(id_, of.pending.content.event_date, now)
            for id_, of in known.items()
            if of.state == "pending" and of.pending is not None and of.pending.content.deleted
        ]
        if deletions:
            # If they cannot be answered now, they are asked about again.
            await self.store.capture.suspect_again(watch, deletions)
            await self._answer(deletions)

    async def rows(self, read: Callable[[], Awaitable[Found]], origin: Origin) -> Found:
        """Read rows that changed no later than their reading, apply them, and report only news."""
        async with self.lock:
            found = await read()
            applied = await self._apply(self._batch(origin, self.interpreted(found)))
            if applied.written or applied.unresolved:
                self.observe(ChangesRead(self.rules.watch, origin, len(found.rows)))
            return found

    async def adopt(
        self, observations: Sequence[Observation], positions: Mapping[str, str], *, rows_are_new: bool
    ) -> Sequence[ApplyResult]:
        """Apply a page of the baseline, with its position."""
        async with self.lock:
            self.observe(ChangesRead(self.rules.watch, "baseline", len(observations)))
            batch = self._batch("baseline", observations, unseen=self.rules.baseline, positions=positions)
            return (await self._apply(replace(batch, rows_are_new=rows_are_new))).results

    async def forget_skips(self, keys: Iterable[Key], at: int) -> None:
        """Forget unreportable rows that a sweep no longer met."""
        async with self.lock:
            await self._apply(self._batch("sweep", gone=dict.fromkeys(keys, at)))

    async def unmet(self, marks: bytes, last: int) -> AsyncIterator[list[str]]:
        """See `store.capture.Capture.unseen`; in smaller parts, as what is known of each is as large as its row."""
        async for found in self.store.capture.unseen(self.rules.watch, marks, last, self.parts.steps.searched):
            size = self.reader.at_once(self.parts.steps.read)
            for first in range(0, max(len(found), 1), size):
                yield found[first : first + size]

    async def suspect(self, application_ids: Iterable[str], at: int, origin: Origin) -> int:
        """Suspect deletions, which a fresh read after the grace answers; returns the number of new suspicions."""
        async with self.lock:
            resolved = [Resolved(id_, at, None) for id_ in application_ids]
            return len((await self._apply(self._batch(origin, resolved=resolved))).suspected)

    async def place(self, positions: Mapping[str, str]) -> None:
        """Save capture positions only."""
        async with self.lock:
            await self._apply(self._batch("poll", positions=positions))

    async def request_sweeps(self, number: int) -> None:
        """Count requested sweeps, durably; a negative number removes those that a finished sweep has answered.

        Call this before the reason is forgotten and the sweep begins.
        """
        self.requests = max(self.requests + number, 0)
        await self.place({REQUESTS: str(self.requests)})

    async def confirm_due(self) -> int:
        """Answer the suspected deletions after their grace, by a fresh read of all their rows; returns their number."""
        answered, horizon = 0, self.rules.deletion_grace + _SLACK
        while True:
            limit = self.reader.at_once(self.parts.steps.confirmed)
            due = await self.store.capture.due_suspicions(self.rules.watch, self.clock(), limit, horizon=horizon)
            if due:
                await self._answer(due)
                answered += len(due)
            if len(due) < limit:
                if answered:
                    await self._place_table(await self.table.accepted())
                return answered

    async def _answer(self, suspicions: Sequence[Suspicion]) -> None:
        """Answer suspected deletions by a fresh read of all rows of their applications."""
        # Without the lock: another database may not answer for long.
        elsewhere = await self._ask_elsewhere([each.application_id for each in suspicions])
        async with self.lock:
            resolved = await self._resolve({each.application_id: each.at for each in suspicions})
            missing = [each.application_id for each in resolved if each.canonical is None]
            left = await self._former_rows(missing) if missing else {}
            resolved = [replace(each, canonical=left.get(each.application_id, each.canonical)) for each in resolved]
            await self._decide(resolved, elsewhere)

    async def _ask_elsewhere(self, application_ids: Collection[str]) -> Elsewhere | None:
        """What the tables of the other watches with the same credentials have; None if one cannot be read."""
        watch = self.rules.watch
        if self.clock() < self._elsewhere_unread_until:
            return None  # each try may take as long as a connection
        try:
            found = await self.parts.others.with_live_row(watch, application_ids)
        except UnreadElsewhereError as error:
            self._elsewhere_unread_until = self.clock() + ASKED_AGAIN_AFTER
            self.observe(DeletionsWait(watch, error.message))
            return None
        self.observe(DeletionsDecided(watch))
        return found

    async def _decide(self, resolved: Sequence[Resolved], elsewhere: Elsewhere | None) -> None:
        """Answer suspicions, after a look at other watches' tables."""
        resolved = [_compared(each, elsewhere) if each.is_deletion else each for each in resolved]
        self.left_some_unanswered = any(each.is_unanswered for each in resolved)
        hidden_by = self._hidden_by | (frozenset() if elsewhere is None else elsewhere.hidden_by)
        await self._apply(replace(self._batch("deletion", resolved=resolved), doubt=self.doubt(hidden_by)))
        for heir in {each.elsewhere for each in resolved if each.elsewhere is not None}:
            self.parts.others.hand_over(heir)

    async def confirm(self, progressed: Callable[[], None]) -> None:
        """Answer suspected deletions for ever."""
        while True:
            self.suspected.clear()
            await self.confirm_due()
            progressed()
            due_at = await self.store.capture.next_suspicion(self.rules.watch)
            if due_at is not None:
                await asyncio.sleep(min(max((due_at - self.clock()) / 1000, 0.01), _LOOK_EVERY))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_REST):
                    await self.suspected.wait()

    def different(self, rows: Sequence[Observation], known: Mapping[str, Known]) -> set[Key]:
        """See `core.batch.different`."""
        return different(self.rules, self._batch("sweep", rows), known)

    async def write(self, what: Collection[str], writing: Awaitable[T]) -> T:
        """Await a write and note its success or failure; `what` names it for a later retry."""
        try:
            kept = await writing
        except StoreError:
            self.parts.unwritten.update(what)
            raise
        self._written(what)
        return kept

    def _written(self, what: Collection[str]) -> None:
        unwritten = self.parts.unwritten
        if unwritten:
            unwritten.difference_update(what)
            if not unwritten:
                self.parts.all_written()

    def interpreted(self, read: Read) -> list[Observation]:
        """A page's rows; none changed later than it was read."""
        return [interpret(row, self.rules, read.at) for row in read.rows]

    async def _resolve(self, unresolved: Mapping[str, int]) -> list[Resolved]:
        """Read all rows of these applications; each id comes with the time of its change."""
        read = await self.reader.by_application(unresolved)
        # Policies that may have hidden rows count until `look_for_policies`.
        self._see_hiding(self._hidden_by | read.hidden_by)
        found = by_application(read.rows, unresolved)
        return [resolved(id_, at, found.get(id_, ()), self.rules) for id_, at in unresolved.items()]

    async def _former_rows(self, application_ids: Sequence[str]) -> dict[str, Observation]:
        """The rows that still are those of applications whose id no row was found to carry."""
        known = await self.store.capture.known(self.rules.watch, application_ids)
        read = await self.reader.by_key({before.key for before in known.values()}, confirming=True)
        self._see_hiding(self._hidden_by | read.hidden_by)
        return former_rows(read, known, self.rules)

    def _see_hiding(self, hidden_by: frozenset[Hiding], *, anyhow: bool = False) -> None:
        """Note which policies hide rows; report news, or `anyhow`."""
        if anyhow or hidden_by != self._hidden_by:
            self._hidden_by, watch, self.watched.rechecks = hidden_by, self.rules.watch, bool(hidden_by)
            self.observe(RowsHidden(watch, row_security.warning(hidden_by)) if hidden_by else RowsVisible(watch))

    def _batch(
        self,
        origin: Origin,
        observations: Sequence[Observation] = (),
        gone: Mapping[Key, int] | None = None,
        *,
        resolved: Sequence[Resolved] = (),
        unseen: Unseen | None = None,
        positions: Mapping[str, str] | None = None,
    ) -> Batch:
        position = self.reader.pool.guard.text
        return Batch(
            origin=origin,
            now=self.clock(),
            unseen=unseen or self.rules.first_status,
            observations=observations,
            gone=gone or {},
            resolved=resolved,
            skipped=self.skipped,
            positions=positions or {},
            # With the news: after a restart, no server without them is read.
            replica={} if position in ("", self._replica) else {REPLICA: position},
            doubt=self.doubt(self._hidden_by),
            others=self.parts.others.of(self.rules.watch),
        )

    async def _apply(self, batch: Batch) -> Applied:
        """Apply a batch, and in a second step, with the positions, applications whose rows must all be read first.

        If the second reading fails, the first step stays applied, without the positions.
        """
        if not (batch.observations or batch.gone or batch.resolved or batch.positions):
            return Applied()
        if batch.observations or batch.gone or batch.resolved:
            await self.table.look()
        # A step ends in any case: later readings are applied later.
        stepping = asyncio.create_task(self._step(batch), name="apply")
        try:
            first = await asyncio.shield(stepping)
        except asyncio.CancelledError:
            # It may be cancelled repeatedly.
            while not stepping.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([stepping])
            raise
        if not first.unresolved:
            return first
        resolved = await self._resolve(first.unresolved)
        rest = self._batch(batch.origin, resolved=resolved, unseen=batch.unseen, positions=batch.positions)
        second = await self._apply(rest)
        return replace(first, results=[*first.results, *second.results], written=first.written or second.written)

    async def _step(self, batch: Batch) -> Applied:
        """Apply one batch and report its results; not to be cancelled."""
        watch, origin = self.rules.watch, batch.origin
        try:
            applied = await self.store.capture.apply(self.rules, batch, self.parts.calls)
        except StoreError:
            self.parts.unwritten.update(_named_by(batch))
            raise
        if applied.written:  # else the store may still fail
            self._replica = batch.replica.get(REPLICA, self._replica)
            if self.parts.unwritten:
                self._written(_named_by(batch))
        if applied.suspected:
            self.suspected.set()
        for skip in applied.skips:
            if skip.reason is None:
                self.skipped.pop(skip.key, None)
            else:
                self.skipped[skip.key] = skip.reason
                self.observe(RowSkipped(watch, "/".join(skip.key), skip.application_id, skip.reason))
        for result in applied.results:
            is_queued = isinstance(result.decision, Enqueue)
            outcome = _QUEUED[result.state or "pending"] if is_queued else _OUTCOMES[type(result.decision)]
            # The baseline reports a number of adoptions.
            if outcome != "adopted" or origin != "baseline":
                self.observe(Decided(watch, result.application_id, origin, outcome, result.reason))
        return applied


def resolved(application_id: str, changed_at: int, rows: Sequence[Row], rules: WatchRules) -> Resolved:
    """What all of an application's rows mean."""
    best = current(rows)
    canonical = None if best is None else interpret(best, rules, changed_at)
    return Resolved(application_id, changed_at, canonical, frozenset(row.key for row in rows))


def _compared(deletion: Resolved, elsewhere: Elsewhere | None) -> Resolved:
    """A deletion after a look at other watches' tables; None: one of these cannot be read."""
    if elsewhere is None or deletion.application_id in elsewhere.unseen:
        return replace(deletion, is_unanswered=True)
    if deletion.application_id in elsewhere.unreported:
        return replace(deletion, is_kept=True)
    return replace(deletion, elsewhere=elsewhere.watch_of.get(deletion.application_id))


def former_rows(read: Read, known: Mapping[str, Known], rules: WatchRules) -> dict[str, Observation]:
    """The rows, read by key, that still are their applications' own; see `core.outbox.former_row`."""
    rows, found = {row.key: row for row in read.rows}, dict[str, Observation]()
    for id_, before in known.items():
        row = rows.get(before.key)
        own = None if row is None else former_row(row, id_, before, rules, read.at)
        if own is not None:
            found[id_] = own
    return found


def _named_by(batch: Batch) -> set[str]:
    """The applications and rows of a batch, or its positions if it has none."""
    rows = (*(row.key for row in batch.observations if row.application_id is None), *batch.gone)
    return {*batch.application_ids, *map("/".join, rows)} or set(batch.positions)

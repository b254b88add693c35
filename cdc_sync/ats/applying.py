"""Applying batches to the store: the only place that writes observations.

The store's transaction decides what a row means (`core.batch`). If one row cannot decide, all rows of its application
are read and applied in a second transaction.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cdc_sync.ats import row_security
from cdc_sync.ats.connection import POSITION as REPLICA
from cdc_sync.ats.database import WatchParts
from cdc_sync.ats.lookout import Watched
from cdc_sync.ats.reading import Reader
from cdc_sync.ats.row_security import Hiding
from cdc_sync.ats.tenant_table import TenantTable
from cdc_sync.core.batch import Applied, Batch, Resolved
from cdc_sync.core.diff import Adopt, Cancel, Enqueue
from cdc_sync.core.events import Decided, Outcome, RowsHidden, RowSkipped, RowsVisible, ZoneDoubted, ZoneTrusted
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.rows import Key, Origin, Reportable, Row, WatchRules, by_application, current, interpret
from cdc_sync.core.zone import Dated

_REMEMBERED_SKIPS = 100_000
_QUEUED: Mapping[EntryState, Outcome] = {"pending": "queued", "held": "held", "dead": "dead"}
_OUTCOMES: Mapping[type, Outcome] = {Cancel: "cancelled", Adopt: "adopted"}


class Applier:
    """Applies one watch's batches, and reports the results.

    Attributes:
        lock: held from the reading of rows until they are applied; the caller takes it.
        suspected: set when a deletion is suspected.
        skipped: unreportable rows in the store: each is reported once.
        table: whether it is still the same.
        hidden_by: the policies of row-level security that may hide rows.
        swept_at: when the last sweep ended, in milliseconds since the epoch; 0 before the first one.

    Raises:
        SourceError: by `apply`: rows cannot be read; some parts of large ones may be applied.
        StoreError: by every method: the outcome cannot be saved.
    """

    def __init__(self, parts: WatchParts, reader: Reader, watched: Watched) -> None:
        self.parts, self.reader, self._store = parts, reader, parts.store
        self.lock = asyncio.Lock()
        self.suspected = asyncio.Event()
        self.skipped: dict[Key, str] = {}
        self.table = TenantTable(parts, reader.mapping.facts, reader.pool)
        self.hidden_by: frozenset[Hiding] = frozenset()
        self.swept_at = 0
        self._watched = watched
        # The position that the store has for this watch.
        self._replica = ""

    async def load(self, positions: Mapping[str, str]) -> None:
        """Load the results of an earlier run."""
        skips = await self._store.report.skipped(self.parts.name, _REMEMBERED_SKIPS)
        self.skipped = {skip.key: skip.reason or "" for skip in skips}
        self.reader.unreadable.expect(self.skipped)
        # Another daemon may have saved news before this one took the watch.
        self._replica = positions.get(REPLICA, "")
        self.reader.pool.guard.load(self._replica)

    def doubt(self, hidden_by: frozenset[Hiding]) -> str | None:
        """Why deletions are held; `hidden_by` may hide rows."""
        return row_security.described(hidden_by) if hidden_by else self.table.doubt

    def see_hiding(self, hidden_by: frozenset[Hiding], *, anyhow: bool = False) -> None:
        """Note which policies may hide rows; report news, or `anyhow`."""
        if anyhow or hidden_by != self.hidden_by:
            self.hidden_by, self._watched.rechecks, watch = hidden_by, bool(hidden_by), self.parts.name
            hidden = RowsHidden(watch, row_security.warning(hidden_by)) if hidden_by else RowsVisible(watch)
            self.parts.observe(hidden)

    def batch(self, origin: Origin, **found: Any) -> Batch:
        """A batch; `found` has further fields of it."""
        parts, position = self.parts, self.reader.pool.guard.text
        batch = Batch(
            origin=origin,
            now=parts.clock(),
            unseen=parts.rules.first_status,
            skipped=self.skipped,
            # With the news: after a restart, no server without them is read.
            replica={} if position in ("", self._replica) else {REPLICA: position},
            doubt=self.doubt(self.hidden_by),
            others=parts.others.of(parts.name),
        )
        return replace(batch, **found)

    async def apply(self, origin: Origin, **found: Any) -> Applied:
        """Apply a batch, and in a second step, with the positions, applications whose rows must all be read first.

        `found` is as in `batch`. If the second reading fails, the first step stays applied, without the positions.
        """
        batch = self.batch(origin, **found)
        has_news = bool(batch.observations or batch.gone or batch.resolved)
        if not (has_news or batch.positions):
            return Applied()
        if has_news:
            await self.table.look()
        parts = self.parts
        first = await self._store.capture.apply(parts.rules, batch, parts.calls)
        self._note(batch, first)
        if not first.unresolved:
            return first
        resolved = await self.resolve(first.unresolved)
        second = await self.apply(origin, resolved=resolved, unseen=batch.unseen, positions=batch.positions)
        return replace(first, results=[*first.results, *second.results], written=first.written or second.written)

    async def place(self, positions: Mapping[str, str]) -> None:
        """Save capture positions only."""
        async with self.lock:
            await self.apply("poll", positions=positions)

    async def resolve(self, unresolved: Mapping[str, int]) -> list[Resolved]:
        """Read all rows of these applications; each id comes with the time of its change."""
        read = await self.reader.by_application(unresolved)
        self.see_hiding(self.hidden_by | read.hidden_by)
        found = by_application(read.rows, unresolved)
        return [resolved(id_, at, found.get(id_, ()), self.parts.rules) for id_, at in unresolved.items()]

    def _note(self, batch: Batch, applied: Applied) -> None:
        """Note and report the results of a batch."""
        if applied.written:  # else the store may still fail
            self._replica = batch.replica.get(REPLICA, self._replica)
        if applied.suspected:
            self.suspected.set()
        self._report(applied, batch.origin)
        self._see_dates(batch, applied)

    def _see_dates(self, batch: Batch, applied: Applied) -> None:
        """Compare the event dates of changed rows with the changes; report news."""
        if self.parts.watch.columns.event_date is None or batch.origin not in {"notify", "poll", "sweep"}:
            return
        changed = {each.application_id for each in applied.results if isinstance(each.decision, Enqueue)}
        observed = (*batch.observations, *(each.canonical for each in batch.resolved))
        rows = [each for each in observed if isinstance(each, Reportable) and each.application_id in changed]
        # The first sweep finds what changed at any time before.
        since = {row.key: self.swept_at if batch.origin == "sweep" else row.changed_at for row in rows}
        dated = [Dated(row.key, row.content.event_date, since[row.key], row.changed_at) for row in rows]
        dates, watch = self.parts.event_dates, self.parts.name
        if dates.see(dated):
            self.parts.observe(ZoneDoubted(watch, dates.reason) if dates.hours else ZoneTrusted(watch))

    def _report(self, applied: Applied, origin: Origin) -> None:
        watch, observe = self.parts.name, self.parts.observe
        for skip in applied.skips:
            if skip.reason is None:
                self.skipped.pop(skip.key, None)
            else:
                self.skipped[skip.key] = skip.reason
                observe(RowSkipped(watch, "/".join(skip.key), skip.application_id, skip.reason))
        for result in applied.results:
            is_queued = isinstance(result.decision, Enqueue)
            outcome = _QUEUED[result.state or "pending"] if is_queued else _OUTCOMES[type(result.decision)]
            # The baseline reports a number of adoptions.
            if outcome != "adopted" or origin != "baseline":
                observe(Decided(watch, result.application_id, origin, outcome, result.reason))


def resolved(application_id: str, changed_at: int, rows: Sequence[Row], rules: WatchRules) -> Resolved:
    """What all of an application's rows mean."""
    best = current(rows)
    canonical = None if best is None else interpret(best, rules, changed_at)
    return Resolved(application_id, changed_at, canonical, frozenset(row.key for row in rows))

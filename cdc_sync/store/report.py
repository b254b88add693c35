"""The store as people see it, with the times that they read."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.content import Content
from cdc_sync.core.events import WatchUnconfigured
from cdc_sync.core.outbox import Entry, EntryState, Skip, Suspicion
from cdc_sync.core.reasons import Reason, from_text, restored
from cdc_sync.core.rows import Key

from .driver import Role, Transaction, by_first, job, watches_of
from .encoding import Columns, content_from, entry_from, is_discarded, key_from, key_text

CALL_STEP = 5 * 60 * 1000
"""Milliseconds of a step in which calls are counted."""

MOST_HITS = 20
"""Most hits shown."""

_NEWEST = 20_000
"""Events searched for acknowledgements: a few milliseconds."""

_AGE = attrgetter("queued_at", "id")
"""When an entry was enqueued, its watch and application."""


@dataclass(frozen=True, slots=True)
class WatchCounts:
    """A watch in numbers.

    `oldest_queued_at` is of pending entries. `changed_at`: an entry was enqueued, held, dead-lettered at once or
    cancelled.
    """

    known: int = 0
    pending: int = 0
    held: int = 0
    dead: int = 0
    skipped: int = 0
    suspected: int = 0
    oldest_queued_at: int | None = None
    changed_at: int | None = None


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Attempts that ended in the step beginning at `step`, by outcome."""

    step: int
    acknowledged: int = 0
    retry: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """All that the store holds of one application of one watch, for people.

    `adopted`: HelloWork never received the snapshot. `discarded`: a person discarded it, and HelloWork did not
    acknowledge it.
    """

    watch: str
    application_id: str
    key: Key
    in_scope: bool = True
    snapshot: Content | None = None
    acknowledged_at: int | None = None
    entry: Entry | None = None
    suspicion: Suspicion | None = None
    skipped: str | None = None
    adopted: bool = False
    discarded: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: an application, or a row that has none, with the reason."""

    watch: str
    application_id: str | None
    key: Key
    reason: str | None


def meant(hits: Sequence[Hit]) -> str | None:
    """The one application of all hits; None without exactly one."""
    return hits[0].application_id if len({hit.application_id for hit in hits}) == 1 else None


class Report(Role):
    """See the module's text."""

    @job
    async def entries(self, transaction: Transaction, state: EntryState, watch: str | None, limit: int) -> list[Entry]:
        """Outbox entries in a state, oldest first."""
        if watch is None:
            # Those with the oldest entries: no more can be among the result.
            oldest = map(entry_from, await transaction.run("oldest", state=state))
            watches = [entry.watch for entry in sorted(oldest, key=_AGE)[:limit]]
        else:
            watches = await watches_of(transaction, watch)
        found = [
            _for_people(entry_from(row), self.driver.clock.shift)
            for name in watches
            for row in await transaction.run("entries", state=state, watch=name, limit=limit)
        ]
        return sorted(found, key=_AGE)[:limit]

    async def oldest(self, state: EntryState) -> dict[str, Entry]:
        """Each watch's oldest outbox entry in a state."""
        shift = self.driver.clock.shift
        entries = [_for_people(entry_from(row), shift) for row in await self.driver.run("oldest", state=state)]
        return {entry.watch: entry for entry in entries}

    async def counts(self) -> dict[str, WatchCounts]:
        """Each watch in the store; the cost grows with the outbox."""
        found, shift = dict[str, Counter[str]](), self.driver.clock.shift
        for watch, name, value in await self.driver.run("counts"):
            found.setdefault(watch, Counter())[name] += value + (name == "oldest_queued_at") * shift
        return {watch: WatchCounts(**numbers) for watch, numbers in found.items()}

    async def known_of(self, watch: str) -> int:
        """How many applications of a watch are known."""
        return int(await self.driver.value("known_of", watch=watch) or 0)

    async def unconfigured(self, configured: Collection[str]) -> list[WatchUnconfigured]:
        """What the store holds of unconfigured watches, by name."""
        return [
            WatchUnconfigured(watch, of.known, of.pending, of.held, of.dead, of.suspected)
            for watch, of in sorted((await self.counts()).items(), key=itemgetter(0))
            if watch not in configured
        ]

    async def skipped(self, watches: Collection[str], limit: int) -> list[tuple[str, Skip]]:
        """These watches' rows that cannot be reported, in the order of their keys, at most `limit` of each."""
        rows = await self.driver.run("skipped_of_each", watches=list(watches), limit=limit)
        found = by_first(sorted(rows, key=itemgetter(1)))
        return [
            (watch, Skip(key_from(key), of, from_text(reason)))
            for watch in watches
            for key, of, reason in found.get(watch, ())
        ]

    async def positions_of_all(self, *names: str) -> dict[str, dict[str, str]]:
        """The capture positions of these names, by watch and name."""
        rows = await self.driver.run("positions_of_all", names=list(names))
        return {watch: dict(of) for watch, of in by_first(rows).items()}

    @job
    async def records(self, transaction: Transaction, application_id: str, watch: str | None) -> list[Record]:
        """An application's records, by watch."""
        which = {"id": application_id, "watches": await watches_of(transaction, watch)}
        shift, found = self.driver.clock.shift, dict[str, Record]()
        for row in await transaction.run("records", **which):
            found[row[0]] = record_from(application_id, row, shift)
        # Of several rows that cannot be reported, the last one's reason.
        skipped = {name: (row_key, reason) for name, row_key, reason in await transaction.run("skipped_rows", **which)}
        for name, (row_key, reason) in skipped.items():
            # One that was never reportable has no record.
            record = found.get(name) or Record(name, application_id, key_from(row_key))
            found[name] = replace(record, skipped=from_text(reason))
        return list(found.values())

    @job
    async def search(self, transaction: Transaction, text: str, watch: str | None, limit: int) -> list[Hit]:
        """The applications of an id, or without one the rows of a key, `limit` at most.

        A key of several columns is `a/b`, as it is shown.
        """
        keys = [key_text((text,)), key_text(tuple(text.split("/")))]
        which = {"watches": await watches_of(transaction, watch), "id": text, "keys": keys, "limit": limit}
        rows = await transaction.run("hits", **which)
        found = dict[tuple[str, str], Hit]()
        for name, id_, row_key, reason in [row for row in rows if row[1] == text] or rows:
            found.setdefault((name, id_ or row_key), Hit(name, id_, key_from(row_key), from_text(reason)))
        return [found[of] for of in sorted(found)[:limit]]

    async def story(self, application_id: str, limit: int) -> list[HistoryEntry]:
        """An application's newest `limit` events, oldest first."""
        rows = await self.driver.run("story", id=application_id, limit=limit)
        return list(map(_event, reversed(rows)))

    async def recent_ends(self, limit: int, *, failed: bool, among: int = _NEWEST) -> list[HistoryEntry]:
        """The newest `answered` and `dead-lettered` events of all applications, newest first.

        Unless `failed`, also the `acknowledged` ones among the newest `among` events.
        """
        rows = await self.driver.run("recent_failures", failed=failed, limit=limit)
        if not failed:
            rows += await self.driver.run("recent_acknowledgements", among=among, limit=limit)
        return [_event(row[1:]) for row in sorted(rows, reverse=True)[:limit]]

    async def call_counts(self, since: int) -> list[CallCounts]:
        """Ended attempts per step from the step of `since` on, without empty steps."""
        rows = await self.driver.run("call_counts", after=since - CALL_STEP)
        return [CallCounts(step, **dict(numbers)) for step, numbers in by_first(rows).items()]


def _for_people(entry: Entry, shift: int) -> Entry:
    return entry._replace(queued_at=entry.queued_at + shift, due_at=entry.due_at + shift) if shift else entry


def record_from(application_id: str, row: Columns, shift: int = 0) -> Record:
    """An application's record, from the columns of the statement `records`."""
    name, row_key, in_scope, *state, acknowledged_at, adopted, gone_at, due_at = row[:11]
    entry, suspicion = None, None
    if due_at is not None:
        suspicion = Suspicion(application_id, gone_at, due_at + shift)
    if row[11] is not None:
        entry = _for_people(entry_from(row[11:]), shift)
    return Record(
        name,
        application_id,
        key_from(row_key),
        in_scope=bool(in_scope),
        snapshot=content_from(*state),
        acknowledged_at=acknowledged_at,
        entry=entry,
        suspicion=suspicion,
        adopted=bool(adopted),
        discarded=is_discarded(state[-1]),
    )


def _event(row: Columns) -> HistoryEntry:
    at, watch, application_id, event, detail = row
    found = json.loads(detail, object_hook=restored)
    if found.keys() >= {"reason", "code", "values"}:
        found["reason"] = Reason(found["reason"], found["code"], found["values"])
    if "actor" in found:
        found["who"] = found.pop("actor")
    return HistoryEntry(at, watch, application_id, event, found)

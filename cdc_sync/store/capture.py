"""The store for capture: what is known, and batches of observations.

The transaction that writes an observation also decides about it (decision 4). Otherwise the sender could send an entry
between its reading and its cancelling.
"""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

from cdc_sync.core.batch import (
    NO_CALLS,
    NO_STATES,
    Applied,
    Batch,
    BatchPlan,
    Calls,
    Enqueued,
    HistoryLine,
    States,
    moved,
    plan_batch,
)
from cdc_sync.core.content import Content
from cdc_sync.core.diff import Adopt, blow
from cdc_sync.core.outbox import ANSWERED_WITHIN, Applying, Entry, Known, Suspicion, Verified
from cdc_sync.core.reasons import as_text
from cdc_sync.core.rows import Key, WatchRules
from cdc_sync.store.delivery import mend
from cdc_sync.store.driver import Driver, Transaction
from cdc_sync.store.encoding import (
    as_json,
    content_from,
    fuse_from,
    fuse_text,
    key_from,
    key_text,
    kinds_from,
    known_from,
    state_columns,
)

_AFTER_CONTENT = Enqueued._fields.index("content") + 1
"""From there on the fields are those of the statement `enqueue`, in order."""

_OF_NO_ROW = [("", "")]
"""An empty list is no list of pairs."""

_RECORDS_AT_ONCE = 20_000
"""Records searched by one statement, at most: some 30 ms of SQLite's only thread."""

_ALL_MET = 0xFF
"""A byte of a sweep's bitmap with all bits set."""


@dataclass
class Capture:
    """See the module's text."""

    driver: Driver

    async def pending(self, watch: str, at_once: int) -> AsyncIterator[dict[str, Key]]:
        """The watch's applications with a pending entry, each with its row's key, in parts of at most so many."""
        after, is_over = "", False
        while not is_over:
            rows = await self.driver.ask("entries_after", watch=watch, after=after, limit=at_once)
            yield {application_id: key_from(text) for application_id, state, text in rows if state == "pending"}
            after, is_over = rows[-1][0] if rows else "", len(rows) < at_once

    async def postpone(self, watch: str, application_ids: Sequence[str], due_at: int) -> None:
        """Let these pending entries wait until a time."""
        rows = [(watch, application_id, due_at) for application_id in sorted(application_ids)]
        await self.driver.transact(lambda t: t.write("hasten", rows))

    async def positions(self, watch: str) -> dict[str, str]:
        """The watch's capture positions by name."""
        return dict(await self.driver.ask("positions", watch=watch))

    async def knows_any(self, watch: str) -> bool:
        """Whether any application of the watch was ever recorded."""
        ((found,),) = await self.driver.ask("knows_any", watch=watch)
        return bool(found)

    async def known(self, watch: str, application_ids: Sequence[str]) -> dict[str, Known]:
        """What is known of these applications."""
        rows = await self.driver.ask("before", watch=watch, ids=list(application_ids), rows=_OF_NO_ROW)
        return {row[1]: known_from(row) for row in rows}

    async def known_elsewhere(self, watches: Sequence[str], application_ids: Sequence[str]) -> States:
        """The newest state of these applications in some watches, without those that have an entry there.

        Each watch may have each of them: in parts, between which the store does other work.
        """
        ids, found = list(application_ids), dict[str, Content]()
        at_once = max(_RECORDS_AT_ONCE // max(len(watches), 1), 1)
        for first in range(0, len(ids), at_once):
            some = ids[first : first + at_once]
            found |= _states(await self.driver.ask("known_elsewhere", ids=some, watches=list(watches)))
        return found

    async def compare(self, watch: str, digests: str) -> list[int]:
        """A number for each row of a page of digests (`source.mapping`), in order.

        The record's, if it was verified with this digest and has no pending entry. 0: nothing to do. -1: read it.
        """
        rows = await self.driver.ask("compare", watch=watch, digests=digests)
        found: list[int] = json.loads(rows[0][0] or "[]")
        return found

    async def verify(self, watch: str, verified: Sequence[Verified]) -> None:
        """Keep the digests of unchanged rows, until a change or another row of the record.

        PostgreSQL leaves out rows that a batch holds.
        """
        of_nothing = (None, None, None)
        rows = [
            (watch, each.application_id, key_text(each.key), each.digest, *(each.content or of_nothing)[:3])
            for each in sorted(verified, key=attrgetter("application_id"))
        ]
        await self.driver.transact(lambda t: t.write("verify", rows))

    async def unseen(self, watch: str, bitmap: bytes, last: int, at_once: int) -> AsyncIterator[list[str]]:
        """The watch's applications, numbered 1 to `last`, without a set bit in a sweep's bitmap.

        In parts of at most `at_once` records, without deleted ones and those out of scope. The cost grows with the
        watch.
        """
        if 2 * int.from_bytes(bitmap, "little").bit_count() >= last:
            for first in range(1, last + 1, at_once):
                numbers = unmarked(bitmap, first, min(first + at_once - 1, last))
                rows = await self.driver.ask("unseen", watch=watch, numbers=numbers) if numbers else ()
                yield [application_id for (application_id,) in rows]
            return
        # Most unmarked numbers belong to other watches.
        after, is_over = "", False
        while not is_over:
            rows = await self.driver.ask("in_scope_after", watch=watch, after=after, limit=at_once)
            yield [id_ for id_, number in rows if number <= last and not bitmap[number >> 3] >> (number & 7) & 1]
            after, is_over = rows[-1][0] if rows else "", len(rows) < at_once

    async def highest_number(self) -> int:
        """The highest record number; 0 if there is none."""
        ((number,),) = await self.driver.ask("highest_number")
        return int(number)

    async def apply(self, rules: WatchRules, batch: Batch, calls: Calls = NO_CALLS) -> Applied:
        """Decide about a batch and write it; meanwhile no call of its applications begins."""
        batch = replace(batch, shift=self.driver.clock.shift)
        watch = rules.watch
        elsewhere = await self._states_elsewhere(watch, batch)
        # Without a pause before the transaction's place in the order is fixed.
        applying = calls.begin_apply(watch, batch.application_ids)
        work = partial(_apply, rules=rules, batch=batch, elsewhere=elsewhere, applying=applying)
        return await self.driver.transact(work, partial(calls.end_apply, applying))

    async def _states_elsewhere(self, watch: str, batch: Batch) -> States:
        """What other watches know of the applications that would be sent as new ones.

        Outside the batch's transaction. What changes meanwhile is compared when the other watch hands it over.
        """
        ids = batch.application_ids
        if batch.unseen == "adopt" or not batch.others or not ids:
            return NO_STATES
        recorded = {id_ for (id_,) in await self.driver.ask("recorded", watch=watch, ids=ids)}
        return await self.known_elsewhere(batch.others, [id_ for id_ in ids if id_ not in recorded])

    async def due_suspicions(self, watch: str, now: int, limit: int, *, horizon: int) -> list[Suspicion]:
        """Suspicions after their grace, oldest first; also those due over `horizon` ms ahead, by a wrong clock."""
        rows = await self.driver.ask("due_suspicions", watch=watch, now=now, latest=now + horizon, limit=limit)
        return [Suspicion(*row) for row in rows]

    async def suspected(self, watch: str, application_ids: Sequence[str]) -> set[str]:
        """Which of these applications are suspected to be deleted."""
        rows = await self.driver.ask("suspected", watch=watch, ids=list(application_ids))
        return {application_id for (application_id,) in rows}

    async def suspect_again(self, watch: str, suspicions: Sequence[Suspicion]) -> None:
        """Suspect deletions whose entries are still pending."""
        rows = [(watch, each.application_id, each.at, each.due_at) for each in suspicions]
        await self.driver.transact(lambda t: t.write("suspect", rows))

    async def next_suspicion(self, watch: str) -> int | None:
        """When the next suspicion's grace ends."""
        ((due_at,),) = await self.driver.ask("next_suspicion", watch=watch)
        return None if due_at is None else int(due_at)

    async def blow_fuse(self, watch: str, reason: str, now: int) -> None:
        """Hold everything new of a watch until a person decides. A blown fuse stays as it is."""

        async def work(transaction: Transaction) -> None:
            await transaction.run("add_watch", watch=watch)
            ((fuse,),) = await transaction.rows("fuse", watch=watch)
            blown = blow(fuse_from(fuse), now, reason)._replace(holds_all=True)
            await transaction.run("set_fuse", watch=watch, fuse=fuse_text(blown))

        await self.driver.transact(work)


def unmarked(bitmap: bytes, first: int, last: int) -> list[int]:
    """The numbers from `first` to `last` without a set bit: n's is bit n & 7 of byte n >> 3."""
    found: list[int] = []
    for place, byte in enumerate(bitmap[first >> 3 : (last >> 3) + 1], start=first >> 3):
        if byte != _ALL_MET:
            found += [
                number for bit in range(8) if not byte >> bit & 1 and first <= (number := place << 3 | bit) <= last
            ]
    return found


async def _apply(
    transaction: Transaction, *, rules: WatchRules, batch: Batch, elsewhere: States, applying: Applying
) -> Applied:
    """Apply a batch."""
    watch = rules.watch
    rows = await transaction.rows("fuse", watch=watch)
    if not rows:
        await transaction.run("add_watch", watch=watch)
    before = await _before(transaction, watch, batch, applying)
    before_fuse = fuse_from(rows[0][0] if rows else None)
    plan = plan_batch(rules, batch, before, before_fuse, elsewhere)
    if plan.is_empty:
        await transaction.run("need_no_flush")
        return Applied(unresolved=plan.unresolved)
    await _write(transaction, watch, batch, plan)
    attempted = await _replace_rivals(transaction, watch, batch, plan, applying)
    await _mark_attempted(transaction, watch, plan, attempted | _begun(before, applying))
    if (after := plan.fuse or before_fuse).blown_at is not None:
        await mend(transaction, watch, after)
    suspected: frozenset[str] = frozenset()
    if plan.out_of_scope or plan.answered or plan.suspicions or plan.postponed or plan.skips:
        suspected = await _note(transaction, watch, batch, plan)
    await transaction.write("set_position", [(watch, name, value) for name, value in plan.positions.items()])
    entries = _entries(watch, plan, before, attempted)
    corrected = frozenset(each.endpoint for each in plan.refreshed)
    return Applied(plan.results, entries, plan.unresolved, suspected, plan.skips, written=True, corrected=corrected)


def _entries(watch: str, plan: BatchPlan, before: Mapping[str, Known], attempted: Collection[str]) -> list[Entry]:
    """The enqueued entries that are sent, as they are written."""
    found = []
    for each in plan.enqueued:
        if each.state != "pending":
            continue
        id_, known = each.application_id, before.get(each.application_id)
        found.append(
            Entry(
                watch=watch,
                application_id=id_,
                content=each.content,
                kinds=kinds_from(each.kinds),
                state=each.state,
                revision=1 + (0 if known is None else known.revision),
                queued_at=each.at,
                due_at=each.due_at,
                attempted=id_ in attempted or (known is not None and _is_attempted(known)),
                attempts=0,
                first_attempt_at=None,
                not_found_since=None,
                reason=each.reason,
            )
        )
    return found


async def _before(transaction: Transaction, watch: str, batch: Batch, applying: Applying) -> dict[str, Known]:
    """What is known of the batch's applications and rows."""
    ids, before = batch.application_ids, dict[str, Known]()
    # Each row with its id, to find another application that the row represented last.
    old = () if batch.rows_are_new else batch.observations
    rows = [(key_text(each.key), each.application_id or "") for each in old]
    keys = {text: each.key for (text, _), each in zip(rows, old, strict=True)}
    rows += [(key_text(key), "") for key in batch.gone]
    if not ids and not rows:
        return before
    for row in await transaction.rows("before", watch=watch, ids=ids, rows=rows or _OF_NO_ROW):
        before[row[1]] = known_from(row, keys, has_begun=applying.has_begun(watch, row[1], row[15], row[10]))
    return before


def _states(rows: Sequence[tuple[Any, ...]]) -> dict[str, Content]:
    """See `Capture.known_elsewhere`."""
    found: dict[str, Content] = {}
    with_entry: set[str] = set()
    for id_, *columns, adopted, has_entry in rows:
        if has_entry:
            with_entry.add(id_)
        content = content_from(*columns)
        # HelloWork never received the deletion of a row that was left to another watch.
        if content is not None and not (adopted and content.deleted):
            found[id_] = content  # the last one is the newest
    return {id_: content for id_, content in found.items() if id_ not in with_entry}


async def _replace_rivals(
    transaction: Transaction, watch: str, batch: Batch, plan: BatchPlan, applying: Applying
) -> set[str]:
    """Remove the entries of the other watches with the same credentials that newer states of this watch replace.

    Returns the applications of those that were attempted: a reverted state must be sent, too.
    """
    ids = [each.application_id for each in plan.enqueued]
    if not ids or not batch.others:
        return set()
    rivals = await transaction.rows("rivals", ids=ids, watches=list(batch.others))
    await transaction.write("remove", [(of, id_) for of, id_, *_ in rivals])
    await transaction.write("add_history", [moved(of, id_, watch, batch) for of, id_, *_ in rivals])
    return {id_ for of, id_, attempted, *which in rivals if attempted or applying.has_begun(of, id_, *which)}


def _begun(before: Mapping[str, Known], applying: Applying) -> set[str]:
    """The applications whose entries are under way."""
    return {id_ for id_ in applying.begun.keys() & before.keys() if _is_attempted(before[id_])}


def _is_attempted(known: Known) -> bool:
    return known.pending is not None and known.pending.attempted


async def _mark_attempted(transaction: Transaction, watch: str, plan: BatchPlan, attempted: set[str]) -> None:
    """Note in changed entries that HelloWork may have received, or may be receiving, something else before.

    So whatever becomes of that call, and of this process, they are not cancelled before it is acknowledged.
    """
    changed = {each.application_id for each in plan.enqueued} | {each.application_id for each in plan.refreshed}
    await transaction.write("mark_attempted", [(watch, id_) for id_ in sorted(changed & attempted)])


async def _write(transaction: Transaction, watch: str, batch: Batch, plan: BatchPlan) -> None:
    """Write the decisions about states."""
    write, at = transaction.write, batch.now + batch.shift
    handed_over = [(watch, *each) for each in plan.handed_over]
    await write("look_again", handed_over)
    await write("hand_over", handed_over)
    await write("seen_new", [(watch, each.application_id, key_text(each.key)) for each in plan.new])
    await write(
        "adopt_new",
        [
            (watch, each.application_id, key_text(each.key), *state_columns(each.content), at, each.digest)
            for each in plan.adopted
        ],
    )
    await write("move", [(watch, each.application_id, key_text(each.key)) for each in plan.moved])
    await write(
        "acknowledge",
        [(watch, each.application_id, *state_columns(each.content), at, True) for each in plan.acknowledged],
    )
    await write("remove", [(watch, application_id) for application_id in (*plan.cancelled, *plan.forgotten)])
    await write("forget_application", [(watch, application_id) for application_id in plan.forgotten])
    await write(
        "enqueue",
        [
            (
                watch,
                each.application_id,
                *state_columns(each.content),
                *each[_AFTER_CONTENT:-2],
                each.reason and as_text(each.reason),
                each.endpoint,
            )
            for each in plan.enqueued
        ],
    )
    await write(
        "refresh",
        [(watch, each.application_id, state_columns(each.content)[-1], each.endpoint) for each in plan.refreshed],
    )
    await write("add_history", plan.history)
    await write("add_endpoint", [(endpoint,) for endpoint in sorted(plan.endpoints)])
    # All records are made here, and removed here or by `forget`.
    new = len(plan.new) + len(plan.adopted) - len(plan.forgotten)
    changed = any(not isinstance(one.decision, Adopt) for one in plan.results)
    if new or changed:
        fuse = None if plan.fuse is None else fuse_text(plan.fuse)  # it counts nothing that is no change
        await write("tally", [(new, at if changed else None, fuse, watch)])


async def _note(transaction: Transaction, watch: str, batch: Batch, plan: BatchPlan) -> frozenset[str]:
    """Write scope, suspicions and unreportable rows; returns the new suspicions' applications."""
    write, at = transaction.write, batch.now + batch.shift
    await write("leave_scope", [(watch, application_id) for application_id in sorted(plan.out_of_scope)])
    if plan.answered:
        await transaction.run("answer", watch=watch, ids=plan.answered)
    await write("postpone", [(watch, each.application_id, each.due_at) for each in plan.postponed])
    await write("hasten", [(watch, each.application_id, each.due_at + ANSWERED_WITHIN) for each in plan.waiting])
    new: list[Suspicion] = []
    if plan.suspicions:
        ids = [suspicion.application_id for suspicion in plan.suspicions]
        already = {row[0] for row in await transaction.rows("suspected", watch=watch, ids=ids)}
        new = [suspicion for suspicion in plan.suspicions if suspicion.application_id not in already]
        await write("suspect", [(watch, each.application_id, each.at, each.due_at) for each in new])
        detail = as_json({"by": batch.origin})
        await write("add_history", [HistoryLine(at, watch, each.application_id, "suspected", detail) for each in new])
    if cleared := [key_text(skip.key) for skip in plan.skips if skip.reason is None]:
        await transaction.run("unskip", watch=watch, keys=cleared)
    skipped = [skip for skip in plan.skips if skip.reason is not None]
    await write(
        "skip", [(watch, key_text(each.key), each.application_id, as_text(each.reason), at) for each in skipped]
    )
    return frozenset([each.application_id for each in new])

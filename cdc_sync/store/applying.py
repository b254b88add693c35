"""The transaction that applies a batch of observations.

The transaction that writes an observation also decides about it (decision 4). Otherwise the sender could send an entry
between its reading and its cancelling. The decisions are the core's (`plan_batch`); here is how they are written.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cdc_sync.core.batch import (
    Applied,
    Batch,
    BatchPlan,
    Enqueued,
    HistoryEntry,
    States,
    accounts_of,
    moved,
    plan_batch,
)
from cdc_sync.core.outbox import ANSWERED_WITHIN, Applying, Entry, Known
from cdc_sync.core.reasons import as_text
from cdc_sync.core.rows import WatchRules
from cdc_sync.core.status_url import account_of
from cdc_sync.store.delivery import mend
from cdc_sync.store.driver import Transaction, add_history
from cdc_sync.store.encoding import fuse_from, fuse_text, key_text, kinds_from, known_from, state_columns

OF_NO_ROW = [("", "")]
"""An empty list is no list of pairs."""


async def apply(
    transaction: Transaction, *, rules: WatchRules, batch: Batch, elsewhere: States, applying: Applying
) -> Applied:
    """Decide about a batch and write it. `elsewhere`: see `plan_batch`."""
    watch = rules.watch
    rows = await transaction.rows("fuse", watch=watch)
    if not rows:
        await transaction.run("add_watch", watch=watch)
    before = await _before(transaction, watch, batch, applying)
    fuse = fuse_from(rows[0][0] if rows else None)
    of_accounts = {}
    if accounts := accounts_of(rules, batch, before):
        counted = await transaction.rows("fuses_of_accounts", watch=watch, accounts=sorted(accounts))
        of_accounts = {account: fuse_from(text) for account, text in counted}
    plan = plan_batch(rules, batch, before, fuse, elsewhere, of_accounts=of_accounts)
    if plan.is_empty:
        await transaction.run("need_no_flush")
        return Applied(unresolved=plan.unresolved)
    writing = _Writing(transaction, watch, batch, plan)
    await writing.records()
    await writing.entries()
    rivals = await _replace_rivals(transaction, watch, batch, plan)
    attempted = {each.application_id for each in rivals if each.attempted or applying.has_begun(*each.call)}
    await writing.attempted(attempted | {id_ for id_, known in before.items() if _is_attempted(known)})
    await writing.tally()
    if (after := plan.fuse or fuse).blown_at is not None:
        await mend(transaction, watch, after)
    await writing.scope()
    suspected = await writing.suspicions()
    await writing.skips()
    await writing.each("set_position", plan.positions.items())
    entries = _entries(watch, plan, before, attempted)
    corrected = frozenset(each.endpoint for each in plan.refreshed)
    return Applied(
        plan.results,
        entries,
        plan.unresolved,
        suspected,
        plan.skips,
        written=True,
        corrected=corrected,
        replaced=[(each.watch, each.application_id) for each in rivals],
    )


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
    for row in await transaction.rows("before", watch=watch, ids=ids, rows=rows or OF_NO_ROW):
        before[row[1]] = known_from(row, keys, has_begun=applying.has_begun(watch, row[1], row[15], row[10]))
    return before


def _is_attempted(known: Known) -> bool:
    return known.pending is not None and known.pending.attempted


class _Rival(NamedTuple):
    """Another watch's entry of the same account and application. If it was attempted, a reverted state must be sent."""

    watch: str
    application_id: str
    endpoint: str
    attempted: bool
    revision: int
    status: str

    @property
    def call(self) -> tuple[str, str, int, str]:
        """See `Applying.has_begun`."""
        return self.watch, self.application_id, self.revision, self.status


async def _replace_rivals(transaction: Transaction, watch: str, batch: Batch, plan: BatchPlan) -> list[_Rival]:
    """Remove the other watches' entries that newer states of this watch replace; returns them."""
    accounts = {each.application_id: each.content.account for each in plan.enqueued}
    if not accounts or not batch.others:
        return []
    rows = await transaction.rows("rivals", ids=list(accounts), watches=list(batch.others))
    rivals = [each for each in map(_Rival._make, rows) if account_of(each.endpoint) == accounts[each.application_id]]
    await transaction.write("remove", [each[:2] for each in rivals])
    await add_history(transaction, [moved(each.watch, each.application_id, watch, batch) for each in rivals])
    return rivals


def _entries(watch: str, plan: BatchPlan, before: Mapping[str, Known], attempted: Collection[str]) -> list[Entry]:
    """The enqueued entries that are sent, as they are written."""
    return [
        _entry(watch, each, before.get(each.application_id), was_attempted=each.application_id in attempted)
        for each in plan.enqueued
        if each.state == "pending"
    ]


def _entry(watch: str, enqueued: Enqueued, known: Known | None, *, was_attempted: bool) -> Entry:
    return Entry(
        watch=watch,
        application_id=enqueued.application_id,
        content=enqueued.content,
        kinds=kinds_from(enqueued.kinds),
        state=enqueued.state,
        revision=1 + (0 if known is None else known.revision),
        queued_at=enqueued.at,
        due_at=enqueued.due_at,
        attempted=was_attempted or (known is not None and _is_attempted(known)),
        attempts=0,
        first_attempt_at=None,
        not_found_since=None,
        reason=enqueued.reason,
    )


@dataclass(slots=True)
class _Writing:
    """Writes what was decided about a batch; each step is some statements."""

    transaction: Transaction
    watch: str
    batch: Batch
    plan: BatchPlan

    @property
    def at(self) -> int:
        """The batch's time, for people."""
        return self.batch.now + self.batch.shift

    async def each(self, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement for rows of the watch."""
        await self.transaction.write(name, [(self.watch, *row) for row in rows])

    async def records(self) -> None:
        """What is known of applications."""
        plan, at = self.plan, self.at
        await self.each("look_again", plan.handed_over)
        await self.each("hand_over", plan.handed_over)
        await self.each("seen_new", [(one.application_id, key_text(one.key)) for one in plan.new])
        adopted = [
            (one.application_id, key_text(one.key), *state_columns(one.content), at, one.digest) for one in plan.adopted
        ]
        await self.each("adopt_new", adopted)
        await self.each("move", [(one.application_id, key_text(one.key)) for one in plan.moved])
        acknowledged = [(one.application_id, *state_columns(one.content), at, True) for one in plan.acknowledged]
        await self.each("acknowledge", acknowledged)
        await self.each("remove", [(id_,) for id_ in (*plan.cancelled, *plan.forgotten)])
        await self.each("forget_application", [(id_,) for id_ in plan.forgotten])

    async def entries(self) -> None:
        """What is to be sent, and the history of it."""
        plan, write = self.plan, self.transaction.write
        await self.each("enqueue", [_enqueued(one) for one in plan.enqueued])
        refreshed = [(one.application_id, state_columns(one.content)[-1], one.endpoint) for one in plan.refreshed]
        await self.each("refresh", refreshed)
        await add_history(self.transaction, plan.history)
        await write("add_endpoint", [(endpoint,) for endpoint in sorted(plan.endpoints)])

    async def attempted(self, ids: set[str]) -> None:
        """Note in changed entries that HelloWork may have received, or may be receiving, something else before.

        So whatever becomes of that call, and of this process, they are not cancelled before it is acknowledged.
        """
        changed = {one.application_id for one in self.plan.enqueued}
        changed |= {one.application_id for one in self.plan.refreshed}
        await self.each("mark_attempted", [(id_,) for id_ in sorted(changed & ids)])

    async def tally(self) -> None:
        """The watch's numbers. All records are made here, and removed here or by a person."""
        plan = self.plan
        new = len(plan.new) + len(plan.adopted) - len(plan.forgotten)
        is_changed = any(one.decision != "adopt" for one in plan.results)
        if new or is_changed:
            fuse = None if plan.fuse is None else fuse_text(plan.fuse)  # it counts nothing that is no change
            await self.transaction.write("tally", [(new, self.at if is_changed else None, fuse, self.watch)])
        await self.each(
            "set_account_fuse", [(name, fuse_text(each)) for name, each in sorted(plan.of_accounts.items())]
        )

    async def scope(self) -> None:
        """Applications without a row in scope, and answers about those whose row was missed."""
        plan = self.plan
        await self.each("leave_scope", [(id_,) for id_ in sorted(plan.out_of_scope)])
        if plan.answered:
            await self.transaction.run("answer", watch=self.watch, ids=plan.answered)
        await self.each("postpone", [(one.application_id, one.due_at) for one in plan.postponed])
        await self.each("hasten", [(one.application_id, one.due_at + ANSWERED_WITHIN) for one in plan.waiting])

    async def suspicions(self) -> frozenset[str]:
        """Suspected deletions; returns the new ones' applications."""
        ids = [one.application_id for one in self.plan.suspicions]
        if not ids:
            return frozenset()
        already = {row[0] for row in await self.transaction.rows("suspected", watch=self.watch, ids=ids)}
        new = [one for one in self.plan.suspicions if one.application_id not in already]
        await self.each("suspect", [(one.application_id, one.at, one.due_at) for one in new])
        detail = {"by": self.batch.origin}
        lines = [HistoryEntry(self.at, self.watch, one.application_id, "suspected", detail) for one in new]
        await add_history(self.transaction, lines)
        return frozenset(one.application_id for one in new)

    async def skips(self) -> None:
        """Rows that cannot be reported, and those that can be again."""
        skips = self.plan.skips
        if reported := [key_text(skip.key) for skip in skips if skip.reason is None]:
            await self.transaction.run("unskip", watch=self.watch, keys=reported)
        skipped = [
            (key_text(skip.key), skip.application_id, as_text(skip.reason), self.at)
            for skip in skips
            if skip.reason is not None
        ]
        await self.each("skip", skipped)


def _enqueued(one: Enqueued) -> tuple[Any, ...]:
    """The columns of the statement `enqueue` after the watch."""
    reason = one.reason and as_text(one.reason)
    state = one.kinds, one.state, one.at, one.due_at, reason, one.endpoint
    return one.application_id, *state_columns(one.content), *state

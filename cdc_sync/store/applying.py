"""The transaction that applies a batch of observations.

The transaction that writes an observation also decides about it (decision 4). Otherwise the sender could send an entry
between its reading and its cancelling. The decisions are the core's (`plan_batch`); here is how they are written.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cdc_sync.core.batch import (
    Applied,
    Batch,
    BatchPlan,
    Fuses,
    HistoryEntry,
    States,
    accounts_of,
    moved,
    plan_batch,
)
from cdc_sync.core.diff import Fuse
from cdc_sync.core.outbox import ANSWERED_WITHIN, NOWHERE, Applying, Entry, Known, Suspicion
from cdc_sync.core.reasons import as_text
from cdc_sync.core.rows import Reportable, WatchRules
from cdc_sync.core.status_url import account_of
from cdc_sync.store.delivery import mend
from cdc_sync.store.driver import Row, Transaction, add_history
from cdc_sync.store.encoding import fuse_from, fuse_text, key_text, known_from, state_columns

OF_NO_ROW = [("", "")]
"""An empty list is no list of pairs."""


async def apply(
    transaction: Transaction, *, rules: WatchRules, batch: Batch, elsewhere: States, applying: Applying
) -> Applied:
    """Decide about a batch and write it. `elsewhere`: see `plan_batch`."""
    watch = rules.watch
    before = await _before(transaction, watch, batch, applying)
    fuse, of_accounts = await _fuses(transaction, watch, accounts_of(rules, batch, before))
    plan = plan_batch(rules, batch, before, fuse, elsewhere, of_accounts=of_accounts)
    if plan.is_empty:
        await transaction.run("need_no_flush")
        return Applied(unresolved=plan.unresolved)
    rivals = await _remove_rivals(transaction, batch, plan)
    suspected = await _new_suspicions(transaction, watch, plan)
    attempted = _attempted(before, rivals, applying)
    at = batch.now + batch.shift
    for name, rows in (*_changes(plan, batch.now, at), *_outcomes(plan, attempted, suspected, at)):
        await transaction.write(name, [(watch, *row) for row in rows])
    sent = {each.content.endpoint for each in plan.enqueued if each.state == "pending"}
    corrected = {each.content.endpoint for each in plan.refreshed}
    await transaction.write("add_endpoint", [(endpoint,) for endpoint in sorted(sent | corrected)])
    lines = [moved(each.watch, each.application_id, watch, batch) for each in rivals]
    lines += [HistoryEntry(at, watch, one.application_id, "suspected", {"by": batch.origin}) for one in suspected]
    await add_history(transaction, [*plan.history, *lines])
    await _tally(transaction, watch, plan, at, fuse)
    await mend(transaction, watch, plan.fuse)
    entries = [each for each in plan.enqueued if each.state == "pending"]
    entries = [each._replace(attempted=True) if each.application_id in attempted else each for each in entries]
    return _applied(plan, entries, suspected, rivals)


async def _before(transaction: Transaction, watch: str, batch: Batch, applying: Applying) -> dict[str, Known]:
    """What is known of the batch's applications and rows."""
    ids = batch.application_ids
    # Each row with its id, to find another application that the row represented last.
    old = () if batch.rows_are_new else batch.observations
    rows = [(key_text(each.key), each.application_id or "") for each in old]
    rows += [(key_text(key), "") for key in batch.gone]
    if not ids and not rows:
        return {}
    found = await transaction.rows("before", watch=watch, ids=ids, rows=rows or OF_NO_ROW)
    begun = {row[1]: applying.has_begun(watch, row[1], row[15], row[10]) for row in found}
    return {row[1]: known_from(row, has_begun=begun[row[1]]) for row in found}


async def _fuses(transaction: Transaction, watch: str, accounts: Collection[str]) -> tuple[Fuse, Fuses]:
    """The watch's fuse, and those of these accounts. The watch gets its row."""
    rows = await transaction.rows("fuse", watch=watch)
    if not rows:
        await transaction.run("add_watch", watch=watch)
    fuse = fuse_from(rows[0][0] if rows else None)
    if not accounts:
        return fuse, {}
    counted = await transaction.rows("fuses_of_accounts", watch=watch, accounts=sorted(accounts))
    return fuse, {account: fuse_from(text) for account, text in counted}


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


async def _remove_rivals(transaction: Transaction, batch: Batch, plan: BatchPlan) -> list[_Rival]:
    """Remove the other watches' entries that newer states of this watch replace; returns them."""
    accounts = {each.application_id: each.content.account for each in plan.enqueued}
    if not accounts or not batch.others:
        return []
    rows = await transaction.rows("rivals", ids=list(accounts), watches=list(batch.others))
    rivals = [each for each in map(_Rival._make, rows) if account_of(each.endpoint) == accounts[each.application_id]]
    await transaction.write("remove", [each[:2] for each in rivals])
    return rivals


def _attempted(before: Mapping[str, Known], rivals: Sequence[_Rival], applying: Applying) -> set[str]:
    """The applications of which HelloWork may have received, or may be receiving, a state that is not acknowledged."""
    found = {each.application_id for each in rivals if each.attempted or applying.has_begun(*each.call)}
    return found | {id_ for id_, known in before.items() if known.pending is not None and known.pending.attempted}


async def _new_suspicions(transaction: Transaction, watch: str, plan: BatchPlan) -> list[Suspicion]:
    """Those of applications that were not suspected before."""
    ids = [one.application_id for one in plan.suspicions]
    rows = await transaction.rows("suspected", watch=watch, ids=ids) if ids else ()
    already = {id_ for (id_,) in rows}
    return [one for one in plan.suspicions if one.application_id not in already]


_Changes = list[tuple[str, Sequence[Row]]]
"""Statements in their order, each with its rows, without the watch."""


def _changes(plan: BatchPlan, now: int, at: int) -> _Changes:
    """What becomes known of applications, and what is to be sent; `at` is the batch's time, for people."""
    adopted = [(key_text(one.key), state_columns(one.content), one) for one in plan.adopted]
    return [
        ("look_again", [(*each, now) for each in plan.handed_over.items()]),
        ("hand_over", list(plan.handed_over.items())),
        ("seen_new", [(one.application_id, key_text(one.key)) for one in plan.new]),
        ("adopt_new", [(one.application_id, key, *state, at, one.digest) for key, state, one in adopted]),
        ("move", [(one.application_id, key_text(one.key)) for one in plan.moved]),
        (
            "acknowledge",
            [(one.application_id, *state_columns(one.content), at, True) for one in plan.acknowledged],
        ),
        ("remove", [(id_,) for id_ in (*plan.cancelled, *plan.forgotten)]),
        ("forget_application", [(id_,) for id_ in plan.forgotten]),
        ("enqueue", [_enqueued(one) for one in plan.enqueued]),
        ("refresh", [_refreshed(one) for one in plan.refreshed]),
    ]


def _outcomes(plan: BatchPlan, attempted: Collection[str], suspected: Sequence[Suspicion], at: int) -> _Changes:
    """What else a batch leaves behind.

    Changed entries that were `attempted`: HelloWork may have received, or may be receiving, something else before. So
    whatever becomes of that call, and of this process, they are not cancelled before it is acknowledged.
    """
    changed = {one.application_id for one in plan.enqueued} | {one.application_id for one in plan.refreshed}
    skipped = [skip for skip in plan.skips if skip.reason is not None]
    return [
        ("mark_attempted", [(id_,) for id_ in sorted(changed.intersection(attempted))]),
        ("leave_scope", [(id_,) for id_ in sorted(plan.out_of_scope)]),
        ("answer", [(id_,) for id_ in plan.answered]),
        ("postpone", [(one.application_id, one.due_at) for one in plan.postponed]),
        ("hasten", [(one.application_id, one.due_at + ANSWERED_WITHIN) for one in plan.waiting]),
        ("suspect", [(one.application_id, one.at, one.due_at) for one in suspected]),
        ("unskip", [(key_text(skip.key),) for skip in plan.skips if skip.reason is None]),
        ("skip", [(key_text(skip.key), skip.application_id, as_text(skip.reason), at) for skip in skipped]),
        ("set_position", list(plan.positions.items())),
        ("set_account_fuse", [(name, fuse_text(each)) for name, each in sorted(plan.of_accounts.items())]),
    ]


def _refreshed(one: Reportable) -> Row:
    """The columns of the statement `refresh` after the watch."""
    return one.application_id, state_columns(one.content)[-1], one.content.endpoint


def _enqueued(one: Entry) -> Row:
    """The columns of the statement `enqueue` after the watch."""
    endpoint = NOWHERE if one.state == "dead" else one.content.endpoint
    state = (
        " ".join(sorted(one.kinds)),
        one.state,
        one.queued_at,
        one.due_at,
        one.reason and as_text(one.reason),
        endpoint,
    )
    return one.application_id, *state_columns(one.content), *state


async def _tally(transaction: Transaction, watch: str, plan: BatchPlan, at: int, fuse: Fuse) -> None:
    """Write the watch's numbers. All records are made here, and removed here or by a person."""
    new = len(plan.new) + len(plan.adopted) - len(plan.forgotten)
    is_changed = any(one.decision != "adopt" for one in plan.results)
    if new or is_changed:
        counted = None if plan.fuse == fuse else fuse_text(plan.fuse)
        await transaction.write("tally", [(new, at if is_changed else None, counted, watch)])


def _applied(
    plan: BatchPlan, entries: Sequence[Entry], suspected: Sequence[Suspicion], rivals: Sequence[_Rival]
) -> Applied:
    return Applied(
        plan.results,
        entries,
        plan.unresolved,
        frozenset(one.application_id for one in suspected),
        plan.skips,
        written=True,
        corrected=frozenset(each.content.endpoint for each in plan.refreshed),
        replaced=[(each.watch, each.application_id) for each in rivals],
    )

"""The store for capture: the databases, what is known, and batches of observations.

The transaction that writes an observation also decides about it (decision 4). Otherwise the sender could send an entry
between its reading and its cancelling. The decisions are the core's (`plan_batch`); here is how they are written.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter

from cdc_sync.core.batch import NO_CALLS, Applied, Batch, BesideApply, HistoryEntry
from cdc_sync.core.content import Content
from cdc_sync.core.elsewhere import Inheritance, Other, Others
from cdc_sync.core.events import PersonActed
from cdc_sync.core.findings import host_name
from cdc_sync.core.fuse import Fuse, blow
from cdc_sync.core.outbox import Applying, Entry, Known, Suspicion, Verified
from cdc_sync.core.plan import BatchPlan, accounts_of, moved, plan_batch
from cdc_sync.core.reasons import as_text
from cdc_sync.core.rows import Key, WatchRules

from .acts import mend
from .driver import Role, Row, Transaction, add_history, job, known_in, note, pages, value
from .encoding import (
    address_columns,
    as_json,
    enqueue_columns,
    key_from,
    key_text,
    known_from,
    of_json,
    state_columns,
    stored_from,
    stored_text,
)
from .errors import another_database, refuse_copy

FROM_DATABASE = "database"
"""The capture position with a watch's database; the section `database` has no name."""


class Capture(Role):
    """See the module's text."""

    async def pending(self, watch: str, at_once: int) -> AsyncIterator[dict[str, Key]]:
        """The watch's applications with a pending entry, each with its row's key, in parts of at most so many."""
        async for rows in pages(self.driver, "entries_after", watch, at_once):
            yield {application_id: key_from(text) for application_id, state, text in rows if state == "pending"}

    async def positions(self, watch: str) -> dict[str, str]:
        """The watch's capture positions by name."""
        return dict(await self.driver.run("positions", watch=watch))

    async def known(self, watch: str, application_ids: Sequence[str]) -> dict[str, Known]:
        """What is known of these applications."""
        return await self.driver.transact(lambda t: known_in(t, watch, application_ids))

    async def compare(self, watch: str, digests: str) -> list[int]:
        """A number for each row of a page of digests (`ats.mapping`), in order.

        The record's, if it was verified with this digest and has no entry. 0: nothing to do. -1: read it.
        """
        return [number for (number,) in await self.driver.run("compare", watch=watch, digests=digests)]

    async def verify(self, watch: str, verified: Sequence[Verified]) -> None:
        """Keep the digests of unchanged rows, until a change or another row of the record."""
        of_nothing = (None, None, None)
        rows = [
            (watch, each.application_id, key_text(each.key), each.digest, *(each.content or of_nothing)[:3])
            for each in sorted(verified, key=attrgetter("application_id"))
        ]
        await self.driver.write("verify", rows)

    async def unmet(self, watch: str, bitmap: bytes, last: int, at_once: int) -> AsyncIterator[list[str]]:
        """The watch's applications, numbered 1 to `last`, without a set bit in a sweep's bitmap.

        In parts of at most `at_once` records, without deleted ones and those out of scope. The cost grows with the
        watch.
        """
        async for rows in pages(self.driver, "in_scope_after", watch, at_once):
            yield [id_ for id_, number in rows if number <= last and not bitmap[number >> 3] >> (number & 7) & 1]

    async def highest_number(self) -> int:
        """The highest record number; 0 if there is none."""
        return int(await self.driver.value("highest_number"))

    async def apply(self, rules: WatchRules, batch: Batch, beside: BesideApply = NO_CALLS) -> Applied:
        """Decide about a batch and write it; meanwhile no call of its applications begins."""
        batch = batch._replace(shift=self.driver.clock.shift)
        # Without a pause before the transaction's place in the order is fixed.
        applying = beside.begin_apply(rules.watch, batch.application_ids)
        work = partial(_apply, rules=rules, batch=batch, applying=applying)
        return await self.driver.transact(work, partial(beside.end_apply, applying))

    async def due_suspicions(self, watch: str, now: int, limit: int) -> list[Suspicion]:
        """Suspicions after their grace, oldest first."""
        rows = await self.driver.run("due_suspicions", watch=watch, now=now, limit=limit)
        return [Suspicion(*row) for row in rows]

    async def suspected(self, watch: str, application_ids: Sequence[str]) -> set[str]:
        """Which of these applications are suspected to be deleted."""
        rows = await self.driver.run("suspected", watch=watch, ids=list(application_ids))
        return {application_id for (application_id,) in rows}

    async def suspect_again(self, watch: str, suspicions: Sequence[Suspicion]) -> None:
        """Suspect deletions whose entries are still pending."""
        await self.driver.write("suspect", [(watch, *each) for each in suspicions])

    async def next_suspicion(self, watch: str) -> int | None:
        """When the next suspicion's grace ends."""
        due_at: int | None = await self.driver.value("next_suspicion", watch=watch)
        return due_at

    @job
    async def blow_fuse(self, transaction: Transaction, watch: str, reason: str, now: int) -> None:
        """Hold everything new of a watch until a person decides. A blown fuse stays as it is."""
        fuse = stored_from(Fuse, await value(transaction, "fuse", watch=watch))
        blown = blow(fuse, now, reason)._replace(holds_all=True)
        await transaction.run("set_fuse", watch=watch, fuse=stored_text(blown))


class Databases(Role):
    """Which database each configured one is, and who captures it. The section `database` has the name ""."""

    @job
    async def bind(
        self,
        transaction: Transaction,
        identity: str,
        hosts: Sequence[str] = (),
        database: str = "",
        section: str = "database",
    ) -> None:
        """Bind a configured name to a database the first time, check that later, and remember the database's hosts.

        Its `section` of the configuration is for the error. Of a store that is only read, nothing is written.

        Raises:
            AnotherDatabaseError: it is bound to another one, or this one may be a copy.
        """
        code, bound = "store-another-database", await note(transaction, _note_of("database", database))
        if bound not in {"", identity}:
            facts = {"store": self.driver.name, "bound": bound, "connected": identity}
            raise another_database(code, database, section, **facts)
        before = _hosts_from(await note(transaction, _note_of("hosts", database)))
        refuse_copy(code, identity, before, hosts, database=database, section=section)
        if self.driver.access == "own" and (bound, before) != (identity, tuple(hosts)):
            await _bind(transaction, identity, hosts, database)

    async def identity(self, database: str = "") -> str | None:
        """The database to which a configured name is bound."""
        found: str | None = await self.driver.value("about", name=_note_of("database", database))
        return found

    async def hosts(self, database: str = "") -> tuple[str, ...]:
        """The hosts by which a database was reached last; empty if unknown."""
        return _hosts_from(await self.driver.value("about", name=_note_of("hosts", database)))

    @job
    async def rebind(
        self,
        transaction: Transaction,
        identity: str,
        hosts: Sequence[str],
        positions: Mapping[str, Mapping[str, str]],
        by: PersonActed,
    ) -> None:
        """Bind a configured name, on which a person acts, to another database, with these positions by watch."""
        database = by.on or ""
        rows = [(watch, name, value) for watch, of in sorted(positions.items()) for name, value in of.items()]
        await _bind(transaction, identity, hosts, database)
        await transaction.write("set_position", rows)
        detail = {"who": by.who, "database": database, "identity": identity}
        await add_history(transaction, [HistoryEntry(by.at, "", "", "database-adopted", detail)])

    async def set_captured_from(self, watch: str, database: str) -> None:
        """Record the new name of a watch's database."""
        await self.driver.write("set_position", [(watch, FROM_DATABASE, database)])

    @job
    async def begin_capture(self, transaction: Transaction, watch: str, session: str) -> str | None:
        """Record, in a shared store, this daemon's session on the ATS's database; returns the watch's one before."""
        before: str | None = await value(transaction, "session", watch=watch)
        await transaction.run("set_session", watch=watch, session=session)
        return before


def _note_of(what: str, database: str) -> str:
    """The note of a database's identity ("database") or last hosts ("hosts")."""
    return f"{what} {database}".rstrip()


async def _bind(transaction: Transaction, identity: str, hosts: Sequence[str], database: str) -> None:
    noted = as_json({"hosts": hosts})
    await transaction.run("set_about", name=_note_of("database", database), value=identity)
    await transaction.run("set_about", name=_note_of("hosts", database), value=noted)


def _hosts_from(noted: str | None) -> tuple[str, ...]:
    # Earlier versions wrote a socket's folder.
    return tuple(host_name(*host.rsplit(":", 1)) for host in of_json(noted or "{}").get("hosts", ()))


async def _apply(transaction: Transaction, *, rules: WatchRules, batch: Batch, applying: Applying) -> Applied:
    """Decide about a batch and write it."""
    watch = rules.watch
    before = await _before(transaction, watch, batch, applying)
    fuse = stored_from(Fuse, await value(transaction, "fuse", watch=watch))
    fuses_before = await _fuses_of(transaction, watch, sorted(accounts_of(rules, batch, before)))
    elsewhere = await _elsewhere(transaction, batch, applying)
    plan = plan_batch(rules, batch, before, fuse, elsewhere, fuses_before=fuses_before)
    if plan.is_empty:
        return Applied(unresolved=plan.unresolved)
    attempted = _attempted(before, plan.replaced)
    suspected = await _newly_suspected(transaction, plan)
    await _replace_elsewhere(transaction, plan)
    await _leave(transaction, plan)
    await _write(transaction, plan, fuse, attempted, suspected)
    others = {each.watch for each in plan.replaced}
    if others or fuse.blown_at is not None:
        for name in sorted({watch, *others}):
            await mend(transaction, name)
    sent = [one._replace(attempted=one.application_id in attempted) for one in plan.enqueued if one.state == "pending"]
    return Applied(
        plan.results,
        sent,
        plan.unresolved,
        frozenset(one.application_id for one in suspected),
        plan.skips,
        written=True,
        corrected=frozenset(each.content.endpoint for each in plan.refreshed),
        replaced=[each.id for each in plan.replaced],
        heirs=frozenset(each.watch for each in plan.left),
    )


async def _before(transaction: Transaction, watch: str, batch: Batch, applying: Applying) -> dict[str, Known]:
    """What is known of the batch's applications and rows."""
    # Each row with its id, to find another application that the row represented last.
    old = () if batch.rows_are_new else batch.observations
    rows = [(key_text(each.key), each.application_id or "") for each in old]
    rows += [(key_text(key), "") for key in batch.gone]
    found = await known_in(transaction, watch, batch.application_ids, rows)
    return {id_: _with_begun(known, applying) for id_, known in found.items()}


def _with_begun(known: Known, applying: Applying) -> Known:
    """An entry whose call has begun counts as attempted."""
    entry = known.entry
    if entry is None or not applying.has_begun(entry):
        return known
    return known._replace(entry=entry._replace(attempted=True))


async def _elsewhere(transaction: Transaction, batch: Batch, applying: Applying) -> Others:
    """What other watches know of the batch's applications."""
    found = defaultdict[str, list[Other]](list)
    # A silent baseline looks nowhere.
    if batch.others and (batch.origin != "baseline" or batch.first_status == "send"):
        which = {"ids": batch.application_ids, "watches": list(batch.others)}
        for watch, *columns in await transaction.run("elsewhere", **which):
            id_, known = known_from(tuple(columns))
            found[id_].append(Other(watch, _with_begun(known, applying)))
    return found


async def _fuses_of(transaction: Transaction, watch: str, accounts: Sequence[str]) -> dict[str, Fuse]:
    """The fuses of accounts within a watch; of most watches none has one."""
    if not accounts:
        return {}
    found = await transaction.run("fuses_of_accounts", watch=watch, accounts=accounts)
    return {account: stored_from(Fuse, text) for account, text in found}


async def _newly_suspected(transaction: Transaction, plan: BatchPlan) -> list[Suspicion]:
    """The plan's suspicions of applications that are not suspected yet."""
    if not plan.suspicions:
        return []
    ids = [one.application_id for one in plan.suspicions]
    already = {id_ for (id_,) in await transaction.run("suspected", watch=plan.rules.watch, ids=ids)}
    return [one for one in plan.suspicions if one.application_id not in already]


def _attempted(before: Mapping[str, Known], rivals: Sequence[Entry]) -> set[str]:
    """The applications of which HelloWork may have received, or may be receiving, a state that is not acknowledged.

    If a rival was attempted, a reverted state must be sent.
    """
    found = {each.application_id for each in rivals if each.attempted}
    return found | {id_ for id_, known in before.items() if known.is_attempted}


async def _replace_elsewhere(transaction: Transaction, plan: BatchPlan) -> None:
    """Remove the entries of other watches that this one's newer states replace."""
    rivals, batch = plan.replaced, plan.batch
    await transaction.write("remove", [each.id for each in rivals])
    # Else each sweep would find its row's state again. HelloWork does not have it: it is of no time.
    seen = [(*each.id, *state_columns(each.content), None, True) for each in rivals if not each.content.deleted]
    await transaction.write("acknowledge", seen)
    plan.history += [moved(each.watch, each.application_id, plan.rules.watch, batch) for each in rivals]


async def _leave(transaction: Transaction, plan: BatchPlan) -> None:
    """Leave applications to other watches, which compare their rows after the grace."""
    batch, left = plan.batch, plan.left
    at, due_at = batch.now + batch.shift, batch.now + plan.rules.deletion_grace
    states = [(each.watch, each.application_id, *_inherited(each.state, each, at)) for each in left]
    await transaction.write("acknowledge", states)
    await transaction.write("suspect", [(each.watch, each.application_id, batch.now, due_at) for each in left])


async def _write(
    transaction: Transaction, plan: BatchPlan, fuse: Fuse, attempted: Collection[str], suspected: Sequence[Suspicion]
) -> None:
    """Write a plan; `fuse` is the watch's before."""
    watch, batch = plan.rules.watch, plan.batch
    at = batch.now + batch.shift
    for name, rows in (*_changes(plan, at), *_outcomes(plan, attempted, suspected, at)):
        await transaction.write(name, [(watch, *row) for row in rows])
    endpoints = {each.content.endpoint for each in plan.refreshed}
    endpoints |= {each.content.endpoint for each in plan.enqueued if each.state == "pending"}
    await transaction.write("add_endpoint", [(endpoint,) for endpoint in sorted(endpoints)])
    news = [one.application_id for one in suspected if one.application_id not in batch.unreported]
    lines = [HistoryEntry(at, watch, id_, "suspected", {"by": batch.origin}) for id_ in news]
    await add_history(transaction, [*plan.history, *lines])
    # All records are made here, and removed here or by a person.
    new = len(plan.new) + len(plan.adopted) - len(plan.forgotten)
    changed_at = at if any(one.decision != "adopt" for one in plan.results) else None
    counted = None if plan.fuses.own == fuse else stored_text(plan.fuses.own)
    if new or changed_at is not None or counted is not None:
        await transaction.write("tally", [(watch, new, changed_at, counted)])


def _inherited(state: Content, of: Inheritance | Known, at: int) -> Row:
    """The columns of a state that another watch has had acknowledged, or adopted; or may be sending now."""
    return *state_columns(state), of.since or at, not (of.is_acknowledged and of.since)


_Changes = list[tuple[str, Sequence[Row]]]
"""Statements in their order, each with its rows, without the watch."""


def _changes(plan: BatchPlan, at: int) -> _Changes:
    """What becomes known of applications, and what is to be sent; `at` is the batch's time, for people."""
    adopted = [(key_text(one.key), state_columns(one.content), one) for one in plan.adopted]
    return [
        ("seen_new", [(one.application_id, key_text(one.key)) for one in plan.new]),
        ("adopt_new", [(one.application_id, key, *state, at, True, one.digest) for key, state, one in adopted]),
        ("move", [(one.application_id, key_text(one.key)) for one in plan.moved]),
        ("acknowledge", [(id_, *_inherited(of.snapshot, of, at)) for id_, of in plan.inherited.items() if of.snapshot]),
        ("acknowledge", [(one.application_id, *state_columns(one.content), at, True) for one in plan.acknowledged]),
        ("remove", [(id_,) for id_ in (*plan.cancelled, *plan.forgotten)]),
        ("forget_application", [(id_,) for id_ in plan.forgotten]),
        ("enqueue", [enqueue_columns(one) for one in plan.enqueued]),
        ("refresh", [(one.application_id, *address_columns(one.content)) for one in plan.refreshed]),
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
        ("answer", [(id_,) for id_ in sorted(plan.answered)]),
        ("set_suspicion_due", [(one.application_id, one.due_at) for one in plan.postponed]),
        ("suspect", suspected),
        ("unskip", [(key_text(skip.key),) for skip in plan.skips if skip.reason is None]),
        ("skip", [(key_text(skip.key), skip.application_id, as_text(skip.reason), at) for skip in skipped]),
        ("set_position", list(plan.positions.items())),
        ("set_account_fuse", [(name, stored_text(each)) for name, each in sorted(plan.fuses.of_accounts.items())]),
    ]

"""What a batch of observations changes, decided in one place for every store, without a database.

A store reads what is known of the batch's applications and rows, calls `plan_batch` and writes the plan, all in one
transaction.

An application is *unresolved* if its row is gone, or represents another application than before, or is not its only
one: nothing of it is written. Capture then reads all rows with its id and applies them (`Resolved`) in a second batch.

A deletion is only suspected at first. A fresh read after the grace decides, in a batch with the origin `deletion`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from cdc_sync.core.content import Content
from cdc_sync.core.diff import (
    Decision,
    Enqueue,
    Fuse,
    Unseen,
    blow,
    count,
    decide,
    has_counted,
    in_order,
)
from cdc_sync.core.outbox import Applying, Entry, EntryState, Known, Skip, Suspicion, completed, corrects
from cdc_sync.core.reasons import coded, fields_of
from cdc_sync.core.rows import Ignored, Key, Observation, Origin, OutOfScope, Reportable, Unreportable, WatchRules
from cdc_sync.core.status_url import build

NOWHERE = "nowhere"
"""The endpoint of an entry that cannot be called: it is enqueued dead."""

ASKED_AGAIN_AFTER = 10_000
"""Milliseconds until a suspicion that could not be answered is looked at again."""


LEFT_SCOPE, LOST_ID, MOVED = "out of scope", "id lost", "moved"
"""Events of the history: why a watch makes no calls for an application any more."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """All rows with an application's id, read together.

    Attributes:
        changed_at: when the application seems to have changed.
        canonical: the row that represents it (`rows.current`). Without rows: the one that did, if it has lost its id
            (`outbox.former_row`).
        keys: of the rows.
        elsewhere: another watch whose table has a live row with the id and the account, while this one's has none.
        is_unanswered: whether the suspicion stays, since that is not known, or that watch has not seen its row yet.
        is_kept: whether such a row causes no call, so that only this watch can find its end: the suspicion ends, and
            the record stays.
    """

    application_id: str
    changed_at: int
    canonical: Observation | None
    keys: frozenset[Key] = frozenset()
    elsewhere: str | None = None
    is_unanswered: bool = False
    is_kept: bool = False

    @property
    def is_deletion(self) -> bool:
        """Whether no live row has the id."""
        row = self.canonical
        if isinstance(row, Unreportable) and row.incomplete is not None:
            row = row.incomplete
        return row is None or (isinstance(row, Reportable) and row.content.deleted)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of capture, applied together with the position that it reached.

    Attributes:
        unseen: what happens to unknown applications. With the origin `baseline`, `adopt` also adopts known ones again:
            two rows of one application do not differ from each other, unless the first is gone.
        observations: at most one per key.
        gone: keys of rows that no longer exist, and when each may have gone.
        resolved: with the origin `deletion` they answer suspicions.
        skipped: rows that could not be reported before, and why; others may be among them.
        positions: saved unless an application is unresolved: the step is not over then.
        replica: the replica position, saved if anything else is written.
        doubt: why new deletions are held, whatever the fuse decides.
        others: the other watches that may have rows of the same account: of an application that moved from one of
            these, and did not change, nothing is sent.
        rows_are_new: none of its rows represented another application before.
        shift: what the store adds to `now` for people.
    """

    origin: Origin
    now: int
    unseen: Unseen
    observations: Sequence[Observation] = ()
    gone: Mapping[Key, int] = field(default_factory=dict)
    resolved: Sequence[Resolved] = ()
    skipped: Mapping[Key, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)
    replica: Mapping[str, str] = field(default_factory=dict)
    doubt: str | None = None
    others: Sequence[str] = ()
    rows_are_new: bool = False
    shift: int = 0

    @property
    def application_ids(self) -> list[str]:
        """The ids of its applications, each once."""
        ids = {each.application_id for each in self.observations}
        ids.update([each.application_id for each in self.resolved])
        return sorted([id_ for id_ in ids if id_ is not None])


States = Mapping[str, Content]
"""The state that HelloWork acknowledged last, by application."""

NO_STATES: States = MappingProxyType({})

Fuses = Mapping[str, Fuse]
"""The fuses of a watch's accounts, by name."""

NO_FUSES: Fuses = MappingProxyType({})

NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})
"""A line of a history has nothing further."""

_NEVER_SEEN = Known(0, (), in_scope=False, snapshot=None, pending=None)


class ApplyResult(NamedTuple):
    """The decision about an observation that differs, and its entry's state if it was enqueued."""

    application_id: str
    decision: Decision
    state: EntryState | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a batch.

    Attributes:
        results: without unknown applications that a baseline adopts.
        entries: the enqueued entries that are sent, now or when they are due.
        unresolved: applications whose rows must all be read first, and when each seems to have changed.
        suspected: applications that were not suspected before.
        skips: rows that cannot be reported, or can be again, unlike before.
        corrected: the endpoints of corrected entries.
        replaced: the entries of other watches that were replaced, by watch and application.
    """

    results: Sequence[ApplyResult] = ()
    entries: Sequence[Entry] = ()
    unresolved: Mapping[str, int] = field(default_factory=dict)
    suspected: frozenset[str] = frozenset()
    skips: Sequence[Skip] = ()
    written: bool = False
    corrected: frozenset[str] = frozenset()
    replaced: Sequence[tuple[str, str]] = ()


class Calls(Protocol):
    """The sender beside an apply."""

    def begin_apply(self, watch: str, application_ids: Sequence[str]) -> Applying:
        """Let no call of these applications begin until `end_apply`."""

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        """Take over what the apply has enqueued; None: it failed."""


class NoCalls:
    """Nothing is sent meanwhile."""

    def begin_apply(self, watch: str, application_ids: Sequence[str]) -> Applying:
        """See `Calls`."""
        return Applying(watch, application_ids)

    def end_apply(self, _: Applying, __: Applied | None) -> None:
        """See `Calls`."""


NO_CALLS = NoCalls()


class HistoryEntry(NamedTuple):
    """A line of an application's history."""

    at: int
    watch: str
    application_id: str
    event: str
    detail: Mapping[str, Any]


class Enqueued(NamedTuple):
    """A content for the outbox; it replaces a pending entry."""

    application_id: str
    content: Content
    kinds: str
    state: EntryState
    at: int
    due_at: int
    reason: str | None
    endpoint: str


class HandOver(NamedTuple):
    """An application that another watch goes on with, from the state that HelloWork acknowledged last."""

    application_id: str
    heir: str
    at: int


class Refreshed(NamedTuple):
    """A pending entry that gets other metadata, and maybe another endpoint."""

    application_id: str
    content: Content
    endpoint: str


@dataclass(slots=True)
class BatchPlan:
    """What one batch changes; at most one step per application in each list. Other fields are as in `Applied`.

    Attributes:
        new: applications never seen before, without a snapshot.
        adopted: applications never seen before that are taken as acknowledged.
        moved: another row represents them, or one that is in scope again.
        acknowledged: known applications that are taken as acknowledged.
        answered: applications whose suspicion is over.
        postponed: suspicions that could not be answered, with their new times.
        waiting: those of them whose pending entries wait for the answer.
        forgotten: applications that another watch has now.
        handed_over: these, and those of which a deleted row stays here.
        history: without new suspicions.
        endpoints: of the pending entries that it enqueues or corrects.
        fuse: the watch's; None if it counted nothing.
        of_accounts: the accounts' fuses that counted something.
    """

    new: list[Reportable] = field(default_factory=list)
    adopted: list[Reportable] = field(default_factory=list)
    moved: list[Reportable | Ignored] = field(default_factory=list)
    acknowledged: list[Reportable] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    enqueued: list[Enqueued] = field(default_factory=list)
    refreshed: list[Refreshed] = field(default_factory=list)
    out_of_scope: list[str] = field(default_factory=list)
    suspicions: list[Suspicion] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    postponed: list[Suspicion] = field(default_factory=list)
    waiting: list[Suspicion] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    handed_over: list[HandOver] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    endpoints: set[str] = field(default_factory=set)
    fuse: Fuse | None = None
    of_accounts: dict[str, Fuse] = field(default_factory=dict)
    results: list[ApplyResult] = field(default_factory=list)
    unresolved: dict[str, int] = field(default_factory=dict)
    is_empty: bool = False


def plan_batch(
    rules: WatchRules,
    batch: Batch,
    before: Mapping[str, Known],
    fuse: Fuse,
    elsewhere: States = NO_STATES,
    *,
    of_accounts: Fuses = NO_FUSES,
) -> BatchPlan:
    """Decide what a batch changes.

    `before` is what is known of its applications and of those that its rows represented last; `elsewhere` has the
    others' states in other watches, without those that have an entry; `of_accounts` is needed for `accounts_of`.
    """
    planner, observations = _Planner(rules, batch, before, fuse, elsewhere, of_accounts), batch.observations
    if any(isinstance(each, Unreportable) for each in observations):
        observations = _owned(observations, before)
    plan = planner.changes
    unresolved = plan.unresolved = planner.unresolved(observations)
    for each in observations:
        if each.application_id not in unresolved:
            planner.observe(each)
    plan.skips += [Skip(key, None, None) for key in batch.gone if key in batch.skipped]
    for resolved in batch.resolved:
        planner.resolve(resolved)
    if not unresolved:
        plan.positions.update(batch.positions)
    news = plan.results or plan.adopted or plan.moved or plan.refreshed or plan.out_of_scope
    of_suspicions = plan.suspicions or plan.answered or plan.postponed
    plan.is_empty = not (news or of_suspicions or plan.skips or plan.positions)
    if not plan.is_empty:
        plan.positions.update(batch.replica)
    return plan


def accounts_of(rules: WatchRules, batch: Batch, before: Mapping[str, Known]) -> set[str]:
    """The accounts whose fuses may count something of a batch."""
    if rules.account is not None:
        return set()
    rows = [*batch.observations, *(each.canonical for each in batch.resolved)]
    contents = [row.content for row in rows if isinstance(row, Reportable)]
    incomplete = [row.incomplete for row in rows if isinstance(row, Unreportable)]
    contents += [row.content for row in incomplete if row is not None]
    contents += [state for known in before.values() for state in (known.snapshot, known.latest) if state is not None]
    return {content.account for content in contents}


def different(rules: WatchRules, batch: Batch, known: Mapping[str, Known]) -> set[Key]:
    """The rows of a batch that would cause a write, or whose application is unresolved.

    Of an application's two rows the canonical one does not count for the other's sake.
    """
    plan = plan_batch(rules, batch, known, Fuse())
    written = {each.application_id for each in (*plan.results, *plan.moved, *plan.refreshed, *plan.suspicions)}
    written.update(plan.out_of_scope)
    found = {skip.key for skip in plan.skips}
    for each in batch.observations:
        id_ = each.application_id
        if id_ in plan.unresolved:
            if id_ not in known or known[id_].key != each.key:
                found.add(each.key)
        elif id_ in written:
            found.add(each.key)
    return found


def content_of_gone(application_id: str, latest: Content, rules: WatchRules, at: int) -> Content:
    """The content for an application whose row is gone since `at`."""
    status = rules.status.deleted
    content = latest.as_deleted(status, at, rules.extra_fields_of(status))
    # The snapshot may have gone to an earlier base_url.
    return content if rules.own_urls else content._replace(url=build(rules.base_url, application_id))


def described(content: Content) -> dict[str, Any]:
    """The compared fields, for the history."""
    return {"status": content.status, "job_id": content.job_id, "deleted": content.deleted}


def moved(watch: str, application_id: str, heir: str, batch: Batch) -> HistoryEntry:
    """The history of an application that a watch leaves to another one."""
    reason = coded("elsewhere", "the table of the watch %(watch)s has a row with its id", watch=heir)
    detail = {"by": batch.origin, **fields_of(reason)}
    return HistoryEntry(batch.now + batch.shift, watch, application_id, MOVED, detail)


@dataclass(slots=True)
class _Planner:
    """The state of one `plan_batch`; `fuse` has counted its entries so far, with `changes.of_accounts`."""

    rules: WatchRules
    batch: Batch
    before: Mapping[str, Known]
    fuse: Fuse
    elsewhere: States
    of_accounts: Fuses
    changes: BatchPlan = field(default_factory=BatchPlan)

    def unresolved(self, observations: Sequence[Observation]) -> dict[str, int]:
        """Applications whose row is gone or has another id, and those with another row than before, or two."""
        unresolved: dict[str, int] = {}
        if not self.before and len({each.application_id for each in observations}) == len(observations):
            return unresolved
        rows = {each.key: each for each in observations}
        for id_, known in self.before.items():
            row = rows.get(known.key)
            if row is not None and row.application_id == id_:
                continue
            at = self.batch.gone.get(known.key) if row is None else row.changed_at
            if at is not None and _is_alive(known):
                unresolved[id_] = at
        seen: set[str] = set()
        for each in observations:
            id_or_none = each.application_id
            if id_or_none is None:
                continue
            found = self.before.get(id_or_none)
            if id_or_none in seen or (found is not None and found.key != each.key):
                unresolved[id_or_none] = each.changed_at
            seen.add(id_or_none)
        return unresolved

    def resolve(self, resolved: Resolved) -> None:
        id_, before = resolved.application_id, self.before.get(resolved.application_id, _NEVER_SEEN)
        if self.batch.origin != "deletion":
            if not self._is_there(resolved, before) and _is_alive(before):
                self._suspect(id_, resolved.changed_at)
        elif resolved.is_unanswered or (resolved.elsewhere is not None and _may_be_under_way(before)):
            self._postpone(resolved, before)
        else:
            self.changes.answered.append(id_)
            self._answer(resolved, before)

    def _postpone(self, resolved: Resolved, before: Known) -> None:
        """Look at a suspicion again later."""
        again = Suspicion(resolved.application_id, resolved.changed_at, self.batch.now + ASKED_AGAIN_AFTER)
        self.changes.postponed.append(again)
        # The entry may be older than what HelloWork has. One that may be under way must end first.
        if resolved.is_unanswered and before.state == "pending":
            self.changes.waiting.append(again)

    def _answer(self, resolved: Resolved, before: Known) -> None:
        """Answer a suspicion."""
        id_, row, latest = resolved.application_id, resolved.canonical, before.latest
        if resolved.is_kept:
            return
        if resolved.elsewhere is not None:
            self._leave_to(resolved.elsewhere, resolved, before)
        elif self._is_there(resolved, before) or latest is None or not before.in_scope:
            return
        elif row is None:
            content = content_of_gone(id_, latest, self.rules, resolved.changed_at)
            refused = self.rules.allowed.refusal(content.url)
            gone = Reportable(id_, before.key, content, refused, changed_at=resolved.changed_at)
            self._decide(gone, before, is_move=False)
        elif not isinstance(row, Unreportable) or not row.unreadable:
            # An unreadable row may well have its id, and stays.
            self._leave_scope(id_, LOST_ID)

    def _is_there(self, resolved: Resolved, before: Known) -> bool:
        """Observe the canonical row, if it has the id."""
        row = resolved.canonical
        if row is None or row.application_id != resolved.application_id:
            return False
        self.observe(row, is_move=before.key not in resolved.keys)
        return True

    def observe(self, observation: Observation, *, is_move: bool = False) -> None:
        known = self.before.get(observation.application_id or "", _NEVER_SEEN)
        if isinstance(observation, Unreportable):
            observation = completed(observation, known)
        match observation:
            case Reportable() as row:
                self._decide(row, known, is_move=is_move)
            case Unreportable(application_id, key, reason):
                if self.batch.skipped.get(key) != reason:
                    self.changes.skips.append(Skip(key, application_id, reason))
                return
            case OutOfScope(application_id):
                if known.in_scope:
                    self._leave_scope(application_id, LEFT_SCOPE)
            case Ignored() as row:
                # From now on the end of this row is the application's.
                if known.latest is not None and not (known.in_scope and known.key == row.key):
                    self.changes.moved.append(row)
        if observation.key in self.batch.skipped:
            self.changes.skips.append(Skip(observation.key, None, None))

    def _leave_scope(self, application_id: str, event: str) -> None:
        """No call is made for the application any more; its history has the reason."""
        self.changes.out_of_scope.append(application_id)
        self._note(event, application_id)

    def _leave_to(self, heir: str, resolved: Resolved, before: Known) -> None:
        """Leave the application to another watch."""
        id_, changes = resolved.application_id, self.changes
        if isinstance(resolved.canonical, Reportable):
            self._take_as_deleted(resolved.canonical, before)
        elif before.latest is None:
            return
        else:
            changes.forgotten.append(id_)
        changes.handed_over.append(HandOver(id_, heir, self.batch.now))
        changes.history.append(moved(self.rules.watch, id_, heir, self.batch))

    def _take_as_deleted(self, row: Reportable, known: Known) -> None:
        """Take a row that is marked as deleted as acknowledged. Without a record each sweep would suspect it."""
        changes, id_ = self.changes, row.application_id
        if known is _NEVER_SEEN:
            changes.adopted.append(row)
        else:
            changes.moved.append(row)
            changes.acknowledged.append(row)
        if known.pending is not None:
            changes.cancelled.append(id_)
        changes.results.append(ApplyResult(id_, "adopt"))

    def _note(self, event: str, application_id: str, **detail: object) -> None:
        """Add a line to the application's history."""
        at, detail = self.batch.now + self.batch.shift, {"by": self.batch.origin, **detail}
        self.changes.history.append(HistoryEntry(at, self.rules.watch, application_id, event, detail))

    def _suspect(self, application_id: str, at: int) -> None:
        due_at = self.batch.now + self.rules.deletion_grace
        self.changes.suspicions.append(Suspicion(application_id, at, due_at))

    def _decide(self, row: Reportable, known: Known, *, is_move: bool) -> None:
        row = _for_its_account(row, known, self.rules)
        batch, changes, content = self.batch, self.changes, row.content
        is_new_deletion = content.deleted and not (known.latest is not None and known.latest.deleted)
        if is_new_deletion and batch.origin not in ("baseline", "deletion"):
            self._suspect(row.application_id, row.changed_at)
            return
        unseen: Unseen = "adopt" if known is _NEVER_SEEN and self._is_acknowledged_elsewhere(row) else batch.unseen
        decision = decide(content, known.snapshot, known.pending, unseen)
        if known is _NEVER_SEEN:
            (changes.adopted if decision == "adopt" else changes.new).append(row)
        else:
            if batch.origin == "baseline" and batch.unseen == "adopt" and isinstance(decision, Enqueue):
                # Two rows of one application, on two pages: the second does not differ from the first.
                decision = decision if is_move or known.pending is not None else "adopt"
            if known.key != row.key or not known.in_scope:
                changes.moved.append(row)
        match decision:
            case Enqueue():
                changes.results.append(self._enqueue(row, known, decision))
            case "nothing":
                self._refresh(row, known)
            case "adopt":
                if known is not _NEVER_SEEN:
                    changes.acknowledged.append(row)
                if known is not _NEVER_SEEN or batch.origin != "baseline":
                    changes.results.append(ApplyResult(row.application_id, decision))
            case _:
                changes.cancelled.append(row.application_id)
                self._note("cancelled", row.application_id, **_change(known, content))
                changes.results.append(ApplyResult(row.application_id, decision))

    def _is_acknowledged_elsewhere(self, row: Reportable) -> bool:
        """Whether another watch's application of this id has this state at HelloWork, by the same account."""
        acknowledged, content = self.elsewhere.get(row.application_id), row.content
        if acknowledged is None:
            return False
        return content.same_as(acknowledged) and content.account == acknowledged.account

    def _enqueue(self, row: Reportable, known: Known, decision: Enqueue) -> ApplyResult:
        batch, rules, changes, content, id_ = self.batch, self.rules, self.changes, row.content, row.application_id
        if rules.ordered_dates:
            # An adopted state's date was never sent.
            content = in_order(
                content, row.changed_at, known.snapshot if known.is_acknowledged else None, known.pending
            )
        state: EntryState = "pending"
        event, endpoint, due_at, reason = "queued", NOWHERE, batch.now, row.refused
        if reason:
            state, event = "dead", "dead-lettered"
        else:
            endpoint = content.endpoint
            due_at += rules.settle.get(content.status, rules.default_settle)
            reason = self._hold(content, known)
            if reason is None:
                changes.endpoints.add(endpoint)
            else:
                state = event = "held"
        kinds = sorted(decision.kinds)
        changes.enqueued.append(Enqueued(id_, content, " ".join(kinds), state, batch.now, due_at, reason, endpoint))
        further = {"kinds": kinds, "replaced": known.state is not None, "due_at": due_at + batch.shift}
        if content.event_date != row.content.event_date:
            further |= {"event_date": content.event_date, "event_date_of_row": row.content.event_date}
        if reason:
            further |= fields_of(reason)
        self._note(event, id_, **_change(known, content), **further)
        return ApplyResult(id_, decision, state, reason)

    def _hold(self, content: Content, known: Known) -> str | None:
        """Why a person must decide about an entry; None if it is sent."""
        batch, pending = self.batch, known.pending
        deletion = content.deleted and not (pending is not None and pending.content.deleted)
        if deletion and batch.doubt is not None:
            return batch.doubt  # it neither blows the fuse nor counts
        # A suspected deletion is held with an intact fuse; the row's return ends the suspicion.
        if known.state == "held" and (content.deleted or self.fuse.blown_at is not None):
            return known.reason or ""
        is_pending = known.state == "pending" and not deletion and not self.fuse.holds_all
        if is_pending and has_counted(self.fuse, self.rules.fuse, batch.now, known.queued_at):
            return None
        return self._count(content.account, deletion=deletion)

    def _count(self, account: str, *, deletion: bool) -> str | None:
        """Count an entry; why it is held."""
        now, policy = self.batch.now, self.rules.fuse
        if self.rules.account is not None or self.fuse.holds_all:
            self.fuse, reason = count(self.fuse, policy, now, deletion=deletion)
        elif (reason := self._count_account(account, deletion=deletion)) is not None:
            self.fuse = blow(self.fuse, now, reason)
        else:
            self.fuse, reason = count(self.fuse, policy.of_all_accounts, now, deletion=deletion)
        self.changes.fuse = self.fuse
        return reason

    def _count_account(self, account: str, *, deletion: bool) -> str | None:
        """Count an entry of one of several accounts; why it is held."""
        counted = self.changes.of_accounts
        fuse = counted.get(account) or self.of_accounts.get(account, Fuse())
        counted[account], reason = count(fuse, self.rules.fuse, self.batch.now, deletion=deletion)
        if reason is None:
            return None
        return coded("fuse-account", "%(reason)s, of the account %(account)s", reason=reason, account=account)

    def _refresh(self, row: Reportable, known: Known) -> None:
        """Correct the entry by a corrected row; a retried dead letter without one is refused again."""
        if not corrects(row.content, row.refused, known.pending):
            return
        endpoint = row.content.endpoint
        self.changes.refreshed.append(Refreshed(row.application_id, row.content, endpoint))
        if known.state == "pending":
            self.changes.endpoints.add(endpoint)


def _for_its_account(row: Reportable, known: Known, rules: WatchRules) -> Reportable:
    """A deletion goes to the watch's account, whatever its name was; else to the one that knows the application."""
    account = rules.account
    if account is None:
        account = row.content.account if known.snapshot is None else known.snapshot.account
    if not row.content.deleted or account == row.content.account:
        return row
    return replace(row, content=row.content._replace(account=account))


def _owned(observations: Sequence[Observation], before: Mapping[str, Known]) -> list[Observation]:
    """The observations; rows with unreadable ids are those of the applications that they represented last."""
    owners = {known.key: id_ for id_, known in reversed(list(before.items()))}
    return [
        replace(each, application_id=owners.get(each.key))
        if isinstance(each, Unreportable) and each.unreadable and not each.application_id
        else each
        for each in observations
    ]


def _change(known: Known, content: Content) -> dict[str, Any]:
    """What changes, for the history."""
    return {"from": described(known.snapshot) if known.snapshot else None, "to": described(content)}


def _may_be_under_way(known: Known) -> bool:
    """Whether HelloWork may be receiving an entry, which must end first."""
    return known.state == "pending" and known.pending is not None and known.pending.attempted


def _is_alive(known: Known) -> bool:
    return known.in_scope and known.latest is not None and not known.latest.deleted

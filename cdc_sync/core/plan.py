"""What a batch of observations changes, decided in one place for every store, without a database.

A store reads what is known of the batch's applications and rows, calls `plan_batch` and writes the plan, all in one
transaction.

An application is *unresolved* if its row is gone or out of scope, or represents another application than before, or is
not its only one: nothing of it is written. Capture then reads all rows with its id and applies them (`Resolved`) in a
second batch.

A deletion is only suspected at first, but in a baseline. A fresh read after the grace decides, in a batch with the
origin `deletion`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from . import elsewhere
from .batch import NOTHING, ApplyResult, Batch, HistoryEntry, Resolved, described
from .content import Content
from .diff import Decision, Enqueue, decide, in_order
from .elsewhere import Inheritance, Other, Others
from .fuse import Fuse, Fuses, has_counted
from .outbox import Entry, EntryState, Known, Skip, Suspicion, completed
from .reasons import coded, fields_of
from .rows import Ignored, Key, Observation, OutOfScope, Reportable, Unreportable, WatchRules, content_of

ASKED_AGAIN_AFTER = 10_000
"""Milliseconds until a suspicion that could not be answered is looked at again."""

_EVENTS: Mapping[EntryState, str] = {"pending": "queued", "held": "held", "dead": "dead-lettered"}
"""Events of the history: what becomes of a new entry."""

LEFT_SCOPE, LOST_ID, MOVED = "out of scope", "id lost", "moved"
"""Events of the history: why a watch makes no calls for an application any more."""

_NEVER_SEEN = Known(0, (), in_scope=False, snapshot=None, entry=None)


@dataclass(slots=True)
class BatchPlan:
    """What one batch changes; at most one step per application in each list.

    Attributes:
        before: what is known of the batch's applications, and of those that its rows represented last.
        fuses: the watch's and its accounts', with the entries that were counted.
        others: what other watches of the account know of its applications.
        new: applications never seen before, without a snapshot.
        adopted: applications never seen before that are taken as acknowledged.
        moved: another row represents them, or one that is in scope again.
        inherited: applications with the newest state among the account's watches, which becomes this watch's.
        acknowledged: known applications that are taken as acknowledged.
        enqueued: entries, which replace the applications' own ones in any state.
        replaced: other watches' entries of the same account that newer states of this watch replace.
        refreshed: the rows of pending entries that get other metadata, and maybe another endpoint.
        answered: applications whose suspicion is over.
        postponed: suspicions that could not be answered, with their new times.
        out_of_scope: applications for which no call is made any more, also those that have lost their ids.
        forgotten: applications that another watch has now, or whose first state was taken back.
        left: to other watches, which compare their rows then.
        history: without new suspicions.
    """

    rules: WatchRules
    batch: Batch
    before: Mapping[str, Known]
    fuses: Fuses
    others: Others
    new: list[Reportable] = field(default_factory=list)
    adopted: list[Reportable] = field(default_factory=list)
    moved: list[Reportable | Ignored] = field(default_factory=list)
    inherited: dict[str, Known] = field(default_factory=dict)
    acknowledged: list[Reportable] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    enqueued: list[Entry] = field(default_factory=list)
    replaced: list[Entry] = field(default_factory=list)
    refreshed: list[Reportable] = field(default_factory=list)
    out_of_scope: list[str] = field(default_factory=list)
    suspicions: list[Suspicion] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    postponed: list[Suspicion] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    left: list[Inheritance] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    results: list[ApplyResult] = field(default_factory=list)
    unresolved: dict[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written."""
        of_applications = self.results or self.inherited or self.moved or self.refreshed or self.out_of_scope
        of_suspicions = self.suspicions or self.answered or self.postponed
        return not (of_applications or of_suspicions or self.skips or self.positions)

    def resolve(self, resolved: Resolved) -> None:
        """Decide about an application by all of its rows; a batch of deletions answers its suspicion, or asks later."""
        id_ = resolved.application_id
        known = self.before.get(id_, _NEVER_SEEN)
        if self.batch.origin != "deletion":
            self._decide_by_rows(resolved, known)
            return
        heir = elsewhere.heir(self._others(id_)) if resolved.is_deletion else None
        if heir is None and resolved.elsewhere == "unknown":
            self.postponed.append(Suspicion(id_, resolved.changed_at, self.batch.now + ASKED_AGAIN_AFTER))
            return
        self.answered.add(id_)
        if heir is not None:
            self._leave_to(heir, resolved, known)
        elif resolved.elsewhere == "nothing":
            self._decide_by_rows(resolved, known)

    def _decide_by_rows(self, resolved: Resolved, known: Known) -> None:
        id_, row, latest = resolved.application_id, resolved.canonical, known.latest
        if row is not None and row.application_id == id_:
            self.observe(row, is_move=known.key not in resolved.keys)
        elif latest is None or not known.in_scope:
            return
        elif self.batch.origin != "deletion":
            if not latest.deleted:
                self._suspect(id_, resolved.changed_at)
        elif row is None:
            self._decide(_gone(self.rules, id_, known.key, latest, resolved.changed_at), known, is_move=False)
        elif not isinstance(row, Unreportable) or not row.unreadable:
            # An unreadable row may well have its id, and stays.
            self._leave_scope(id_, LOST_ID)

    def _others(self, application_id: str) -> Sequence[Other]:
        """What other watches of the account know of it."""
        return self.others.get(application_id, ())

    def _leave_to(self, heir: str, resolved: Resolved, known: Known) -> None:
        """Leave the application to another watch."""
        id_, row, entry = resolved.application_id, resolved.canonical, known.entry
        if self._stays_until_called(id_):
            return
        if isinstance(row, Reportable):
            # It is marked as deleted: without a record, each sweep would suspect it.
            self._adopt(row, known)
            if entry is not None:
                self.cancelled.append(id_)
        elif known.latest is None:
            return
        else:
            self.forgotten.append(id_)
        self.left += elsewhere.left(id_, known, entry if known.is_calling else None, self._others(id_))
        self.history.append(moved(self.rules.watch, id_, heir, self.batch))

    def observe(self, row: Observation, *, is_move: bool = False) -> None:
        """Decide about one row."""
        known = self.before.get(row.application_id or "", _NEVER_SEEN)
        row = completed(row, known if known.latest else elsewhere.newest(known, self._others(row.application_id or "")))
        if known.is_suspected and _is_alive(row):
            # The next absence has a grace of its own.
            self.answered.add(row.application_id)
        reason = row.reason if isinstance(row, Unreportable) else None
        if self.batch.skipped.get(row.key) != reason:
            self.skips.append(Skip(row.key, row.application_id if reason else None, reason))
        match row:
            case Reportable():
                self._decide(row, known, is_move=is_move)
            case _ if row.application_id and known.entry and _is_taken_back(known.entry, self.batch.now):
                self._take_back(row, row.application_id, known)
            case OutOfScope(str(application_id)) if known.in_scope:
                if known.key != row.key:
                    self.moved.append(Ignored(application_id, row.key))
                self._leave_scope(application_id, LEFT_SCOPE)
            # From now on the end of this row is the application's.
            case Ignored() if known.latest is not None and not known.is_represented_by(row.key):
                self.moved.append(row)
            case Unreportable(str(application_id)) if known.in_scope and known.latest and known.key != row.key:
                self.moved.append(Ignored(application_id, row.key))

    def _take_back(self, row: Observation, application_id: str, known: Known) -> None:
        """The application is in its acknowledged state again; or, without a live one, as if it had not been seen."""
        if known.snapshot is not None and not known.snapshot.deleted:
            back = Reportable(application_id, row.key, known.snapshot, None, changed_at=row.changed_at)
            self._decide(back, known, is_move=False)
        else:
            # HelloWork may have received an attempted state, and acknowledge it yet.
            undone = self.cancelled if known.is_attempted or known.snapshot is not None else self.forgotten
            undone.append(application_id)
            self.results.append(ApplyResult(application_id, "cancel"))
            self.history.append(_line(self.rules.watch, application_id, "cancelled", self.batch, {}))
        if isinstance(row, OutOfScope) and application_id not in self.forgotten:
            self._leave_scope(application_id, LEFT_SCOPE)

    def _decide(self, row: Reportable, known: Known, *, is_move: bool) -> None:
        id_, entry, own = row.application_id, known.entry, known
        is_compared = entry is None and not known.is_as(row.content)
        if is_compared:
            # Two watches may have a row in scope: each compares only a changed one with the newest state.
            known = elsewhere.newest(known, self._others(id_))
        if row.content.deleted:
            if self.batch.origin not in ("baseline", "deletion") and (known.is_alive or known.latest is None):
                self._suspect(id_, row.changed_at)
                return
            # To the watch's account, whatever its name was; else to the one that knows the application.
            account = self.rules.account or (known.snapshot or row.content).account
            row = replace(row, content=row.content._replace(account=account))
        decision = self._decision(row, known, is_move=is_move)
        if decision == "adopt":
            self._adopt(row, known)
            return
        self._note_row(row, known, self.new)
        if known != own:
            self.inherited[id_] = known
        if is_compared or isinstance(decision, Enqueue):
            self._replace_elsewhere(row, decision)
        self._follow(row, known, decision)

    def _follow(self, row: Reportable, known: Known, decision: Decision) -> None:
        """Do what was decided about a row."""
        id_, entry = row.application_id, known.entry
        if isinstance(decision, Enqueue):
            self.results.append(self._enqueue(row, known, decision))
        elif decision == "cancel":
            self.cancelled.append(id_)
            self._note_change("cancelled", id_, known, row.content)
            self.results.append(ApplyResult(id_, decision))
        elif entry is not None and not self.rules.refusal(row) and not row.content.same_metadata(entry.content):
            # What a person retries of a refused row is sent as it is. The entry's date may have been put later.
            self.refreshed.append(replace(row, content=row.content._replace(event_date=entry.content.event_date)))

    def _replace_elsewhere(self, row: Reportable, decision: Decision) -> None:
        """The newest state replaces what other watches are to send, but for the same that may be under way."""
        for _, other in self._others(row.application_id):
            entry = other.entry
            if entry is not None and (isinstance(decision, Enqueue) or not entry.content.same_as(row.content)):
                self.replaced.append(entry)

    def _decision(self, row: Reportable, known: Known, *, is_move: bool) -> Decision:
        batch, entry = self.batch, known.entry
        has_entry_elsewhere = any(other.entry is not None for _, other in self._others(row.application_id))
        first_status = "send" if has_entry_elsewhere else batch.first_status
        decision = decide(row.content, known.snapshot, entry, first_status)
        is_silent = batch.origin == "baseline" and batch.first_status == "adopt" and not is_move
        # Two rows of one application, on two pages: the second does not differ from the first.
        return "adopt" if is_silent and entry is None and isinstance(decision, Enqueue) else decision

    def _adopt(self, row: Reportable, known: Known) -> None:
        """Take a row's state as acknowledged."""
        self._note_row(row, known, self.adopted)
        if not known.is_new:
            self.acknowledged.append(row)
        self.results.append(ApplyResult(row.application_id, "adopt"))

    def _note_row(self, row: Reportable, known: Known, new: list[Reportable]) -> None:
        """Let the row represent its application, which is one of `new` if it was never seen."""
        if known.is_new:
            new.append(row)
        elif not known.is_represented_by(row.key):
            self.moved.append(row)

    def _enqueue(self, row: Reportable, known: Known, decision: Enqueue) -> ApplyResult:
        batch, rules, content, id_ = self.batch, self.rules, row.content, row.application_id
        before = known.entry
        if rules.ordered_dates:
            # An adopted state's date was never sent.
            acknowledged = known.snapshot if known.is_acknowledged else None
            content = in_order(content, row.changed_at, acknowledged, before)
        state, reason = self._admit(row, known)
        due_at = batch.now + rules.settle.get(content.status, rules.default_settle)
        revision = batch.now if before is None else before.revision + 1
        attempted = known.is_attempted
        self.enqueued.append(
            Entry(
                rules.watch, id_, content, decision.kinds, state, revision, batch.now, due_at, attempted, reason=reason
            )
        )
        further = {"kinds": sorted(decision.kinds), "replaced": before is not None, "due_at": due_at + batch.shift}
        if content.event_date != row.content.event_date:
            further |= {"event_date": content.event_date, "event_date_of_row": row.content.event_date}
        if reason:
            further |= fields_of(reason)
        self._note_change(_EVENTS[state], id_, known, content, **further)
        return ApplyResult(id_, decision, state, reason)

    def _admit(self, row: Reportable, known: Known) -> tuple[EntryState, str | None]:
        """A new entry's state, and why it is not sent. The fuse counts it, unless it was counted, or waits anyway."""
        batch, fuse, content, entry = self.batch, self.fuses.own, row.content, known.entry
        refusal = self.rules.refusal(row)
        if refusal is not None:
            return "dead", refusal
        is_deletion = content.deleted and not (entry and entry.content.deleted)
        if is_deletion and batch.doubt is not None:
            return "held", batch.doubt
        # A doubted deletion is held with an intact fuse; the row's return ends the doubt.
        if entry and entry.state == "held" and (content.deleted or fuse.blown_at is not None):
            return "held", entry.reason
        if fuse.holds_all:
            return "held", fuse.reason
        if not is_deletion and has_counted(fuse, self.rules.fuse, batch.now, entry):
            return "pending", None
        reason = self.fuses.count(content.account, batch.now, deletion=is_deletion)
        return ("pending" if reason is None else "held"), reason

    def _stays_until_called(self, application_id: str) -> bool:
        """Whether another watch has it, but a call with a status may be under way: a later sweep finds it again."""
        known = self.before.get(application_id, _NEVER_SEEN)
        has_heir = elsewhere.heir(self._others(application_id)) is not None
        return has_heir and known.is_calling and known.is_alive

    def _suspect(self, application_id: str, at: int) -> None:
        if self._stays_until_called(application_id):
            return
        due_at = self.batch.now + self.rules.deletion_grace
        self.suspicions.append(Suspicion(application_id, at, due_at))

    def _leave_scope(self, application_id: str, event: str) -> None:
        """No call is made for the application any more; its history has the reason."""
        known = self.before[application_id]
        entry = None if application_id in self.cancelled else known.entry
        self.left += elsewhere.left(application_id, known, entry, self._others(application_id))
        self.out_of_scope.append(application_id)
        self.history.append(_line(self.rules.watch, application_id, event, self.batch, {}))

    def _note_change(self, event: str, application_id: str, known: Known, content: Content, **further: object) -> None:
        """Add what changes to the application's history."""
        before = described(known.snapshot) if known.snapshot else None
        detail = {"from": before, "to": described(content), **further}
        self.history.append(_line(self.rules.watch, application_id, event, self.batch, detail))


def plan_batch(
    rules: WatchRules,
    batch: Batch,
    before: Mapping[str, Known],
    fuse: Fuse,
    others: Others = NOTHING,
    *,
    fuses_before: Mapping[str, Fuse] = NOTHING,
) -> BatchPlan:
    """Decide what a batch changes, by the watch's `fuse` and those of `accounts_of` before; see `BatchPlan`."""
    # A row with an unreadable id is that of the application that it represented last.
    owners = {known.key: id_ for id_, known in before.items()}
    observations = [
        replace(each, application_id=owners.get(each.key))
        if isinstance(each, Unreportable) and each.unreadable and not each.application_id
        else each
        for each in batch.observations
    ]
    fuses = Fuses(rules.fuse, fuse, fuses_before if rules.account is None else None)
    of_account = {id_: elsewhere.of_account(known, rules.account) for id_, known in others.items()}
    plan = BatchPlan(rules, batch, before, fuses, of_account)
    plan.unresolved = _unresolved(observations, batch.gone, before)
    for each in observations:
        if each.application_id not in plan.unresolved:
            plan.observe(each)
    plan.skips += [Skip(key, None, None) for key in batch.gone if key in batch.skipped]
    for resolved in batch.resolved:
        plan.resolve(resolved)
    if not plan.unresolved:
        plan.positions.update(batch.positions)
    if not plan.is_empty:
        plan.positions.update(batch.replica)
    return plan


def accounts_of(rules: WatchRules, batch: Batch, before: Mapping[str, Known]) -> set[str]:
    """The accounts whose fuses may count something of a batch."""
    if rules.account is not None:
        return set()
    rows = [*batch.observations, *(each.canonical for each in batch.resolved)]
    states = [content_of(row) for row in rows]
    states += [state for known in before.values() for state in (known.snapshot, known.latest)]
    return {state.account for state in states if state is not None}


def different(rules: WatchRules, batch: Batch, known: Mapping[str, Known]) -> set[Key]:
    """The rows of a batch that would cause a write beside the end of a suspicion, or whose application is unresolved.

    Of an application's two rows the canonical one does not count for the other's sake.
    """
    plan = plan_batch(rules, batch, known, Fuse())
    written = {each.application_id for each in (*plan.results, *plan.moved, *plan.refreshed, *plan.suspicions)}
    written.update(plan.out_of_scope)
    found = {skip.key for skip in plan.skips}
    for each in batch.observations:
        id_ = each.application_id or ""
        is_canonical = known.get(id_, _NEVER_SEEN).key == each.key and not isinstance(each, OutOfScope)
        if id_ in written or (id_ in plan.unresolved and not is_canonical):
            found.add(each.key)
    return found


def moved(watch: str, application_id: str, heir: str, batch: Batch) -> HistoryEntry:
    """The history of an application of a watch whose state another watch has now."""
    reason = coded("elsewhere", "the table of the watch %(watch)s has a row with its id", watch=heir)
    return _line(watch, application_id, MOVED, batch, fields_of(reason))


def _line(watch: str, application_id: str, event: str, batch: Batch, detail: Mapping[str, Any]) -> HistoryEntry:
    return HistoryEntry(batch.now + batch.shift, watch, application_id, event, {"by": batch.origin, **detail})


def _unresolved(
    observations: Sequence[Observation], gone: Mapping[Key, int], before: Mapping[str, Known]
) -> dict[str, int]:
    """Applications whose row is gone, out of scope or another's, and those with another row than before, or two."""
    changed = {**gone, **{each.key: each.changed_at for each in observations}}
    present = {each.key: each.application_id for each in observations if not isinstance(each, OutOfScope)}
    unresolved = dict[str, int]()
    for id_, known in before.items():
        if known.in_scope and known.is_alive and known.key in changed and present.get(known.key) != id_:
            unresolved[id_] = changed[known.key]
    keys = {id_: known.key for id_, known in before.items()}
    for each in observations:
        id_or_none = each.application_id
        if id_or_none is not None and keys.setdefault(id_or_none, each.key) != each.key:
            unresolved[id_or_none] = each.changed_at
    return unresolved


def _gone(rules: WatchRules, application_id: str, key: Key, latest: Content, at: int) -> Reportable:
    """The observation of an application whose row is gone since `at`."""
    status = rules.status.deleted
    content = rules.addressed(application_id, latest.as_deleted(status, at, rules.extra_fields_of(status)))
    return Reportable(application_id, key, content, None, changed_at=at)


def _is_alive(row: Observation) -> TypeGuard[Reportable | Ignored]:
    """Whether a row shows that its application is there."""
    return isinstance(row, Ignored) or (isinstance(row, Reportable) and not row.content.deleted)


def _is_taken_back(entry: Entry, now: int) -> bool:
    """Whether a row without a call takes back an entry: a deletion, or a status that is not due yet (`settle`)."""
    is_unsent = entry.state == "pending" and not entry.attempted
    return entry.content.deleted or (is_unsent and now < entry.due_at)

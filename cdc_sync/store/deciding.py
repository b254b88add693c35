"""What a store makes of observations and of ends of attempts: decided once for every store, and without a database.

A store reads what is there, asks here what follows, and writes that, all in one transaction that nobody else can come
between: see `protocol`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cdc_sync.core.content import Content
from cdc_sync.core.delivery import Again, Done, GiveUp, outcome_of
from cdc_sync.core.diff import Adopt, Cancel, Decision, Nothing, Queue, Waiting, decide, is_said
from cdc_sync.core.event_order import in_order
from cdc_sync.core.fuse import Fuse, count, has_counted
from cdc_sync.core.outbox import Entry, EntryState, Known, Sighting, corrects
from cdc_sync.core.retry import LONGEST_COUNTED, LONGEST_UNASKED
from cdc_sync.core.rules import WatchRules
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store.protocol import CALL_STEP, ApplyResult, Batch, Event, Finished

NOWHERE = "nowhere"
"""The endpoint of an entry whose URL cannot be called; such an entry is born dead."""


@dataclass(frozen=True, slots=True)
class Before:
    """An application when an observation arrives; `state` and what follows are its outbox entry's, if it has one."""

    known: Known
    state: EntryState | None
    reason: str | None
    queued_at: int | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A content that goes into the outbox, in the place of what waits there."""

    sighting: Sighting
    kinds: str
    state: EntryState
    at: int
    due_at: int
    reason: str | None

    @property
    def endpoint(self) -> str:
        """Where it will be sent."""
        return NOWHERE if self.sighting.refused else endpoint_of(self.sighting.content.url)


@dataclass(slots=True)
class Steps:
    """What one batch comes to; at most one step per application in each list.

    Attributes:
        new: applications never seen before of which HelloWork was told nothing.
        adopted: applications never seen before that are taken as told.
        moved: another row speaks for them, or one that is in scope again.
        told: known applications that are taken as told.
        cancelled: their outbox entries are forgotten.
        placed: into the outbox.
        refreshed: what waits says this already, and is to say it with what rides along now.
        events: for the history.
        endpoints: to which something is to be sent.
        fuse: the fuse afterwards; None if it counted nothing.
        news: what `Store.apply` returns.
    """

    new: list[Sighting] = field(default_factory=list)
    adopted: list[Sighting] = field(default_factory=list)
    moved: list[Sighting] = field(default_factory=list)
    told: list[Sighting] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    refreshed: list[Sighting] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    endpoints: set[str] = field(default_factory=set)
    fuse: Fuse | None = None
    news: list[ApplyResult] = field(default_factory=list)


def steps_of(rules: WatchRules, batch: Batch, before: Mapping[str, Before], fuse: Fuse) -> Steps:
    """Decide about a batch's sightings.

    Args:
        rules: the watch's rules.
        batch: what capture found out.
        before: what is known of the batch's applications; those that are missing were never seen.
        fuse: the watch's fuse.
    """
    return _Deciding(rules, batch, fuse).about(before)


class _Deciding:
    """The state of one `steps_of`."""

    def __init__(self, rules: WatchRules, batch: Batch, fuse: Fuse) -> None:
        self._rules = rules
        self._batch = batch
        self._fuse = fuse
        self._steps = Steps()

    def about(self, everything: Mapping[str, Before]) -> Steps:
        batch, steps = self._batch, self._steps
        for sighting in batch.sightings:
            before = everything.get(sighting.application_id)
            if before is None:
                decision = decide(sighting.content, None, None, batch.unseen)
                if isinstance(decision, Adopt):
                    steps.adopted.append(sighting)
                    steps.news.append(ApplyResult(sighting.application_id, decision))
                    continue
                steps.new.append(sighting)
            else:
                known = before.known
                # A baseline may meet two rows of one application, on two pages: the second is no news about the first.
                adopts = batch.origin == "baseline" and batch.unseen == "adopt" and not sighting.moved
                told = None if adopts else known.told
                decision = decide(sighting.content, told, known.waiting, batch.unseen)
                if known.key != sighting.key or not known.in_scope:
                    steps.moved.append(sighting)
            if not isinstance(decision, Nothing):
                steps.news.append(self._act(sighting, before, decision))
            elif before is not None and corrects(sighting.content, sighting.refused, before.known.waiting):
                self._refresh(sighting, before)
        return steps

    def _act(self, sighting: Sighting, before: Before | None, decision: Decision) -> ApplyResult:
        application_id = sighting.application_id
        match decision:
            case Adopt():
                self._steps.told.append(sighting)
                return ApplyResult(application_id, decision)
            case Cancel():
                self._steps.cancelled.append(application_id)
                self._remember(sighting, "cancelled", self._detail(sighting, before))
                return ApplyResult(application_id, decision)
            case Queue(kinds):
                own_date = sighting.content.event_date
                sighting = self._in_order(sighting, before)
                placed = self._place(sighting, before, " ".join(sorted(kinds)))
                self._steps.placed.append(placed)
                if placed.state == "pending":
                    self._steps.endpoints.add(placed.endpoint)
                detail = {
                    **self._detail(sighting, before),
                    "kinds": sorted(kinds),
                    "replaced": before is not None and before.state is not None,
                    "due_at": placed.due_at + self._batch.shift,
                }
                if sighting.content.event_date != own_date:
                    detail |= {"event_date": sighting.content.event_date, "event_date_of_row": own_date}
                if placed.reason:
                    detail["reason"] = placed.reason
                event = {"pending": "queued", "held": "held", "dead": "dead-lettered"}[placed.state]
                self._remember(sighting, event, detail)
                return ApplyResult(application_id, decision, placed.state, placed.reason)
            case _:
                raise AssertionError("nothing to act on")

    def _in_order(self, sighting: Sighting, before: Before | None) -> Sighting:
        if before is None or not self._rules.ordered_dates:
            return sighting
        known = before.known
        acknowledged = known.told if known.is_acknowledged else None  # the date of an adopted state was never sent
        content = in_order(sighting.content, sighting.changed_at, acknowledged, known.waiting)
        return sighting if content is sighting.content else replace(sighting, content=content)

    def _refresh(self, sighting: Sighting, before: Before) -> None:
        """A row that is corrected corrects what waits: else a dead letter that is retried would be refused again."""
        waiting = before.known.waiting
        if waiting is not None:
            # Not the event's date: each write to a row may change it.
            content = replace(sighting.content, event_date=waiting.content.event_date)
            self._steps.refreshed.append(replace(sighting, content=content))
        if before.state == "pending":
            self._steps.endpoints.add(endpoint_of(sighting.content.url))

    def _remember(self, sighting: Sighting, event: str, detail: dict[str, Any]) -> None:
        self._steps.events.append(
            Event(self._batch.at, self._rules.watch, sighting.application_id, event, detail),
        )

    def _detail(self, sighting: Sighting, before: Before | None) -> dict[str, Any]:
        told = None if before is None else before.known.told
        return {"by": self._batch.origin, "from": told and described(told), "to": described(sighting.content)}

    def _place(self, sighting: Sighting, before: Before | None, kinds: str) -> Placed:
        now, content = self._batch.now, sighting.content
        if sighting.refused:
            return Placed(sighting, kinds, "dead", now, now, sighting.refused)
        due_at = now + self._rules.settle_of(content.status)
        state = None if before is None else before.state
        waiting = None if before is None else before.known.waiting
        deletion = content.deleted and not (waiting is not None and waiting.content.deleted)
        if deletion and self._batch.doubt is not None:
            return Placed(sighting, kinds, "held", now, due_at, self._batch.doubt)
        # With a whole fuse it was a doubted deletion that is held: that the row is back ends the doubt.
        if before is not None and state == "held" and (content.deleted or self._fuse.blown_at is not None):
            return Placed(sighting, kinds, "held", now, due_at, before.reason)
        if self._fuse.blown_at is not None or deletion or not self._is_counted(before):
            self._fuse = self._steps.fuse = count(self._fuse, self._rules.fuse, now, deletion=deletion)
            if self._fuse.blown_at is not None:
                return Placed(sighting, kinds, "held", now, due_at, self._fuse.reason)
        return Placed(sighting, kinds, "pending", now, due_at, None)

    def _is_counted(self, before: Before | None) -> bool:
        """Whether the fuse has counted the application as one that is being changed, not long ago."""
        if before is None or before.state != "pending" or before.queued_at is None:
            return False
        return has_counted(self._fuse, self._rules.fuse, self._batch.now, before.queued_at)


@dataclass(frozen=True, slots=True)
class Current:
    """The outbox entry that is there when an attempt has ended."""

    revision: int
    status: str
    job_id: str
    deleted: bool
    attempted: bool
    attempts: int
    state: EntryState
    due_at: int
    first_attempt_at: int | None
    not_found_since: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """What follows from an attempt's end.

    Attributes:
        acknowledged: whether the snapshot takes its content.
        entry: the outbox entry afterwards; None: it goes.
        event: the line in the history.
    """

    acknowledged: bool
    entry: Current | None
    event: Event


def ended(end: Finished, current: Current | None, shift: int = 0) -> Ended:
    """Decide what follows from an attempt's end.

    Args:
        end: the attempt.
        current: the entry that the application has in the outbox now, which may be a newer one.
        shift: what is added to its times for people.
    """
    at, entry = end.at + shift, end.entry
    detail: dict[str, Any] = {**end.reply, "attempt": entry.attempts, "to": described(entry.content)}
    # A store that failed over to a server that was behind may number another content like this one.
    replaced = current is None or current.revision != entry.revision or not _is_same(entry.content, current)

    def event(name: str, **more: Any) -> Event:
        return Event(at, entry.watch, entry.application_id, name, {**detail, **more})

    match end.fate:
        case Done():
            # What is pending now was enqueued while the call was under way: it was never sent, and of what was unsure
            # HelloWork has acknowledged the last.
            goes = current is None or not replaced or _is_said_too(entry.content, current)
            after = None if goes or current is None else replace(current, attempted=False)
            return Ended(acknowledged=True, entry=after, event=event("acknowledged"))
        case _ if replaced or current is None:
            # A newer content is pending in its place: it stays due as it is, and is marked as attempted.
            after = None if current is None else replace(current, attempted=True)
            return Ended(acknowledged=False, entry=after, event=event("answered", replaced=True))
        case Again(due_at, not_found_since, anew=anew):
            after = replace(
                current,
                attempted=True,
                attempts=entry.attempts,
                due_at=due_at,
                first_attempt_at=None if anew else entry.first_attempt_at,
                not_found_since=not_found_since,
                reason=end.reply.get("reason"),
            )
            return Ended(acknowledged=False, entry=after, event=event("answered", again_at=due_at + shift))
        case GiveUp(reason):
            after = replace(
                current,
                attempted=True,
                attempts=entry.attempts,
                first_attempt_at=entry.first_attempt_at,
                not_found_since=entry.not_found_since,
                state="dead",
                reason=reason,
            )
            return Ended(acknowledged=False, entry=after, event=event("dead-lettered", reason=reason))


def _is_same(sent: Content, current: Current) -> bool:
    return (sent.status, sent.job_id, sent.deleted) == (current.status, current.job_id, current.deleted)


def _is_said_too(sent: Content, current: Current) -> bool:
    waiting: Content = replace(sent, status=current.status, job_id=current.job_id, deleted=current.deleted)
    return is_said(sent, Waiting(waiting, attempted=False))


def as_claimed(entry: Entry, now: int) -> Entry:
    """An entry as it is when the call that it is claimed for was made.

    If it was due for longer than counts, its first attempt moves on, up to now, and so does its first 404.
    """
    overdue, unasked = now - LONGEST_COUNTED - entry.due_at, now - LONGEST_UNASKED - entry.due_at
    first, not_found = entry.first_attempt_at, entry.not_found_since
    return replace(
        entry,
        attempted=True,
        attempts=entry.attempts + 1,
        first_attempt_at=now if first is None else min(first + max(overdue, 0), now),
        not_found_since=None if not_found is None else min(not_found + max(unasked, 0), now),
    )


def counted_calls(finished: Iterable[Finished], shift: int) -> Counter[tuple[int, str]]:
    """How many calls ended, by step of time and outcome; `shift` is what is added to their times for people."""
    ends = ((end.at + shift, outcome_of(end.fate)) for end in finished)
    return Counter((at - at % CALL_STEP, outcome) for at, outcome in ends)


def described(content: Content) -> dict[str, Any]:
    """A content as the history keeps it: what was compared."""
    return {"status": content.status, "job_id": content.job_id, "deleted": content.deleted}

"""What a store makes of ends of attempts: decided once for every store, and without a database."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cdc_sync.core.content import Content
from cdc_sync.core.delivery import Again, Done, GiveUp, outcome_of
from cdc_sync.core.diff import Waiting, is_said
from cdc_sync.core.outbox import Entry, EntryState
from cdc_sync.core.plan import described
from cdc_sync.core.retry import LONGEST_COUNTED, LONGEST_UNASKED
from cdc_sync.store.protocol import CALL_STEP, Finished, HistoryEntry


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
    event: HistoryEntry


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

    def event(name: str, **more: Any) -> HistoryEntry:
        return HistoryEntry(at, entry.watch, entry.application_id, name, {**detail, **more})

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

"""The decisions at the heart: is an observation worth a call (diff), and may it go out unseen by a person (fuse)?

The diff goes by what was told and what is waiting. The rules (design, "Diff"), with `base` = the waiting entry's
content if there is one, else what HelloWork was told:

1. observed = base: nothing to do.
2. observed = told, and the waiting entry was never attempted: the change was undone in time, cancel it.
3. observed = told, but the entry *was* attempted: HelloWork may or may not have heard it (the answer can be lost), so
   only saying the observed state again makes sure. Replace.
4. Anything else: queue, or replace what waits; the newest state wins.

The dates of one application's calls rise: a receiver that orders by them keeps the newest state. A row's own date may
be older than one that was sent: a status that is taken back shows the date of an earlier event, a date without a time
is midnight all day long, and a clock may have been ahead. A date alone never causes a call.

The fuse: a mass change is held for a person, not sent. It counts the entries that a watch queues, and the deletions
among them, in windows that start with the first entry after the last window's end. An entry that takes the place of one
that still waits counts too, once in a window: while HelloWork is away a mass change may find an entry of each
application there, and tell of each something else. From the first entry beyond the limit on, everything new is held,
until a person releases or discards it: a blown fuse does not mend itself with time.

A deletion that is doubted, since row-level security may have hidden the row, is held by itself: it says nothing of
other changes, so it neither blows the fuse nor counts.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from cdc_sync.core.content import LATEST, Content, Kind
from cdc_sync.core.reasons import Reason, coded

Unseen = Literal["send", "adopt"]


@dataclass(frozen=True, slots=True)
class Nothing:
    """HelloWork knows it already, or what waits says it."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take it as told without a call."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget what waits: it was undone before it was ever sent."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Let it wait for delivery, in the place of what waits now, if anything does."""

    kinds: frozenset[Kind]


Decision = Nothing | Adopt | Cancel | Queue

_NOTHING, _ADOPT, _CANCEL = Nothing(), Adopt(), Cancel()


class Waiting(NamedTuple):
    """The part of an outbox entry (pending, held or dead) that a decision depends on."""

    content: Content
    attempted: bool


def decide(observed: Content, told: Content | None, waiting: Waiting | None, unseen: Unseen) -> Decision:
    """Decide what an observation asks for.

    Args:
        observed: the application as the ATS's database has it now.
        told: what HelloWork acknowledged last, or what was adopted; None if it was told nothing yet.
        waiting: the application's outbox entry, in whatever state.
        unseen: what to do with an application of which HelloWork was told nothing and nothing waits.
    """
    if waiting is not None:
        if observed.same_as(waiting.content):
            return _NOTHING
        if told is not None and observed.same_as(told):
            return Queue(kinds_between(waiting.content, observed)) if waiting.attempted else _CANCEL
        return Queue(kinds_between(told, observed))
    if told is None:
        return _ADOPT if unseen == "adopt" else Queue(kinds_between(None, observed))
    kinds = kinds_between(told, observed)
    return Queue(kinds) if kinds else _NOTHING


def kinds_between(told: Content | None, observed: Content) -> frozenset[Kind]:
    """In which respects `observed` is news to somebody who was told `told` (None: nothing yet); none if it is none."""
    kinds: set[Kind] = set()
    if told is None:
        kinds.add("first")
    else:
        # Existence has no field of its own in a call: an application that is back is told by its status alone.
        if told.status != observed.status or (told.deleted and not observed.deleted):
            kinds.add("status")
        if told.job_id != observed.job_id:
            kinds.add("job")
    if observed.deleted and not (told and told.deleted):
        kinds.add("deleted")
    return frozenset(kinds)


def transition(told: Content | None, observed: Content) -> str:
    """What happens to an application, as people group and name it; `store/sql/transition.sql` says the same."""
    if observed.deleted and not (told and told.deleted):
        return "deleted"
    if told is None:
        return f"(new) → {observed.status}"
    if told.deleted and not observed.deleted:
        return f"deleted → {observed.status}"
    status, job = f"{told.status} → {observed.status}", f"job {told.job_id} → {observed.job_id}"
    if told.job_id == observed.job_id:
        return status
    return job if told.status == observed.status else f"{status}, {job}"


def in_order(content: Content, changed_at: int, acknowledged: Content | None, pending: Waiting | None) -> Content:
    """The content with a date that is later than each that HelloWork may have received.

    It is asked for once, when the content is enqueued, so that every attempt is the same request.

    Args:
        content: what is enqueued, with its row's own date.
        changed_at: when the change was recorded or read, in milliseconds since the epoch.
        acknowledged: the snapshot; None if it was adopted, so that its date was never sent.
        pending: the entry whose place it takes; one that was attempted may have been received.
    """
    received = [] if acknowledged is None else [acknowledged.event_date]
    if pending is not None and pending.attempted:
        received.append(pending.content.event_date)
    if not received or content.event_date > max(received):
        return content
    # Beyond the last date that can be written there is nothing to order by.
    return content._replace(event_date=min(max(changed_at, max(received) + 1, content.created), LATEST))


@dataclass(frozen=True, slots=True)
class FusePolicy:
    """How many new entries, and how many deletions among them, are believed within `window` milliseconds."""

    max_changes: int
    max_deletions: int
    window: int


class Fuse(NamedTuple):
    """The state of one watch's fuse: two buckets that fill with each new entry and drain evenly over the window.

    Attributes:
        at: when the buckets were as full as is said here, in milliseconds since the epoch.
        changes: what is in the bucket of all new entries.
        deletions: what is in the bucket of deletions.
        blown_at: since when entries are held; None if none is.
        reason: which limit was crossed first, for people.
        holds_all: whether every new entry is held, however full the buckets are.
        decided_at: when a person last released or discarded entries; those enqueued before were not counted.
    """

    at: int = 0
    changes: float = 0
    deletions: float = 0
    blown_at: int | None = None
    reason: str | None = None
    holds_all: bool = False
    decided_at: int = 0


def count(fuse: Fuse, policy: FusePolicy, now: int, *, deletion: bool) -> tuple[Fuse, str | None]:
    """Count one new entry. Returns the fuse, and why the entry is to be held; None if it is believed.

    What is held fills nothing, so that the next ordinary change finds room. But draining begins anew with it: of a mass
    change that goes on nothing is let through before its end.

    A clock that was set back empties the buckets rather than keep them full for hours.
    """
    if fuse.holds_all:
        return fuse, fuse.reason or ""
    elapsed = now - fuse.at
    left = 1 - elapsed / policy.window if 0 <= elapsed < policy.window else 0
    changes = max(fuse.changes - (1 - left) * policy.max_changes, 0.0) if left else 0.0
    deletions = max(fuse.deletions - (1 - left) * policy.max_deletions, 0.0) if left else 0.0
    if deletion and deletions + 1 > policy.max_deletions:
        reason = _beyond(policy.max_deletions, "deletions")
        deletions = policy.max_deletions
    elif changes + 1 > policy.max_changes:
        reason, changes = _beyond(policy.max_changes, "changes"), policy.max_changes
    else:
        return fuse._replace(at=now, changes=changes + 1, deletions=deletions + deletion), None
    return blow(fuse._replace(at=now, changes=changes, deletions=deletions), now, reason), reason


def _beyond(limit: int, what: Literal["changes", "deletions"]) -> Reason:
    if what == "deletions":
        return coded("fuse-deletions", "more than %(limit)s deletions at once (fuse.max_deletions)", limit=limit)
    return coded("fuse-changes", "more than %(limit)s changes at once (fuse.max_changes)", limit=limit)


def has_counted(fuse: Fuse, policy: FusePolicy, now: int, queued_at: int | None) -> bool:
    """Whether an entry that was enqueued at some moment has been counted within the last window."""
    return queued_at is not None and queued_at >= fuse.decided_at and 0 <= now - queued_at < policy.window


def blow(fuse: Fuse, now: int, reason: str) -> Fuse:
    """Blow it, unless it is blown already: what blew it first is what people look for."""
    return fuse if fuse.blown_at is not None else fuse._replace(blown_at=now, reason=reason)

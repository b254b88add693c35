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

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from cdc_sync.core.content import Content, Kind
from cdc_sync.core.instants import LATEST

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
    return replace(content, event_date=min(max(changed_at, max(received) + 1, content.created), LATEST))


@dataclass(frozen=True, slots=True)
class FusePolicy:
    """How many new entries, and how many deletions among them, are believed within `window` milliseconds."""

    max_changes: int
    max_deletions: int
    window: int


class Fuse(NamedTuple):
    """The state of one watch's fuse.

    Attributes:
        window_start: when the window began, in milliseconds since the epoch.
        changes: entries queued in this window.
        deletions: deletions queued in this window.
        blown_at: when it blew; None while it is whole.
        reason: what blew it, for people.
    """

    window_start: int = 0
    changes: int = 0
    deletions: int = 0
    blown_at: int | None = None
    reason: str | None = None


def count(fuse: Fuse, policy: FusePolicy, now: int, *, deletion: bool) -> Fuse:
    """Count one new entry; if the fuse is blown afterwards, the entry is to be held.

    A clock that was set back starts a new window rather than keep the old one open for hours.
    """
    if fuse.blown_at is not None:
        return fuse
    if not 0 <= now - fuse.window_start < policy.window:
        fuse = Fuse(window_start=now)
    fuse = Fuse(fuse.window_start, fuse.changes + 1, fuse.deletions + deletion)
    if fuse.deletions > policy.max_deletions:
        return blow(fuse, now, f"more than {policy.max_deletions} deletions at once")
    if fuse.changes > policy.max_changes:
        return blow(fuse, now, f"more than {policy.max_changes} changes at once")
    return fuse


def has_counted(fuse: Fuse, policy: FusePolicy, now: int, queued_at: int | None) -> bool:
    """Whether an entry that was queued at some moment was counted in the window that is open now."""
    is_open = 0 <= now - fuse.window_start < policy.window
    return is_open and queued_at is not None and queued_at >= fuse.window_start


def blow(fuse: Fuse, now: int, reason: str) -> Fuse:
    """Blow it, unless it is blown already: what blew it first is what people look for."""
    return fuse if fuse.blown_at is not None else fuse._replace(blown_at=now, reason=reason)

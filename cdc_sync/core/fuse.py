"""The fuse: a mass change is held for a person, not sent.

It counts the entries that a watch queues, and the deletions among them, in windows that start with the first entry
after the last window's end. An entry that takes the place of one that still waits counts too, once in a window: while
HelloWork is away a mass change may find an entry of each application there, and tell of each something else. From the
first entry beyond the limit on, everything new is held, until a person releases or discards it: a blown fuse does not
mend itself with time.

A deletion that is doubted, since row-level security may have hidden the row, is held by itself: it says nothing of
other changes, so it neither blows the fuse nor counts.
"""

from dataclasses import dataclass
from typing import NamedTuple


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


def has_counted(fuse: Fuse, policy: FusePolicy, now: int, queued_at: int) -> bool:
    """Whether an entry that was queued at some moment was counted in the window that is open now."""
    return 0 <= now - fuse.window_start < policy.window and queued_at >= fuse.window_start


def blow(fuse: Fuse, now: int, reason: str) -> Fuse:
    """Blow it, unless it is blown already: what blew it first is what people look for."""
    return fuse if fuse.blown_at is not None else fuse._replace(blown_at=now, reason=reason)

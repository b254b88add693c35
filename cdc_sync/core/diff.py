"""Two decisions: does an observation need a call (diff), and does a person decide first (fuse)?

The diff compares with `base`: the entry's content, or without one the snapshot (last acknowledged state).

1. observed = base: nothing to do.
2. observed = snapshot, and the entry was never attempted: the change was reverted in time, cancel it.
3. observed = snapshot, but the entry *was* attempted: HelloWork may have received it. Replace it by the observed state.
4. Anything else: enqueue, or replace the entry; the newest state wins.

The fuse counts an account's new entries within a watch, and deletions among them; ten times as many pass for the whole
watch. An entry that replaces a pending one counts too, once in a window: while HelloWork is away, a mass change may
find one for each application.
"""

from typing import Literal, NamedTuple

from .content import LATEST, Content, Kind
from .outbox import Entry
from .reasons import coded
from .rows import FirstStatus, FusePolicy


class Enqueue(NamedTuple):
    """Enqueue the state; it replaces the entry, if there is one."""

    kinds: frozenset[Kind]


Decision = Literal["nothing", "adopt", "cancel"] | Enqueue
"""Nothing: HelloWork or the entry has this state already. Adopt: take it as acknowledged, without a call.
Cancel: the change was reverted before it was sent.
"""


def decide(observed: Content, snapshot: Content | None, entry: Entry | None, first_status: FirstStatus) -> Decision:
    """Decide what follows from an observation.

    Args:
        observed: the application as the ATS's database has it now.
        snapshot: None if nothing was acknowledged or adopted.
        entry: the application's, in any state.
        first_status: for an application without snapshot and entry.
    """
    base = snapshot if entry is None else entry.content
    if base is None:
        return "adopt" if first_status == "adopt" else Enqueue(kinds_between(None, observed))
    if observed.same_as(base):
        return "nothing"
    if entry is None or snapshot is None or not observed.same_as(snapshot):
        return Enqueue(kinds_between(snapshot, observed))
    return Enqueue(kinds_between(base, observed)) if entry.attempted else "cancel"


def kinds_between(snapshot: Content | None, observed: Content) -> frozenset[Kind]:
    """How `observed` differs from the snapshot."""
    kinds: set[Kind] = set()
    if snapshot is None:
        kinds.add("first")
    else:
        # A call has no field for existence: a status alone brings an application back.
        if snapshot.status != observed.status or (snapshot.deleted and not observed.deleted):
            kinds.add("status")
        if snapshot.job_id != observed.job_id:
            kinds.add("job")
    if observed.deleted and not (snapshot and snapshot.deleted):
        kinds.add("deleted")
    return frozenset(kinds)


def transition(snapshot: Content | None, observed: Content) -> str:
    """What happens to an application, as people group it; `@transition` in the store's statements is the same rule."""
    if observed.deleted and not (snapshot and snapshot.deleted):
        return "deleted"
    if snapshot is None:
        return f"(new) → {observed.status}"
    if snapshot.deleted and not observed.deleted:
        return f"deleted → {observed.status}"
    status, job = f"{snapshot.status} → {observed.status}", f"job {snapshot.job_id} → {observed.job_id}"
    if snapshot.job_id == observed.job_id:
        return status
    return job if snapshot.status == observed.status else f"{status}, {job}"


def in_order(content: Content, changed_at: int, acknowledged: Content | None, entry: Entry | None) -> Content:
    """The content with a later date than any that HelloWork may have received, which may order by them.

    A row's own date may be older: that of a reverted status, or midnight.

    Args:
        content: as the row gives it.
        changed_at: when the row changed.
        acknowledged: the snapshot; None if it was adopted, so that its date was never sent.
        entry: the one that is replaced.
    """
    maybe_received = [acknowledged, entry.content if entry and entry.attempted else None]
    received = max((each.event_date for each in maybe_received if each is not None), default=None)
    if received is None or content.event_date > received:
        return content
    # Nothing can be later than the last expressible date.
    return content._replace(event_date=min(max(changed_at, received + 1, content.created), LATEST))


class Fuse(NamedTuple):
    """The fuse of a watch, or the buckets of an account within one: both fill with each new entry, and drain evenly.

    Attributes:
        at: when the buckets had these contents.
        blown_at: since when entries are held.
        reason: the limit that was crossed first.
        holds_all: whether every new entry is held, whatever the buckets contain.
        decided_at: when a person last released or discarded entries; earlier ones do not count.
    """

    at: int = 0
    changes: float = 0
    deletions: float = 0
    blown_at: int | None = None
    reason: str | None = None
    holds_all: bool = False
    decided_at: int = 0


def count(fuse: Fuse, policy: FusePolicy, now: int, *, deletion: bool) -> tuple[Fuse, str | None]:
    """Count one new entry. Returns the fuse, and why the entry is held; None if it passes.

    A held entry fills nothing, so the next ordinary change finds room. But draining restarts: a mass change that goes
    on is held to its end. A clock that was set back empties the buckets.
    """
    elapsed = now - fuse.at
    if not 0 <= elapsed < policy.window:
        fuse, elapsed = fuse._replace(changes=0, deletions=0), 0
    drained = elapsed / policy.window
    changes = max(fuse.changes - drained * policy.max_changes, 0.0)
    deletions = max(fuse.deletions - drained * policy.max_deletions, 0.0)
    reason = None
    if deletion and deletions + 1 > policy.max_deletions:
        reason = coded(
            "fuse-deletions", "more than %(limit)s deletions at once (fuse.max_deletions)", limit=policy.max_deletions
        )
        deletions = policy.max_deletions
    elif changes + 1 > policy.max_changes:
        reason = coded(
            "fuse-changes", "more than %(limit)s changes at once (fuse.max_changes)", limit=policy.max_changes
        )
        changes = policy.max_changes
    else:
        changes += 1
        deletions += deletion
    counted = fuse._replace(at=now, changes=changes, deletions=deletions)
    return counted if reason is None else blow(counted, now, reason), reason


def has_counted(fuse: Fuse, policy: FusePolicy, now: int, entry: Entry | None) -> bool:
    """Whether an entry is pending and was counted within the last window."""
    if entry is None or entry.state != "pending":
        return False
    return entry.queued_at >= fuse.decided_at and 0 <= now - entry.queued_at < policy.window


def blow(fuse: Fuse, now: int, reason: str) -> Fuse:
    """Blow the fuse; a blown one keeps its first reason, which people look for."""
    return fuse if fuse.blown_at is not None else fuse._replace(blown_at=now, reason=reason)

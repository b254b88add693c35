"""Does an observation need a call?

The diff compares with `base`: the entry's content, or without one the snapshot (last acknowledged state).

1. observed = base: nothing to do.
2. observed = snapshot, and the entry was never attempted: the change was reverted in time, cancel it.
3. observed = snapshot, but the entry *was* attempted: HelloWork may have received it. Replace it by the observed state.
4. Anything else: enqueue, or replace the entry; the newest state wins.
"""

from typing import Literal, NamedTuple

from .content import LATEST, Content, Kind
from .outbox import Entry
from .rows import FirstStatus


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
    if base is None and first_status == "adopt":
        return "adopt"
    if base is not None and observed.same_as(base):
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

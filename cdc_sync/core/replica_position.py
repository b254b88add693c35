"""Which server was read and how far it was, and whether another one shows all that was seen there.

A replica counts the same transactions as its primary, with the same numbers. A snapshot shows what committed below its
xmax, except for the transactions that it lists as still open. A snapshot of a server in recovery lists none: there any
transaction from its xmin on may be open (src/backend/storage/ipc/procarray.c, GetSnapshotData). So an equal xmax does
not tell that a replica has come as far.
"""

import json
from dataclasses import dataclass

LOST_IN_A_CRASH = 1_000
"""Transaction ids that a primary may hand out once more after a crash: those whose end was not on its disk yet, of
commits that did not wait for it (ours do not either), within half a second or so. Without this, a server at which
nobody writes after a crash would be refused for ever; one that is busy makes up for more within moments."""


@dataclass(frozen=True, slots=True)
class ReplicaPosition:
    """A server, and the snapshot that was read there.

    Attributes:
        server: names a running server: when it was started, in microseconds since the epoch, and its address.
        in_recovery: whether it was a standby.
        xmin: the snapshot's; every transaction below has ended. With epoch (64 bits, never wraps), like all ids here.
        xmax: the snapshot's; nothing from here on is visible.
        open: the transactions in between that were open; of a standby they are not known.
        timeline: of a primary, that of its last checkpoint: a promotion begins a new one, and a checkpoint; else 0.
    """

    server: str
    in_recovery: bool
    xmin: int
    xmax: int
    open: frozenset[int] = frozenset()
    timeline: int = 0

    @classmethod
    def from_text(cls, text: str) -> "ReplicaPosition":
        """From a JSON array: start, address, port, whether in recovery, snapshot as PostgreSQL writes it, timeline."""
        started, address, port, in_recovery, snapshot, timeline = json.loads(text)
        xmin, xmax, listed = snapshot.split(":")
        return cls(
            server=f"{started} {address or 'socket'} {port or ''}".rstrip(),
            in_recovery=in_recovery,
            xmin=int(xmin),
            xmax=int(xmax),
            open=frozenset(int(each) for each in listed.split(",") if each),
            timeline=timeline or 0,
        )

    @property
    def started(self) -> str:
        """When the server was started: no two servers that run have this in common."""
        return self.server.partition(" ")[0]

    def is_before(self, other: "ReplicaPosition") -> bool:
        """Whether another snapshot of the same server is a later one."""
        return (self.xmin, self.xmax, -len(self.open)) < (other.xmin, other.xmax, -len(other.open))


@dataclass(frozen=True, slots=True)
class Behind:
    """A server does not show all that was seen at another one.

    Attributes:
        waits_for: the oldest transaction that is open there and may be one whose outcome was seen; None if the server
            has not come as far at all.
    """

    waits_for: int | None


def behind(read: ReplicaPosition, now: ReplicaPosition) -> Behind | None:
    """Whether a server is behind what was read; None if it shows all of it."""
    if now.server == read.server:
        return None
    if not now.in_recovery and now.timeline < read.timeline:
        # A primary that a failover left behind. It may take writes, and reach any xmax.
        return Behind(None)
    lost = 0 if now.in_recovery else LOST_IN_A_CRASH
    if now.xmax + lost < read.xmax:
        return Behind(None)
    if now.in_recovery:
        # All from xmin on may be open. What was open before was not seen either.
        if now.xmin < read.xmax and not read.open.issuperset(_few(now.xmin, read.xmax, len(read.open))):
            return Behind(now.xmin)
        return None
    unseen = [each for each in now.open if each < read.xmax and each not in read.open]
    return Behind(min(unseen)) if unseen else None


def _few(first: int, end: int, most: int) -> range:
    """The ids from `first` to `end`, cut behind one more than can be among `most`."""
    return range(first, min(end, first + most + 1))

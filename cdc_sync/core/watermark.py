"""How far a poll's watermark may advance: the fence.

Rows of slow transactions become visible later than newer ones, so the watermark follows the fence
(docs/how-it-works.md). Each poll remembers a pair (instant, xmax), where xmax is above every transaction id assigned by
that instant. Once a later snapshot's xmin reaches that xmax, all those transactions have ended: later commits made
their first write after the instant. The fence is the latest such instant. A snapshot's own xmax does not serve
([decision 3](../../docs/decisions/0003-the-fence-takes-a-transaction-id.md)).
"""

from typing import NamedTuple

REMEMBERED = 512


class SnapshotReading(NamedTuple):
    """One reading of the server.

    Attributes:
        instant: the database's clock, in microseconds since the epoch, read before `xmax` is taken.
        xmin: a snapshot's, with epoch (64 bits); the rows are read with this snapshot or a later one.
        xmax: an id, with epoch, above all assigned by `instant`; not the snapshot's.
    """

    instant: int
    xmin: int
    xmax: int


class Fence(NamedTuple):
    """Earlier readings that no xmin has reached yet, oldest first, and the fence so far.

    `instant` is in microseconds since the epoch; None if not yet known.
    """

    readings: tuple[SnapshotReading, ...] = ()
    instant: int | None = None


def advanced(fence: Fence, reading: SnapshotReading) -> Fence:
    """The fence after a further reading. It moves back only if the server's clock does."""
    # A clock that went back dates new writes earlier than earlier readings assumed.
    readings = [
        known if known.instant <= reading.instant else known._replace(instant=reading.instant)
        for known in fence.readings
    ]
    if readings and readings[-1].xmax == reading.xmax:
        # No transaction took an id between the two: the later instant is valid, and nearer.
        readings.pop()
    readings.append(reading)
    past = [known.instant for known in readings if known.xmax <= reading.xmin]
    ahead = tuple(known for known in readings if known.xmax > reading.xmin)
    reached = past[-1] if past else fence.instant
    if len(ahead) > REMEMBERED:
        # In a long transaction: the fence's steps only become coarser.
        ahead = ahead[::2]
    return Fence(ahead, None if reached is None else min(reached, reading.instant))

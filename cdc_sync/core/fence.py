"""The fence: how far a poll's watermark may go without passing a transaction that has not committed yet.

A row becomes visible when its transaction commits, but carries a time from before: `updated_at` is usually the
transaction's start. A watermark that follows the newest row seen would pass the rows of transactions that are slower.

PostgreSQL tells, to anybody, a snapshot's `xmin`: every transaction below has ended. Remember at each poll the pair
(instant, xmax), where xmax is above every transaction id that had been handed out at the instant. When some later
snapshot's xmin has reached that xmax, every transaction that had an id at that instant has ended; whatever commits
later took its id after the instant, so its first write came after it too. So from then on nothing with a first write
before the instant can appear any more. The fence is the latest such instant.

A snapshot's own xmax will not do: it is one above the highest id that has *ended*, so a transaction that is still
writing may have that very id, or a higher one, and the snapshot is `755:755:` both before it begins and while it runs.

`lookback` then covers the distance between a transaction's own time and its first write (PostgreSQL assigns an id at
the first write, while `now()` is the start), and application servers whose clocks are behind.
"""

from dataclasses import dataclass, replace

REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class SnapshotReading:
    """One look at the server.

    Attributes:
        instant: the database's clock, in microseconds since the epoch, read before `xmax` is taken.
        xmin: a snapshot's xmin, with epoch (64 bits, never wraps); the rows are read with this snapshot or a later one.
        xmax: an id, with epoch, above all that had been handed out at `instant`; not the snapshot's own xmax.
    """

    instant: int
    xmin: int
    xmax: int


@dataclass(frozen=True, slots=True)
class Fence:
    """What is remembered of earlier looks, oldest first, and the fence so far.

    Attributes:
        readings: pairs not yet known to be past.
        instant: the fence, in microseconds since the epoch; None as long as it is not known.
    """

    readings: tuple[SnapshotReading, ...] = ()
    instant: int | None = None


def look(fence: Fence, reading: SnapshotReading) -> Fence:
    """Take one more look into account.

    The fence moves back only if the server's clock does.
    """
    # A clock that went back gives what is written from then on its new, earlier time. No earlier reading knew of that.
    readings = tuple(
        known if known.instant <= reading.instant else replace(known, instant=reading.instant)
        for known in fence.readings
    )
    if readings and readings[-1].xmax == reading.xmax:
        # No transaction has begun to write between the two, so the later instant is as good, and nearer.
        readings = readings[:-1]
    readings = (*readings, reading)
    past = [known.instant for known in readings if known.xmax <= reading.xmin]
    ahead = tuple(known for known in readings if known.xmax > reading.xmin)
    reached = past[-1] if past else fence.instant
    if len(ahead) > REMEMBERED:
        # A transaction stays open for long. Forgetting every other pair only makes the fence's steps coarser.
        ahead = ahead[::2]
    return Fence(ahead, None if reached is None else min(reached, reading.instant))

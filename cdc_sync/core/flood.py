"""A flood: the database is written to by so many transactions a second that capture had better stand back.

While the ATS works flat out, whoever keeps one of the server's processors busy halves its rate, at the lowest priority
too (decision 14). So capture takes a tenth of the time then, what it costs to tell the changes included, and the log
keeps what it has not come to; when the flood is over, it catches up at its own speed. What is measured is how fast the
server hands out transaction ids, not how much there is in the log: that one UPDATE has changed ten thousand rows is no
flood. It has taken as many ids, but in one window of time; nobody writes any more when its changes can be seen.
"""

from dataclasses import dataclass, replace

FLOOD = 1_000.0
"""Transaction ids per second from which on it is one. A recorded change takes two: see `docs/for-dbas.md`."""

SHARE = 10
"""Capture takes one part in this many of the time then."""

TO_TELL = 0.0004
"""Seconds of a processor that each change takes afterwards: its call, the outbox, the log (decision 13)."""

WINDOW = 0.2
"""Seconds over which ids are counted, at least."""

LONGEST_BREATH = 2.0
"""Seconds to stand back at one go, at most."""


@dataclass(frozen=True, slots=True)
class Writes:
    """How fast transaction ids are handed out.

    Attributes:
        since: when the present window began, in seconds of any clock that does not go back.
        next_id: the id that was the next then; None if nobody has looked yet.
        per_second: the rates of the two windows before.
    """

    since: float = 0.0
    next_id: int | None = None
    per_second: tuple[float, float] = (0.0, 0.0)

    @property
    def are_a_flood(self) -> bool:
        """Whether they go on: one statement that changes many rows takes its ids at once, as it is committed."""
        return min(self.per_second) >= FLOOD


def count(writes: Writes, now: float, next_id: int) -> Writes:
    """Take a look at the next transaction id into account."""
    if writes.next_id is None:
        return replace(writes, since=now, next_id=next_id)
    passed = now - writes.since
    if passed < WINDOW:
        return writes
    rate = (next_id - writes.next_id) / passed
    return Writes(since=now, next_id=next_id, per_second=(writes.per_second[1], rate))


def breath(writes: Writes, worked: float, changes: int) -> float:
    """Seconds to stand back for, after so many seconds of work that brought so many changes."""
    return min((SHARE - 1) * (worked + changes * TO_TELL), LONGEST_BREATH) if writes.are_a_flood else 0.0

"""The clock that decides when something is due, apart from the clock that people read.

A wall clock is set: by NTP after the start, by hand, by a virtual machine that goes on. A wait that is the difference
of two of its readings then ends at once, or hours late. So what decides runs on `CLOCK_BOOTTIME`, which nobody sets and
which counts a suspended machine's time; milliseconds since the epoch are only where it was anchored.

sqlite    The anchor is the wall clock when the store is first opened after a boot. It is kept in the store, so that
          every process of this boot, a restarted daemon or a command, has the same clock, whatever is set meanwhile.
postgres  The anchor is the store's clock, compared with each beat of the lease, plus an offset that is kept in the
          store. A store's clock that goes back, or a failover to a server whose clock is behind, makes the next daemon
          that compares raise the offset, so that the clock goes on for all daemons.

After a boot, or while no daemon looked, a clock may have gone back all the same. The newest event of the history bounds
that: the clock starts no earlier.

What is written for people, the history above all, is by the machine's clock (sqlite) or by the store's (postgres), on
which several hosts agree.
"""

import time
from pathlib import Path

from cdc_sync.core.findings import WORTH_SAYING

TOLERATED = 2_000
"""Milliseconds by which the store's clock may be behind what we expect: a slow answer, clocks that run unevenly. Such a
difference is adopted, and the clock stands still until it is made up for."""

_TICKS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Elsewhere than on Linux, a suspended machine's time does not count: waits last longer by it."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def uptime() -> int:
    """Milliseconds since the boot; nobody sets it back, and the time of a suspended machine counts."""
    return time.clock_gettime_ns(_TICKS) // 1_000_000


def boot_id() -> str:
    """Which boot this is; empty if nobody tells."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Clock:
    """Milliseconds since the epoch that never go back, for due times and waits.

    Args:
        base: its reading at the boot.
        ahead: by how much it is ahead of the store's clock, which people then read; None: people read this machine's.
    """

    def __init__(self, base: int, ahead: int | None = None) -> None:
        self._base = base
        self._ahead = ahead
        self._latest = base + uptime()

    def __call__(self) -> int:
        """The time."""
        self._latest = max(self._latest, self._base + time.clock_gettime_ns(_TICKS) // 1_000_000)
        return self._latest

    @property
    def shift(self) -> int:
        """What has to be added to a moment of this clock for people."""
        if self._ahead is not None:
            return -self._ahead
        found = time.time_ns() // 1_000_000 - self()
        return found if abs(found) > WORTH_SAYING else 0

    @property
    def shared(self) -> bool:
        """Whether it follows the clock of a store that several daemons have."""
        return self._ahead is not None

    @property
    def skew(self) -> int:
        """By how much this machine's clock is ahead of the clock that it is compared with.

        That is the store's clock (postgres), or its own as it was when the store was first opened after the boot.
        """
        return time.time_ns() // 1_000_000 - (self() - (self._ahead or 0))

    def for_people(self, moment: int | None = None) -> int:
        """A moment of this clock, or now, as people read it."""
        return (self() if moment is None else moment) + self.shift

    def due(self, now: int) -> int:
        """Now, as a due time, when people's clock says `now`; never a moment that is still to come."""
        return min(now - self.shift, self())

    def compare(self, store: int, ahead: int, before: int, after: int) -> int:
        """Compare with the store's clock; returns how much of `ahead` is missing for this clock to go on.

        Args:
            store: the store's clock, read at some moment between `before` and `after`.
            ahead: what the store has as the offset.
            before: our uptime before the store was asked.
            after: our uptime after the answer had come.
        """
        self._ahead = ahead
        earliest, latest = store + ahead - after, store + ahead - before
        if self._base < earliest:
            # We were late: a stopped virtual machine, whose uptime stood still. Or the store's clock was set forward.
            self._base = earliest
        elif self._base > latest:
            if self._base - latest > TOLERATED:
                return self._base - latest
            self._base = latest
        return 0

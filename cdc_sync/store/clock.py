"""The clock of due times, apart from the clock that people read.

A wall clock is set: by NTP, by hand, by a resumed virtual machine. Waits would end at once, or hours late. So due times
run on `CLOCK_BOOTTIME`, which counts suspended time, anchored to milliseconds since the epoch:

sqlite    at the wall clock of the store's first opening after a boot, which the store keeps for all processes.
postgres  at the store's clock, compared at each beat of the lease, plus an offset in the store. If that clock goes
back, the next daemon that compares raises the offset for all.

While no daemon ran, a clock may have gone back: so it starts no earlier than the newest event of the history.

People read the machine's clock (sqlite) or the store's (postgres), on which several hosts agree.
"""

import time
from pathlib import Path

from cdc_sync.core.findings import WORTH_REPORTING

TOLERATED = 2_000
"""Milliseconds by which the store's clock may be behind (a slow answer, uneven clocks) while ours stands still."""

_TICKS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Other systems than Linux do not count suspended time."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def uptime() -> int:
    """Milliseconds since the boot, suspended time included."""
    return time.clock_gettime_ns(_TICKS) // 1_000_000


def boot_id() -> str:
    """Which boot this is; empty if unknown."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Clock:
    """Milliseconds since the epoch that never go back, for due times and waits.

    `base` is its reading at the boot, `ahead` its lead over a shared store's clock; None without one.
    """

    def __init__(self, base: int, ahead: int | None = None) -> None:
        self._base = base
        self._ahead = ahead
        self._latest = base + uptime()
        self._shift = 0

    def __call__(self) -> int:
        """Now."""
        self._latest = max(self._latest, self._base + time.clock_gettime_ns(_TICKS) // 1_000_000)
        return self._latest

    @property
    def shift(self) -> int:
        """Add this to a moment of this clock for people."""
        if self._ahead is not None:
            return -self._ahead
        found = time.time_ns() // 1_000_000 - self()
        if abs(found - self._shift) > 1:  # else only the two clocks' milliseconds begin at different moments
            self._shift = found
        return self._shift if abs(self._shift) > WORTH_REPORTING else 0

    @property
    def shared(self) -> bool:
        """Whether it follows a shared store's clock."""
        return self._ahead is not None

    @property
    def skew(self) -> int:
        """The lead of this machine's clock over the store's (postgres), or over itself at the anchoring (sqlite)."""
        return time.time_ns() // 1_000_000 - (self() - (self._ahead or 0))

    def for_people(self, moment: int | None = None) -> int:
        """A moment of this clock, or now, for people."""
        return (self() if moment is None else moment) + self.shift

    def due(self, now: int) -> int:
        """The due time of people's `now`; never a future moment."""
        return min(now - self.shift, self())

    def compare(self, store: int, ahead: int, before: int, after: int) -> int:
        """Compare with the store's clock; returns what `ahead`, the store's offset, lacks for this one not to go back.

        The store's clock was read between our uptimes `before` and `after`.
        """
        self._ahead = ahead
        earliest, latest = store + ahead - after, store + ahead - before
        if self._base < earliest:
            # A stopped virtual machine counts no uptime; or the store's clock was set forward.
            self._base = earliest
        elif self._base > latest:
            if self._base - latest > TOLERATED:
                return self._base - latest
            self._base = latest
        return 0

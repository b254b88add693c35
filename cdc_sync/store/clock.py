"""The clock of due times, apart from the clock that people read.

A wall clock is set: by NTP, by hand, by a resumed virtual machine. Waits would end at once, or hours late. So due times
run on `CLOCK_BOOTTIME`, which counts suspended time. When a process opens the store, its clock begins at the time of
the machine (sqlite) or of the store's server (postgres), or at the newest event of the history if that is later: while
no daemon ran, a clock may have gone back. People read the machine's clock (sqlite) or the server's (postgres), on which
several hosts agree.
"""

import time

from cdc_sync.wall_clock import wall_clock

WORTH_REPORTING = 2_000
"""Milliseconds by which two clocks differ that are reported. The dates in calls come from the ATS's database."""

_TICKS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Other systems than Linux do not count suspended time."""


def uptime() -> int:
    """Milliseconds since the boot, suspended time included."""
    return time.clock_gettime_ns(_TICKS) // 1_000_000


class Clock:
    """Milliseconds since the epoch that never go back, for due times and waits.

    Attributes:
        shared: whether a store's server has the clock that people read.
        ahead: the lead over the server's clock.
    """

    def __init__(self, now: int, server: int | None = None) -> None:
        self._base = now - uptime()
        self.shared = server is not None
        self.ahead = 0 if server is None else now - server

    def __call__(self) -> int:
        """Now."""
        return self._base + uptime()

    @property
    def shift(self) -> int:
        """Add this to a moment of this clock for people."""
        found = -self.ahead if self.shared else wall_clock() - self()
        return found if abs(found) > WORTH_REPORTING else 0

    @property
    def skew(self) -> int:
        """The lead of this machine's clock over the server's (postgres), or over itself at the opening (sqlite)."""
        return wall_clock() - (self() - self.ahead)

    def for_people(self, moment: int | None = None) -> int:
        """A moment of this clock, or now, for people."""
        return (self() if moment is None else moment) + self.shift

    def due(self, now: int) -> int:
        """The due time of people's `now`; never a future moment."""
        return min(now - self.shift, self())

    def compare(self, server: int, before: int) -> None:
        """Compare with the server's clock, which was read between `before`, by this clock, and now."""
        earliest, latest = before - server, self() - server
        self.ahead = min(max(self.ahead, earliest), latest)

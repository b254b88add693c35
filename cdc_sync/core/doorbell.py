"""When to sleep and be rung for, and when to stay awake: how fast changes come.

Each NOTIFY takes a lock that serialises the commits of the whole database. While changes are few nobody notices, and
latency is milliseconds; when they come fast the ATS would pay for it, and whoever drains is awake anyway. Two limits
apart from each other keep the bell from being armed and disarmed in turn.
"""

from dataclasses import dataclass, replace

BUSY = 50.0
"""Changes per second from which on to stay awake."""

CALM = 10.0
"""Changes per second below which to sleep again."""

WINDOW = 0.5
"""Seconds over which the rate is taken."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast changes come.

    Attributes:
        since: when the present window began, in seconds of any clock that does not go back.
        changes: how many came in it so far.
        per_second: the rate of the window before.
    """

    since: float
    changes: int = 0
    per_second: float = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether somebody who sleeps should stay awake."""
        return self._at_least >= BUSY

    @property
    def is_calm(self) -> bool:
        """Whether somebody who is awake may sleep."""
        return self._at_least < CALM

    @property
    def _at_least(self) -> float:
        """The rate of the window before, or what the present one will have at least: a burst is seen as it begins."""
        return max(self.per_second, self.changes / WINDOW)


def count(pace: Pace, now: float, changes: int) -> Pace:
    """Take into account what was found."""
    passed = now - pace.since
    if passed < WINDOW:
        return replace(pace, changes=pace.changes + changes)
    return Pace(since=now, changes=changes, per_second=pace.changes / passed)


def pause(searched: float) -> float:
    """Seconds to wait until the next drain while awake, after one that looked `searched` seconds for changes.

    To look costs the server as much as the log has rows, those included that were taken and that VACUUM may not remove
    yet, as long as some old transaction might see them. So a fifth of the time at most is spent on it, until waiting
    would be felt too much.
    """
    return min(max(4 * searched, 0.02), 2.0)

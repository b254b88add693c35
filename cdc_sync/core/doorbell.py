"""When to sleep and be rung for, and when to stay awake: how fast changes come.

Each NOTIFY takes a lock that serialises the commits of the whole database. While changes are few nobody notices, and
latency is milliseconds; when they come fast the ATS would pay for it, and whoever drains is awake anyway. Two limits
apart from each other keep the bell from being armed and disarmed in turn.
"""

from typing import NamedTuple

BUSY = 50.0
"""Changes per second from which on whoever sleeps should stay awake."""

CALM = 10.0
"""Changes per second below which whoever is awake may sleep."""

WINDOW = 0.5
"""Seconds over which the rate is taken."""


class Pace(NamedTuple):
    """How fast changes come.

    Attributes:
        since: when the present window began, in seconds of any clock that does not go back.
        changes: how many came in it so far.
        before: the rate of the window before, in changes per second.
        rate: that rate, or what the present window will have at least: a burst is seen as it begins.
    """

    since: float
    changes: int = 0
    before: float = 0.0
    rate: float = 0.0


def count(pace: Pace, now: float, changes: int) -> Pace:
    """Take into account what was found."""
    since, before = pace.since, pace.before
    if now - since < WINDOW:
        changes += pace.changes
    else:
        since, before = now, pace.changes / (now - since)
    return Pace(since, changes, before, max(before, changes / WINDOW))


def pause(searched: float) -> float:
    """Seconds to wait until the next drain while awake, after one that looked `searched` seconds for changes.

    To look costs the server as much as the log has rows, those included that were taken and that VACUUM may not remove
    yet, as long as some old transaction might see them. So a fifth of the time at most is spent on it, until waiting
    would be felt too much.
    """
    return min(max(4 * searched, 0.02), 2.0)

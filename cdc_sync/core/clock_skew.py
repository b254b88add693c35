"""How far another clock is from ours, by one exchange.

The other clock was read at some moment between two readings of ours, so it is off by at least what lies outside of
them: a slow answer alone is no skew.
"""

from cdc_sync.core.findings import Finding

WORTH_SAYING = 2_000
"""Milliseconds beyond which a skew is told. Dates in a call come from the database and so carry its skew along."""

_REMEDY = "timedatectl set-ntp true   # on the machine whose clock is wrong; `timedatectl status` tells which"


def skew(theirs: int, before: int, after: int, resolution: int = 0) -> int:
    """By how many milliseconds at least their clock is ahead of ours (negative: behind); 0 if it may be right.

    Args:
        theirs: their reading, rounded down to `resolution`; all in milliseconds since the epoch.
        before: ours before the question was sent.
        after: ours after the answer had come.
        resolution: in which steps they tell it.
    """
    if theirs > after:
        return theirs - after
    return min(theirs + resolution - before, 0)


def judged(check: str, whose: str, found: int) -> Finding:
    """The finding about a skew.

    Args:
        check: the check's name.
        whose: whose clock it is, as the beginning of a sentence.
        found: what `skew` gave.
    """
    if abs(found) <= WORTH_SAYING:
        return Finding(check, "ok", f"{whose} and this machine's clock agree")
    side = "ahead of" if found > 0 else "behind"
    return Finding(
        check,
        "warning",
        f"{whose} is {abs(found) / 1000:.0f} s {side} this machine's. Nothing is lost by it, but dates, waits and "
        f"certificates are judged by clocks.",
        _REMEDY,
    )

"""Whether a watermark can be relied on: what polls and sweeps have seen of it, and what that says.

A watermark that the ATS does not set, or sets in several time zones, lets changes wait for the next sweep. Three things
show it: a row that is dated ahead of the database's clock, a row that is older than its own creation, and a change
that only a sweep has found.
"""

from collections.abc import Collection
from statistics import median

from cdc_sync.core.rows import Key

LEAST = 3
"""Rows that show the same before it is said: fewer may be slips."""

SLIP = 5 * 60_000
"""Milliseconds by which a clock may be ahead."""

_KEPT = 100
_FORGOTTEN = 24 * 60 * 60 * 1000
_HOUR = 60 * 60_000
_EXACTLY = 2 * 60_000
_MOST_HOURS = 14


class Evidence:
    """Rows of one watch that speak against its watermark, for a day; times and distances are in milliseconds.

    Attributes:
        column: the watermark's name.
        resolution: how much time each value stands for.
        reported: the verdict that was reported last.
    """

    def __init__(self, column: str = "", resolution: int = 0) -> None:
        self.column = column
        self.resolution = resolution
        self.reported: str | None = None
        self._ahead: dict[Key, tuple[int, int]] = {}
        self._early: dict[Key, tuple[int, int]] = {}
        self._missed: dict[Key, tuple[int, int]] = {}
        self._between_sweeps = 0

    def polled(self, key: Key, instant: int, created: int | None, now: int) -> None:
        """A poll has read a row with this watermark at `now`, of which only the first time counts."""
        if instant - now > SLIP:
            _note(self._ahead, key, instant - now, now)
        if created is not None and created - instant - self.resolution > SLIP:
            _note(self._early, key, created - instant, now)

    def missed(self, key: Key, instant: int | None, now: int, between_sweeps: int) -> None:
        """A sweep has found a row's change, which no poll has seen; None if the watermark is no instant."""
        self._between_sweeps = max(self._between_sweeps, between_sweeps)
        _note(self._missed, key, 0 if instant is None else now - instant, now)

    def verdict(self, now: int) -> str | None:
        """What speaks against the watermark; None if too little does."""
        ahead, early, missed = (_recent(each, now) for each in (self._ahead, self._early, self._missed))
        column, said = self.column, []
        if len(ahead) >= LEAST:
            hours = _whole_hours(ahead)
            said.append(
                f"{column} of {len(ahead)} rows was in the future when it was written"
                + (f", by {hours} h: part of the ATS writes another time zone than `timezone`" if hours else "")
            )
        if len(early) >= LEAST:
            hours = _whole_hours(early)
            said.append(
                f"{column} of {len(early)} rows is before `created`"
                + (f", by {hours} h: the ATS writes the two in different time zones" if hours else "")
            )
        if len(missed) >= LEAST:
            hours = self._hours_behind(missed)
            said.append(
                f"{column} of {len(missed)} changed rows was {hours} h in the past when it was written, so only sweeps "
                f"found them: part of the ATS writes another time zone than `timezone`"
                if hours
                else f"{column} did not move when {len(missed)} rows changed, so only sweeps found them: part of the "
                f"ATS does not set it, or the change was in another table"
            )
        return "; ".join(said) or None

    def _hours_behind(self, missed: Collection[int]) -> int:
        """The whole hours by which all of them are behind, if one number fits; else 0.

        When each change happened is known only as far as that it was between two sweeps.
        """
        hours = min(missed) // _HOUR
        fits = 1 <= hours <= _MOST_HOURS and max(missed) - hours * _HOUR <= self._between_sweeps + _EXACTLY < _HOUR
        return hours if fits else 0


def _note(evidence: dict[Key, tuple[int, int]], key: Key, distance: int, now: int) -> None:
    """Keep the distance that a row had first, and when it was seen last."""
    if key in evidence or len(evidence) < _KEPT:
        evidence[key] = (evidence.get(key, (distance, now))[0], now)


def _recent(evidence: dict[Key, tuple[int, int]], now: int) -> list[int]:
    for key in [key for key, (_, at) in evidence.items() if now - at > _FORGOTTEN]:
        del evidence[key]
    return [distance for distance, _ in evidence.values()]


def _whole_hours(distances: Collection[int]) -> int:
    """The median in whole hours, if it is near enough to a number of them; else 0."""
    middle = median(distances)
    hours = round(middle / _HOUR)
    return hours if 1 <= hours <= _MOST_HOURS and abs(middle - hours * _HOUR) <= _EXACTLY else 0

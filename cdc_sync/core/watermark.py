"""Whether a watermark can be relied on: what polls and sweeps have seen of it, and what that says.

A watermark that the ATS does not set, or sets in several time zones, lets changes wait for the next sweep. Three things
show it: a row that is dated ahead of the database's clock, a row that is older than its own creation, and a change
that only a sweep has found.
"""

from collections.abc import Collection
from statistics import median

from cdc_sync.core.reasons import coded, joined
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


_ZONES = "part of the ATS writes another time zone than `timezone`"
_AHEAD, _EARLY, _STILL = "watermark-ahead", "watermark-early", "watermark-unmoved"
_TEXTS = {
    _AHEAD: (ahead := "%(column)s of %(rows)s rows was in the future when it was written"),
    f"{_AHEAD}-by": f"{ahead}, by %(hours)s h: {_ZONES}",
    _EARLY: (early := "%(column)s of %(rows)s rows is before `created`"),
    f"{_EARLY}-by": f"{early}, by %(hours)s h: the ATS writes the two in different time zones",
    _STILL: "%(column)s did not move when %(rows)s rows changed, so only sweeps found them: part of the ATS does not "
    "set it, or the change was in another table",
    "watermark-behind": "%(column)s of %(rows)s changed rows was %(hours)s h in the past when it was written, so only "
    f"sweeps found them: {_ZONES}",
}
_BY_HOURS = {_AHEAD: f"{_AHEAD}-by", _EARLY: f"{_EARLY}-by", _STILL: "watermark-behind"}
"""The reason of what rows show of a watermark, and the one if all are off by the same hours."""


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
        # By what they show: the distance that a row had first, and when it was seen last.
        self._seen: dict[str, dict[Key, tuple[int, int]]] = {shown: {} for shown in _BY_HOURS}
        self._between_sweeps = 0

    def polled(self, key: Key, instant: int, created: int | None, now: int) -> None:
        """A poll has read a row with this watermark at `now`, of which only the first time counts."""
        if instant - now > SLIP:
            self._note(_AHEAD, key, instant - now, now)
        if created is not None and created - instant - self.resolution > SLIP:
            self._note(_EARLY, key, created - instant, now)

    def missed(self, key: Key, instant: int | None, now: int, between_sweeps: int) -> None:
        """A sweep has found a row's change, which no poll has seen; None if the watermark is no instant."""
        self._between_sweeps = max(self._between_sweeps, between_sweeps)
        self._note(_STILL, key, 0 if instant is None else now - instant, now)

    def verdict(self, now: int) -> str | None:
        """What speaks against the watermark; None if too little does."""
        said = []
        for shown, known in self._seen.items():
            seen = self._seen[shown] = {key: each for key, each in known.items() if now - each[1] <= _FORGOTTEN}
            distances = [distance for distance, _ in seen.values()]
            if len(distances) >= LEAST:
                hours = self._hours_behind(distances) if shown == _STILL else _whole_hours(distances)
                code, by = (_BY_HOURS[shown], {"hours": hours}) if hours else (shown, {})
                said.append(coded(code, _TEXTS[code], column=self.column, rows=len(distances), **by))
        return joined(said) if said else None

    def _note(self, shown: str, key: Key, distance: int, now: int) -> None:
        seen = self._seen[shown]
        if key in seen or len(seen) < _KEPT:
            seen[key] = (seen.get(key, (distance, now))[0], now)

    def _hours_behind(self, missed: Collection[int]) -> int:
        """The whole hours by which all of them are behind, if one number fits; else 0.

        When each change happened is known only as far as that it was between two sweeps.
        """
        hours = min(missed) // _HOUR
        fits = 1 <= hours <= _MOST_HOURS and max(missed) - hours * _HOUR <= self._between_sweeps + _EXACTLY < _HOUR
        return hours if fits else 0


def _whole_hours(distances: Collection[int]) -> int:
    """The median in whole hours, if it is near enough to a number of them; else 0."""
    middle = median(distances)
    hours = round(middle / _HOUR)
    return hours if 1 <= hours <= _MOST_HOURS and abs(middle - hours * _HOUR) <= _EXACTLY else 0

"""Whether event dates are whole hours off: then the watch's `timezone` is not the zone in which the ATS writes them.

A date may be older than its change for a reason: a bulk changes many rows long afterwards, people enter dates, a job
works off what waited. So it takes three rows that change one after the other, each with a date of its own, and all off
by the same whole number of hours; any other date begins the count again. Three dates that fit are the end of it.
"""

from collections.abc import Collection
from typing import NamedTuple

from .reasons import Reason, coded
from .rows import Key

ROWS = 3
"""Rows that have to agree."""

TOLERANCE = 3 * 60_000
"""Milliseconds between a date and its change that are no sign of anything: a long transaction, two clocks."""

_HOUR = 60 * 60_000
_MOST_HOURS = 14
_TEXTS = {
    "zone-before": "the event dates of the last %(rows)s changed rows are %(hours)s h before the changes",
    "zone-after": "the event dates of the last %(rows)s changed rows are %(hours)s h after the changes",
}


class Dated(NamedTuple):
    """The event date of a row that changed between two moments, all in milliseconds since the epoch."""

    key: Key
    event_date: int
    since: int
    until: int


def hours_off(row: Dated) -> int | None:
    """The whole hours by which a date is after its change (negative: before it); None if no one number is certain."""
    least, most = row.event_date - row.until - TOLERANCE, row.event_date - row.since + TOLERANCE
    hours = most // _HOUR
    is_certain = most - least < _HOUR and least <= hours * _HOUR
    return hours if is_certain and abs(hours) <= _MOST_HOURS else None


class EventDates:
    """How the dates of one watch's last changed rows fit.

    Attributes:
        hours: the hours by which three in a row were off last; 0 if they fitted, or before there were three.
    """

    def __init__(self) -> None:
        self.hours = 0
        self._agreed: int | None = None
        # The dates of the rows that agree, and whose each is.
        self._dates: dict[int, Key] = {}

    def see(self, rows: Collection[Dated]) -> bool:
        """Note the rows of one batch that changed; returns whether `hours` is another number now."""
        if not rows:
            return False
        found = {hours_off(row) for row in rows}
        agreed = found.pop() if len(found) == 1 else None
        if agreed is None or agreed != self._agreed:
            self._agreed, self._dates = agreed, {}
        for row in rows:
            if len(self._dates) < ROWS and row.key not in self._dates.values():
                self._dates[row.event_date] = row.key
        if agreed is None or agreed == self.hours or len(self._dates) < ROWS:
            return False
        self.hours = agreed
        return True

    @property
    def reason(self) -> Reason:
        """What is wrong, in words."""
        code = "zone-before" if self.hours < 0 else "zone-after"
        return coded(code, _TEXTS[code], rows=ROWS, hours=abs(self.hours))

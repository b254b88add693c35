"""How far a poll's watermark may advance (the fence), and the evidence against it.

Rows of slow transactions become visible later than newer ones, so the watermark follows the fence
(docs/how-it-works.md). Each poll remembers a pair (instant, xmax), where xmax is above every transaction id assigned by
that instant. Once a later snapshot's xmin reaches that xmax, all those transactions have ended: later commits made
their first write after the instant. The fence is the latest such instant. A snapshot's own xmax does not serve
([decision 3](../../docs/decisions/0003-the-fence-takes-a-transaction-id.md)).

Three things are evidence that the ATS does not set the watermark, or in several time zones: a row dated ahead of the
database's clock, a row older than its own creation, and a change that only a sweep found.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from statistics import median

from cdc_sync.core.reasons import coded, joined
from cdc_sync.core.rows import Key

REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class SnapshotReading:
    """One reading of the server.

    Attributes:
        instant: the database's clock, in microseconds since the epoch, read before `xmax` is taken.
        xmin: a snapshot's, with epoch (64 bits); the rows are read with this snapshot or a later one.
        xmax: an id, with epoch, above all assigned by `instant`; not the snapshot's.
    """

    instant: int
    xmin: int
    xmax: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Earlier readings that no xmin has reached yet, oldest first, and the fence so far.

    `instant` is in microseconds since the epoch; None if not yet known.
    """

    readings: tuple[SnapshotReading, ...] = ()
    instant: int | None = None


def look(fence: Fence, reading: SnapshotReading) -> Fence:
    """Add a reading. The fence moves back only if the server's clock does."""
    # A clock that went back dates new writes earlier than earlier readings assumed.
    readings = tuple(
        known if known.instant <= reading.instant else replace(known, instant=reading.instant)
        for known in fence.readings
    )
    if readings and readings[-1].xmax == reading.xmax:
        # No transaction took an id between the two: the later instant is valid, and nearer.
        readings = readings[:-1]
    readings = (*readings, reading)
    past = [known.instant for known in readings if known.xmax <= reading.xmin]
    ahead = tuple(known for known in readings if known.xmax > reading.xmin)
    reached = past[-1] if past else fence.instant
    if len(ahead) > REMEMBERED:
        # In a long transaction: the fence's steps only become coarser.
        ahead = ahead[::2]
    return Fence(ahead, None if reached is None else min(reached, reading.instant))


# Evidence against a watermark.

LEAST = 3
"""Fewer rows with the same evidence may be slips."""

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
"""Each kind of evidence, and its text if all rows are off by the same hours."""


class Evidence:
    """Rows of one watch that are evidence against its watermark, for a day.

    Attributes:
        resolution: how much time each value of `column` stands for, in milliseconds.
        reported: the verdict reported last.
    """

    def __init__(self, column: str = "", resolution: int = 0) -> None:
        self.column = column
        self.resolution = resolution
        self.reported: str | None = None
        # By kind of evidence: a row's first distance, and when it was last seen.
        self._seen: dict[str, dict[Key, tuple[int, int]]] = {shown: {} for shown in _BY_HOURS}
        self._between_sweeps = 0

    def polled(self, key: Key, instant: int, created: int | None, now: int) -> None:
        """Count a row that a poll has read at `now`; only the first time counts."""
        if instant - now > SLIP:
            self._note(_AHEAD, key, instant - now, now)
        if created is not None and created - instant - self.resolution > SLIP:
            self._note(_EARLY, key, created - instant, now)

    def missed(self, key: Key, instant: int | None, now: int, between_sweeps: int) -> None:
        """Count a change that only a sweep has found; `instant` None if the watermark is no instant."""
        self._between_sweeps = max(self._between_sweeps, between_sweeps)
        self._note(_STILL, key, 0 if instant is None else now - instant, now)

    def verdict(self, now: int) -> str | None:
        """The evidence against the watermark; None if there is too little."""
        verdicts = []
        for shown, known in self._seen.items():
            seen = self._seen[shown] = {key: each for key, each in known.items() if now - each[1] <= _FORGOTTEN}
            distances = [distance for distance, _ in seen.values()]
            if len(distances) >= LEAST:
                hours = self._hours_behind(distances) if shown == _STILL else _whole_hours(distances)
                code, by = (_BY_HOURS[shown], {"hours": hours}) if hours else (shown, {})
                verdicts.append(coded(code, _TEXTS[code], column=self.column, rows=len(distances), **by))
        return joined(verdicts) if verdicts else None

    def _note(self, shown: str, key: Key, distance: int, now: int) -> None:
        seen = self._seen[shown]
        if key in seen or len(seen) < _KEPT:
            seen[key] = (seen.get(key, (distance, now))[0], now)

    def _hours_behind(self, missed: Collection[int]) -> int:
        """The whole hours by which all are behind, if one number fits; else 0. Each changed between two sweeps."""
        hours = min(missed) // _HOUR
        fits = 1 <= hours <= _MOST_HOURS and max(missed) - hours * _HOUR <= self._between_sweeps + _EXACTLY < _HOUR
        return hours if fits else 0


def _whole_hours(distances: Collection[int]) -> int:
    """The median in whole hours, if it is near enough; else 0."""
    middle = median(distances)
    hours = round(middle / _HOUR)
    return hours if 1 <= hours <= _MOST_HOURS and abs(middle - hours * _HOUR) <= _EXACTLY else 0

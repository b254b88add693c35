"""A rate limit: calls to one endpoint are spaced evenly, with no burst after a silence."""

_LATENESS = 0.05
"""Seconds by which a call may be late and still count as made in its time."""


class Pace:
    """Spaces calls. Times are seconds of a monotonic clock; a rate of None means no limit."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0.0

    def take(self, now: float, rate: float | None) -> None:
        """A call is made."""
        if rate is not None:
            # From the planned time, not from now: otherwise each wake-up's lateness would lower the rate. After a
            # silence from now: what was not used is gone.
            was_planned = now - self._next <= min(_LATENESS, 1 / rate)
            self._next = (self._next if was_planned else now) + 1 / rate

    def wait(self, now: float, rate: float | None) -> float:
        """Seconds until the next call may be made."""
        return 0.0 if rate is None else max(self._next - now, 0.0)

    def within(self, now: float, rate: float | None, seconds: float, most: int) -> int:
        """How many calls may be made from now until so many seconds later, `most` at most."""
        if rate is None:
            return most
        rest = seconds - self.wait(now, rate)
        return min(most, int(rest * rate) + 1) if rest >= 0 else 0

"""How far behind capture is: one reader of the observations, asked by metrics, page and whoever raises the alarm."""

import time
from collections.abc import Callable

from cdc_sync.core.observations import (
    BaselineProgress,
    CaughtUp,
    DaemonStarted,
    ListenerProved,
    Observation,
    Reloaded,
    SweepDone,
    WatchConnected,
    WatchEnded,
    WatchStandsBy,
)


class Lag:
    """Since when everything is recorded, by watch.

    Until a watch has caught up for the first time, its lag counts from the daemon's start: a lower bound, since nobody
    knows what was committed while the daemon was away.

    Args:
        clock: seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._complete_until: dict[str, float] = {}
        self._heard_at: dict[str, float] = {}

    def read(self, observation: Observation) -> None:
        """Take one observation into account."""
        match observation:
            case DaemonStarted(_, watches) | Reloaded(watches):
                for watch in watches:
                    self._complete_until.setdefault(watch, self._clock())
            case CaughtUp(watch, seconds) | SweepDone(watch, _, seconds):
                # A look finds what was committed before it began.
                began = self._clock() - seconds
                self._complete_until[watch] = max(self._complete_until.get(watch, began), began)
            case BaselineProgress(watch):
                # What exists is being adopted, and that it is not done yet is told by itself: nothing is late.
                self._complete_until[watch] = self._clock()
            case ListenerProved(watch):
                self._heard_at[watch] = self._clock()
            case WatchStandsBy(watch):
                # Another daemon reads it, and knows how far behind it is.
                self._complete_until.pop(watch, None)
                self._heard_at.pop(watch, None)
            case WatchConnected(watch):
                self._complete_until.setdefault(watch, self._clock())
            case WatchEnded(watch, for_good):
                self._heard_at.pop(watch, None)
                if for_good:
                    self._complete_until.pop(watch, None)
            case _:
                pass

    def capture(self) -> dict[str, float]:
        """For how many seconds changes may be unread, by watch."""
        now = self._clock()
        return {watch: now - until for watch, until in self._complete_until.items()}

    def listeners(self) -> dict[str, float]:
        """Seconds since the listening connection last proved that it hears, by watch that has one."""
        now = self._clock()
        return {watch: now - heard_at for watch, heard_at in self._heard_at.items()}

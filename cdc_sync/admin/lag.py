"""How far behind capture is: what events say of it, for metrics, page and alarm."""

import time
from collections.abc import Callable

from cdc_sync.core import observations as events
from cdc_sync.core.observations import Handlers


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
        self._handlers: Handlers = {
            events.DaemonStarted: self._watches_begin,
            events.Reloaded: self._watches_begin,
            events.WatchConnected: self._connected,
            events.CaughtUp: self._looked,
            events.SweepDone: self._looked,
            events.BaselineProgress: self._baseline_goes_on,
            events.ListenerProved: self._listener_proved,
            events.WatchStandsBy: self._stands_by,
            events.WatchEnded: self._ended,
        }

    def handlers(self) -> Handlers:
        """What tells how far capture has got."""
        return self._handlers

    def _watches_begin(self, event: events.DaemonStarted | events.Reloaded) -> None:
        for watch in event.watches:
            self._complete_until.setdefault(watch, self._clock())

    def _connected(self, event: events.WatchConnected) -> None:
        self._complete_until.setdefault(event.watch, self._clock())

    def _looked(self, event: events.CaughtUp | events.SweepDone) -> None:
        """A look finds what was committed before it began."""
        began = self._clock() - event.seconds
        self._complete_until[event.watch] = max(self._complete_until.get(event.watch, began), began)

    def _baseline_goes_on(self, event: events.BaselineProgress) -> None:
        """What exists is being adopted, and that it is not done yet is a condition of its own: nothing is late."""
        self._complete_until[event.watch] = self._clock()

    def _listener_proved(self, event: events.ListenerProved) -> None:
        self._heard_at[event.watch] = self._clock()

    def _stands_by(self, event: events.WatchStandsBy) -> None:
        """Another daemon reads it, and knows how far behind it is."""
        self._complete_until.pop(event.watch, None)
        self._heard_at.pop(event.watch, None)

    def _ended(self, event: events.WatchEnded) -> None:
        self._heard_at.pop(event.watch, None)
        if event.for_good:
            self._complete_until.pop(event.watch, None)

    def capture(self) -> dict[str, float]:
        """For how many seconds changes may be unread, by watch."""
        now = self._clock()
        return {watch: now - until for watch, until in self._complete_until.items()}

    def listeners(self) -> dict[str, float]:
        """Seconds since the listening connection last proved that it hears, by watch that has one."""
        now = self._clock()
        return {watch: now - heard_at for watch, heard_at in self._heard_at.items()}

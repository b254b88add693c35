"""Raises the alarm when changes are not read, or calls not made, in time, or clocks differ; and ends it.

What it says becomes a condition, so that the log, readiness, `status` and the page all tell the same. A limit is
generous: a minute on top of what the configuration says about how often somebody looks anyway.
"""

from collections.abc import Callable, Mapping

from cdc_sync.config import Capture, Config
from cdc_sync.core.clock_skew import WORTH_SAYING
from cdc_sync.core.observations import (
    CaptureInTime,
    CaptureLate,
    ClockAgrees,
    ClockSkewed,
    DeliveryInTime,
    DeliveryLate,
    Observe,
)
from cdc_sync.pipeline.poll import LONGEST_PAUSE
from cdc_sync.store.protocol import StoreError
from cdc_sync.store.store import Store

LOOK_EVERY = 5.0
"""Seconds between looks."""

_PATIENCE = 60.0


def limit_of(capture: Capture) -> float:
    """Seconds without a complete look after which a watch is late."""
    if capture.mode == "poll":
        # A poll that takes long is followed by a pause that is long on purpose.
        return _PATIENCE + LONGEST_PAUSE + 2 * capture.poll_interval.total_seconds()
    return _PATIENCE + 2 * capture.drain_interval.total_seconds()


class Lateness:
    """Compares lags with their limits.

    Args:
        config: the one in use, which says how often capture looks.
        store: says since when calls are due.
        lags: seconds that each watch is behind.
        observe: told when a lag begins to be too long, and when it ends.
        clock: milliseconds since the epoch.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        store: Store,
        lags: Callable[[], Mapping[str, float]],
        observe: Observe,
        clock: Callable[[], int],
    ) -> None:
        self._config = config
        self._store = store
        self._lags = lags
        self._observe = observe
        self._clock = clock
        self._late: set[str] = set()
        self._watches: set[str] = set()
        self._skew = 0

    async def look(self) -> None:
        """Look once."""
        self._look_at_clock()
        lags, watches = self._lags(), self._config().watches
        # What is no longer watched is not late, and not in time again either.
        self._late -= {f"watch {watch}" for watch in self._watches - watches.keys()}
        self._watches = set(watches)
        for watch, limit in ((name, limit_of(each.capture)) for name, each in watches.items()):
            if self._turned(f"watch {watch}", late=lags.get(watch, 0.0) > limit):
                late = f"watch {watch}" in self._late
                self._observe(CaptureLate(watch, limit) if late else CaptureInTime(watch))
        try:
            endpoints = await self._store.endpoints()
        except StoreError:
            return  # whoever sends says it
        now = self._clock()
        for endpoint, (health, due_at) in endpoints.items():
            # An endpoint that is not healthy is wrong already, and says why.
            late = health.mode == "healthy" and due_at is not None and (now - due_at) / 1000 > _PATIENCE
            if self._turned(f"endpoint {endpoint}", late=late):
                self._observe(DeliveryLate(endpoint, _PATIENCE) if late else DeliveryInTime(endpoint))

    def _look_at_clock(self) -> None:
        """Tell by how much this machine's clock differs, if that is news: nothing waits longer for it."""
        clock = self._store.clock
        skew = found if abs(found := clock.skew) > WORTH_SAYING else 0
        if abs(skew - self._skew) > WORTH_SAYING:
            self._skew = skew
            self._observe(ClockSkewed(skew / 1000, clock.shared) if skew else ClockAgrees())

    def _turned(self, what: str, *, late: bool) -> bool:
        """Note whether something is late; returns whether that is news."""
        if late == (what in self._late):
            return False
        self._late ^= {what}
        return True

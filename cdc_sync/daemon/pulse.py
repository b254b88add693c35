"""Events about lags of capture and delivery and about differing clocks.

They are events, so that the log, readiness, `status` and the page agree.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cdc_sync.ats.beginning import KINDS
from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.events import Emit
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import WORTH_REPORTING
from cdc_sync.core.replies import is_paused
from cdc_sync.daemon.lasting import Lasting
from cdc_sync.store import Store

LOOK_EVERY = 5.0
"""Seconds between looks at lags and clocks."""

_PATIENCE = 60.0
"""Seconds beyond the longest pause between two looks at the database, or beyond a call's due time."""


@dataclass(slots=True)
class Lateness:
    """Reports when reading, calls or clocks are out of bounds, and when they are back.

    Attributes:
        lags: seconds that each watch is behind.
        clock: milliseconds since the epoch.
    """

    config: Callable[[], Config]
    store: Store
    lags: Callable[[], Mapping[str, float]]
    observe: Emit
    clock: Callable[[], int]
    _captures: Lasting = field(init=False)
    _deliveries: Lasting = field(init=False)
    _skew: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._captures = Lasting(self.observe, self._capture_in_time)
        self._deliveries = Lasting(self.observe, events.DeliveryInTime)

    async def look(self) -> None:
        """Look once."""
        self._look_at_clock()
        lags = self.lags()
        captures = {name: watch.capture for name, watch in self.config().watches.items()}
        limits = {name: _PATIENCE + KINDS[of.mode].longest_silence(of) for name, of in captures.items()}
        late = {watch: limit for watch, limit in limits.items() if lags.get(watch, 0.0) > limit}
        self._captures.are({watch: events.CaptureLate(watch, limit) for watch, limit in late.items()})
        try:
            endpoints, paused = await self.store.delivery.endpoints(), await self.store.operation.paused()
        except StoreError:
            return  # the sender reports it
        due = self.clock() - _PATIENCE * 1000
        overdue = {
            endpoint: events.DeliveryLate(endpoint, _PATIENCE)
            for endpoint, (health, due_at) in endpoints.items()
            # An unhealthy endpoint has a report of its own.
            if health.mode == "healthy" and due_at is not None and due_at < due and not is_paused(paused, endpoint)
        }
        self._deliveries.are(overdue)

    def _capture_in_time(self, watch: str) -> events.CaptureInTime | None:
        # A watch that is no longer configured is neither late nor caught up.
        return events.CaptureInTime(watch) if watch in self.config().watches else None

    def _look_at_clock(self) -> None:
        """Report a new difference of this machine's clock; it delays nothing."""
        clock = self.store.driver.clock
        skew = found if abs(found := clock.skew) > WORTH_REPORTING else 0
        if abs(skew - self._skew) > WORTH_REPORTING:
            self._skew = skew
            self.observe(events.ClockSkewed(skew / 1000, clock.shared) if skew else events.ClockAgrees())

"""Lags of capture and delivery, and differing clocks.

They are events, so that the log, readiness, `status` and the page agree.
"""

from cdc_sync.ats.beginning import KINDS
from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import WORTH_REPORTING
from cdc_sync.core.replies import is_paused
from cdc_sync.daemon.process import Process
from cdc_sync.store import Store

_PATIENCE = 60.0
"""Seconds beyond the longest pause between two looks at the database, or beyond a call's due time."""


class Pulse:
    """Reports when reading, calls or clocks are out of bounds, and when they are back."""

    def __init__(self, process: Process, store: Store) -> None:
        self._process = process
        self._store = store
        self._skew = 0
        """The reported difference of the clocks in milliseconds."""

    async def look(self, config: Config) -> None:
        """Look once."""
        self._look_at_clock()
        self._look_at_captures(config)
        await self._look_at_deliveries()

    def _look_at_clock(self) -> None:
        """Report a new difference of this machine's clock; it delays nothing."""
        clock = self._store.driver.clock
        skew = found if abs(found := clock.skew) > WORTH_REPORTING else 0
        if abs(skew - self._skew) > WORTH_REPORTING:
            self._skew = skew
            self._process.emit(events.ClockSkewed(skew / 1000, clock.shared) if skew else events.ClockAgrees())

    def _look_at_captures(self, config: Config) -> None:
        lags, emit = self._process.metrics.lags(), self._process.emit
        for name, watch in config.watches.items():
            limit = _PATIENCE + KINDS[watch.capture.mode].longest_silence(watch.capture)
            is_late = lags.get(name, 0.0) > limit
            emit(events.CaptureLate(name, limit) if is_late else events.CaptureInTime(name))

    async def _look_at_deliveries(self) -> None:
        store, emit = self._store, self._process.emit
        try:
            endpoints, paused = await store.delivery.endpoints(), await store.operation.paused()
        except StoreError:
            return  # the sender reports it
        limit = store.driver.clock() - _PATIENCE * 1000
        for name, (health, due_at) in endpoints.items():
            # An unhealthy endpoint has a report of its own.
            is_expected = health.mode == "healthy" and not is_paused(paused, name)
            is_late = is_expected and due_at is not None and due_at < limit
            emit(events.DeliveryLate(name, _PATIENCE) if is_late else events.DeliveryInTime(name))

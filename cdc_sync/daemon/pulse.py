"""The heart beat, and events about lags of capture and delivery and about differing clocks.

The heart beats while the event loop turns and the store answers: systemd's watchdog ends a process without. A watch
that gets nowhere is late by its lag.

Lags and clocks are events, so that the log, readiness, `status` and the page agree.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from cdc_sync.ats.beginning import KINDS
from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.events import Emit
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import WORTH_REPORTING
from cdc_sync.core.replies import is_paused
from cdc_sync.store import Store

BEAT_EVERY = 10.0
"""Seconds between heart beats; fewer if the watchdog expects more."""

LOOK_EVERY = 5.0
"""Seconds between looks at lags and clocks."""

_PATIENCE = 60.0
"""Seconds beyond the longest pause between two looks at the database, or beyond a call's due time."""


async def beat_for_ever(opened: Callable[[], Store | None], observe: Emit, every: float) -> None:
    """Beat every so many seconds, with what is pending in the opened store."""
    while True:
        pending, store = None, opened()
        if store is not None:
            with suppress(StoreError):  # reported elsewhere
                pending = sum(of_watch.pending for of_watch in (await store.report.counts()).values())
        observe(events.HeartBeat(pending))
        await asyncio.sleep(every)


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
    _late_watches: set[str] = field(default_factory=set, init=False)
    _late_endpoints: set[str] = field(default_factory=set, init=False)
    _skew: int = field(default=0, init=False)

    async def look(self) -> None:
        """Look once."""
        self._look_at_clock()
        lags = self.lags()
        captures = {name: watch.capture for name, watch in self.config().watches.items()}
        limits = {name: _PATIENCE + KINDS[of.mode].longest_silence(of) for name, of in captures.items()}
        late = {watch for watch, limit in limits.items() if lags.get(watch, 0.0) > limit}
        # A watch that is no longer configured is neither late nor caught up.
        for watch in sorted((late ^ self._late_watches) & limits.keys()):
            self.observe(events.CaptureLate(watch, limits[watch]) if watch in late else events.CaptureInTime(watch))
        self._late_watches = late
        try:
            endpoints, paused = await self.store.delivery.endpoints(), await self.store.operation.paused()
        except StoreError:
            return  # the sender reports it
        due = self.clock() - _PATIENCE * 1000
        late = {
            endpoint
            for endpoint, (health, due_at) in endpoints.items()
            # An unhealthy endpoint has a report of its own.
            if health.mode == "healthy" and due_at is not None and due_at < due and not is_paused(paused, endpoint)
        }
        for endpoint in sorted(late ^ self._late_endpoints):
            turned = events.DeliveryLate(endpoint, _PATIENCE) if endpoint in late else events.DeliveryInTime(endpoint)
            self.observe(turned)
        self._late_endpoints = late

    def _look_at_clock(self) -> None:
        """Report a new difference of this machine's clock; it delays nothing."""
        clock = self.store.driver.clock
        skew = found if abs(found := clock.skew) > WORTH_REPORTING else 0
        if abs(skew - self._skew) > WORTH_REPORTING:
            self._skew = skew
            self.observe(events.ClockSkewed(skew / 1000, clock.shared) if skew else events.ClockAgrees())

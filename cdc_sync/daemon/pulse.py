"""Finds stalled loops, lags of capture and delivery, and differing clocks.

**Loops.** Each turn of a loop is a beat, with the time until the next one: its rest plus one step, a long one if it
queries the ATS's database. A loop that misses its time waits for something that never comes; only a new process repairs
that.

    loop ──beat──▶ Pulse ◀──stalled?── heart ──▶ systemd (WATCHDOG=1)
                     ▲                   └─beat: it has asked the store, through the store's thread
                     └──────stalled?── /healthz

If the event loop itself stalls, systemd gets nothing.

**Lags and clocks** are events, so that the log, readiness, `status` and the page agree.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from cdc_sync.ats.beginning import KINDS
from cdc_sync.config import Config
from cdc_sync.core import events
from cdc_sync.core.events import Emit, Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import WORTH_REPORTING
from cdc_sync.core.replies import is_paused
from cdc_sync.store import Store

STEP_OF_DATABASE = 900.0
"""Seconds of a step of capture: a few statements, each of 5 minutes at most (`ats.connection`)."""

STEP_OF_STORE = 90.0
"""Seconds of a step of the sender: the store waits 10 seconds for a locked file."""

BEAT_EVERY = 10.0
"""Seconds between heart beats; fewer if the watchdog expects more."""

HEART = "heart"

LOOK_EVERY = 5.0
"""Seconds between looks at lags and clocks."""

_PATIENCE = 60.0
"""Seconds beyond the longest pause between two looks at the database, or beyond a call's due time."""


class Pulse:
    """Each loop's time for its next beat, by a monotonic `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By watch, then loop: one of thousands of watches ends in one step.
        self._until: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def beat(self, loop: str, within: float, *, watch: str = "") -> None:
        """A loop made progress and will again within so many seconds."""
        self._until[watch][loop] = self._clock() + within

    def rest(self, watch: str) -> None:
        """A watch's loops have ended."""
        self._until.pop(watch, None)

    def handlers(self) -> Handlers:
        """A batch is a step, of capture and of a sweep that waits for it."""
        return {events.ChangesRead: self._changes_read}

    def _changes_read(self, event: events.ChangesRead) -> None:
        if event.origin in ("notify", "poll"):
            until = self._clock() + STEP_OF_DATABASE
            loops = self._until.get(event.watch, {})
            for loop in loops.keys() & {CAPTURE, SWEEPS}:
                loops[loop] = max(until, loops[loop])

    def stalled(self) -> tuple[str, ...]:
        """The loops that have missed their time."""
        now = self._clock()
        return tuple(
            f"{loop} {watch}".rstrip()
            for watch, loops in self._until.items()
            for loop, until in loops.items()
            if until < now
        )


CAPTURE, SWEEPS = "capture", "sweeps"
"""The loops that capture changes and that sweep."""


async def beat_for_ever(pulse: Pulse, opened: Callable[[], Store | None], observe: Emit, every: float) -> None:
    """Beat every so many seconds while every loop makes progress, that of the opened store included."""
    reported: tuple[str, ...] = ()
    while True:
        pulse.beat(HEART, every + STEP_OF_STORE)
        pending, store = None, opened()
        if store is not None:
            with suppress(StoreError):  # reported elsewhere, and no stall
                pending = sum(of_watch.pending for of_watch in (await store.report.counts()).values())
        stalled = pulse.stalled()
        if stalled != reported:
            reported = stalled
            observe(events.LoopsStalled(stalled) if stalled else events.LoopsRecovered())
        if not stalled:
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

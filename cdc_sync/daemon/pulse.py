"""Whether the daemon gets on: its loops get round, changes are read and calls made in time, and clocks agree.

**Loops.** A loop says each time that it got round, and within what time it will again. That time is its rest, plus what
one step may take: long for a step that asks the ATS's database, since a database that is down, slow or locked is waited
for with time limits of its own, and is no hang. A loop that misses its time waits for something that never comes, which
only a new process mends.

    loop ──beat──▶ Pulse ◀──hung?── heart ──▶ systemd (WATCHDOG=1)
                     ▲                └─beat: it has asked the store, through the store's thread
                     └──────hung?── /healthz

If the event loop itself hangs, nobody beats and nobody feeds.

**Lags and clocks.** What `Lateness` finds becomes a condition, so that the log, readiness, `status` and the page all
tell the same. A limit is generous: a minute on top of how often the configuration has somebody look anyway.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cdc_sync.config import Capture, Config
from cdc_sync.core import events
from cdc_sync.core.delivery import is_paused
from cdc_sync.core.events import Emit, Handlers
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import WORTH_SAYING
from cdc_sync.pipeline.watch import KINDS
from cdc_sync.store.store import Store

STEP_OF_DATABASE = 900.0
"""Seconds that a step of capture may take: it is a few statements, each of which ends within 5 minutes, answered or not
(`source.connection`)."""

STEP_OF_STORE = 90.0
"""Seconds that a step of the sender may take: it asks the store only, which waits 10 seconds for a locked file."""

BEAT_EVERY = 10.0
"""Seconds between beats of the heart; less if the watchdog wants them more often."""

HEART = "heart"

LOOK_EVERY = 5.0
"""Seconds between looks at lags and clocks."""

_PATIENCE = 60.0
"""Seconds on top of the longest pause between two looks at the database, or of a call's due time."""


class Pulse:
    """Knows for each loop until when it must have got round again.

    Args:
        clock: seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By watch, and by loop: a watch of thousands ends its own at once.
        self._until: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def beat(self, loop: str, within: float, *, watch: str = "") -> None:
        """A loop got round, and will again within so many seconds."""
        self._until[watch][loop] = self._clock() + within

    def rest(self, watch: str) -> None:
        """A watch's loops have ended."""
        self._until.pop(watch, None)

    def handlers(self) -> Handlers:
        """A batch of a long catching-up is a step too: of capture, and of a sweep, which waits for it."""
        return {events.ChangesRead: self._changes_read}

    def _changes_read(self, event: events.ChangesRead) -> None:
        if event.origin in ("notify", "poll"):
            until = self._clock() + STEP_OF_DATABASE
            loops = self._until.get(event.watch, {})
            for loop in loops.keys() & {CAPTURE, SWEEPS}:
                loops[loop] = max(until, loops[loop])

    def hung(self) -> tuple[str, ...]:
        """The loops that have missed their time."""
        now = self._clock()
        return tuple(
            f"{loop} {watch}".rstrip()
            for watch, loops in self._until.items()
            for loop, until in loops.items()
            if until < now
        )


CAPTURE, SWEEPS = "capture", "sweeps"
"""The names of the loops that capture changes, and that compare every row."""


async def beat_for_ever(pulse: Pulse, store: Store, observe: Emit, every: float) -> None:
    """Beat as long as every loop gets round; each beat has been to the store and back.

    Args:
        pulse: what the loops say.
        store: asked at each beat.
        observe: told of each beat, and of loops that hang.
        every: seconds between beats.
    """
    told: tuple[str, ...] = ()
    while True:
        pulse.beat(HEART, every + STEP_OF_STORE)
        pending: int | None
        try:
            pending = sum(of_watch.pending for of_watch in (await store.counts()).values())
        except StoreError:
            pending = None  # whoever sends or consumes says it; a store that answers with an error does not hang
        hung = pulse.hung()
        if hung != told:
            told = hung
            observe(events.LoopsHang(hung) if hung else events.LoopsMove())
        if not hung:
            observe(events.HeartBeat(pending))
        await asyncio.sleep(every)


def limit_of(capture: Capture) -> float:
    """Seconds without a complete look after which a watch is late."""
    return _PATIENCE + KINDS[capture.mode].longest_silence(capture)


@dataclass(slots=True)
class Lateness:
    """Raises the alarm when changes are not read, or calls not made, in time, or clocks differ; and ends it.

    Attributes:
        config: the one in use, which says how often capture looks.
        store: says since when calls are due.
        lags: seconds that each watch is behind.
        observe: told when a lag begins to be too long, and when it ends.
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
        limits = {name: limit_of(watch.capture) for name, watch in self.config().watches.items()}
        late = {watch for watch, limit in limits.items() if lags.get(watch, 0.0) > limit}
        # What is no longer watched is not late, and not in time again either.
        for watch in sorted((late ^ self._late_watches) & limits.keys()):
            self.observe(events.CaptureLate(watch, limits[watch]) if watch in late else events.CaptureInTime(watch))
        self._late_watches = late
        try:
            endpoints, paused = await self.store.endpoints(), await self.store.paused()
        except StoreError:
            return  # whoever sends says it
        due = self.clock() - _PATIENCE * 1000
        late = {
            endpoint
            for endpoint, (health, due_at) in endpoints.items()
            # An endpoint that is not healthy is wrong already, and says why.
            if health.mode == "healthy" and due_at is not None and due_at < due and not is_paused(paused, endpoint)
        }
        for endpoint in sorted(late ^ self._late_endpoints):
            turned = events.DeliveryLate(endpoint, _PATIENCE) if endpoint in late else events.DeliveryInTime(endpoint)
            self.observe(turned)
        self._late_endpoints = late

    def _look_at_clock(self) -> None:
        """Tell by how much this machine's clock differs, if that is news: nothing waits longer for it."""
        clock = self.store.clock
        skew = found if abs(found := clock.skew) > WORTH_SAYING else 0
        if abs(skew - self._skew) > WORTH_SAYING:
            self._skew = skew
            self.observe(events.ClockSkewed(skew / 1000, clock.shared) if skew else events.ClockAgrees())

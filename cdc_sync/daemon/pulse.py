"""Whether every loop still gets round: what the watchdog is fed by, and what `/healthz` answers.

A loop says each time that it got round, and within what time it will again. That time is its rest, plus what one step
may take: long for a step that asks the ATS's database, since a database that is down, slow or locked is waited for with
time limits of its own, and is no hang. A loop that misses its time waits for something that never comes, which only a
new process mends.

    loop ──beat──▶ Pulse ◀──hung?── heart ──▶ systemd (WATCHDOG=1)
                     ▲                └─beat: it has asked the store, through the store's thread
                     └──────hung?── /healthz

If the event loop itself hangs, nobody beats and nobody feeds.
"""

import asyncio
import time
from collections.abc import Callable

from cdc_sync.core.failures import StoreError
from cdc_sync.core.observations import ChangesRead, Handlers, HeartBeat, LoopsHang, LoopsMove, Observe
from cdc_sync.store.store import Store

STEP_OF_DATABASE = 900.0
"""Seconds that a step of capture may take: it is a few statements, each of which ends within 5 minutes, answered or not
(`source.connection`)."""

STEP_OF_STORE = 90.0
"""Seconds that a step of the sender may take: it asks the store only, which waits 10 seconds for a locked file."""

BEAT_EVERY = 10.0
"""Seconds between beats of the heart; less if the watchdog wants them more often."""

HEART = "heart"


class Pulse:
    """Knows for each loop until when it must have got round again.

    Args:
        clock: seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}

    def beat(self, loop: str, within: float, *, watch: str = "") -> None:
        """A loop got round, and will again within so many seconds."""
        self._until[watch, loop] = self._clock() + within

    def rest(self, loop: str, *, watch: str = "") -> None:
        """A loop has ended."""
        self._until.pop((watch, loop), None)

    def handlers(self) -> Handlers:
        """A batch of a long catching-up is a step too: of capture, and of a sweep, which waits for it."""
        return {ChangesRead: self._changes_read}

    def _changes_read(self, event: ChangesRead) -> None:
        if event.origin in ("notify", "poll"):
            until = self._clock() + STEP_OF_DATABASE
            for loop in (CAPTURE, SWEEPS):
                if (event.watch, loop) in self._until:
                    self._until[event.watch, loop] = max(until, self._until[event.watch, loop])

    def hung(self) -> tuple[str, ...]:
        """The loops that have missed their time."""
        now = self._clock()
        return tuple(f"{loop} {watch}".rstrip() for (watch, loop), until in self._until.items() if until < now)


CAPTURE, SWEEPS = "capture", "sweeps"
"""The names of the loops that capture changes, and that compare every row."""


class Heart:
    """Beats as long as every loop gets round; each beat has been to the store and back.

    Args:
        pulse: what the loops say.
        store: asked at each beat.
        observe: told of each beat, and of loops that hang.
        every: seconds between beats.
    """

    def __init__(self, pulse: Pulse, store: Store, observe: Observe, every: float) -> None:
        self._pulse = pulse
        self._store = store
        self._observe = observe
        self._every = every
        self._hung: tuple[str, ...] = ()

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            self._pulse.beat(HEART, self._every + STEP_OF_STORE)
            await self._beat()
            await asyncio.sleep(self._every)

    async def _beat(self) -> None:
        pending: int | None
        try:
            pending = sum(of_watch.pending for of_watch in (await self._store.counts()).values())
        except StoreError:
            pending = None  # whoever sends or consumes says it; a store that answers with an error does not hang
        hung = self._pulse.hung()
        if hung != self._hung:
            self._hung = hung
            self._observe(LoopsHang(hung) if hung else LoopsMove())
        if not hung:
            self._observe(HeartBeat(pending))

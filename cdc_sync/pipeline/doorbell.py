"""Capture by notify, awake or asleep: drain all the time while changes come fast, else sleep until the bell rings.

- **asleep**: the bell is armed, and the fence of `source.bell` is passed. Each change rings, and is drained at once.
- **falling asleep**: the bell is armed, and transactions are open that may not have seen it. It goes on draining.
- **awake**: the bell is disarmed; commits take no lock for us. It drains every few milliseconds.

Some writers never ring: those whose session has a lock_timeout (`recorders`), and PostgreSQL 10's replication workers.
As soon as a drain finds changes that nobody rang for, it drains every `poll_interval` for minutes. So it does while
the bell may not be armed, since the server's NOTIFY queue fills up.

It starts awake. If it dies asleep, the lease runs out; if it dies awake, nothing was armed. Whatever is lost beyond all
this (a notification, a bell that somebody else has set) is found by the drain that runs every `drain_interval`.
"""

import asyncio
import math
from collections.abc import Callable

from cdc_sync.core.doorbell import Pace, count, pause
from cdc_sync.pipeline.drain import Drain
from cdc_sync.source.bell import LEASE, Bell, QueueFillsUpError
from cdc_sync.source.errors import SourceError

_FALLING_ASLEEP = 0.1
"""Seconds between drains while transactions are open that may not have seen the bell."""

_RENEW_AFTER = LEASE / 3
"""Seconds after which the lease is renewed."""

_UNRUNG_FOR = 300.0
"""Seconds for which it drains every `poll_interval` after a change that nobody rang for."""

_LAST_WISH = 2.0
"""Seconds that disarming may take at the end; if the connection is lost, it fails, and the lease runs out by itself."""


class Doorbell:
    """Drains one watch's change log for ever.

    Args:
        drain: empties the log.
        bell: the watch's bell.
        every: seconds after which to drain without having been rung for (`drain_interval`).
        clock: seconds that do not go back.
        poll_every: seconds after which to drain where the bell is not rung (`poll_interval`).
    """

    def __init__(
        self, drain: Drain, bell: Bell, every: float, clock: Callable[[], float], poll_every: float = 2.0
    ) -> None:
        self._drain = drain
        self._bell = bell
        self._every = every
        self._poll_every = poll_every
        self._clock = clock
        self._pace = Pace(clock())
        self._armed_at: float | None = None
        self._may_be_armed = False
        self._fence: int | None = None
        self._overdue = False
        self._unrung_until = -math.inf

    @property
    def is_asleep(self) -> bool:
        """Whether it depends on being rung for."""
        return self._armed_at is not None and self._fence is None

    async def run(self, progressed: Callable[[], None]) -> None:
        """Work for ever.

        Raises:
            SourceError: the database cannot answer.
            StoreError: what was read cannot be recorded.
        """
        try:
            while True:
                self._drain.rung.clear()
                wait = await self.turn()
                self._overdue = False
                progressed()
                if not self.is_asleep:
                    await asyncio.sleep(wait)
                    continue
                try:
                    async with asyncio.timeout(wait):
                        await self._drain.rung.wait()
                except TimeoutError:
                    self._overdue = True
        finally:
            await self._disarm_quietly()

    async def turn(self) -> float:
        """Drain a batch and see to the bell; returns the seconds until the next turn, if nobody rings."""
        # If so, what they changed is visible now, and the drain that follows finds it.
        is_quiet = self._fence is not None and await self._bell.is_quiet(self._fence)
        if await self._drain.step(self._found):
            return 0.0
        if is_quiet:
            self._fence = None
        now = self._clock()
        self._pace = count(self._pace, now, 0)
        if self._armed_at is None:
            if not self._pace.is_calm:
                return pause(self._drain.searched)
            await self._arm(now)
        elif now - self._armed_at >= _RENEW_AFTER:
            await self._arm(now)
        if self._armed_at is None:
            return self._poll_every
        if self.is_asleep:
            most = self._poll_every if now < self._unrung_until else self._every
            return min(most, self._every, _RENEW_AFTER)
        return max(_FALLING_ASLEEP, pause(self._drain.searched))

    async def _found(self, changes: int) -> None:
        """Wake for good as soon as changes come fast: until the bell is disarmed, each costs the ATS a NOTIFY."""
        now = self._clock()
        if changes and self._overdue and self.is_asleep:
            self._unrung_until = now + _UNRUNG_FOR
        self._pace = count(self._pace, now, changes)
        if self._armed_at is not None and self._pace.is_busy:
            self._armed_at, self._fence = None, None
            await self._bell.disarm()
            self._may_be_armed = False

    async def _arm(self, now: float) -> None:
        # Before it is: whoever is cancelled while the server arms it has to disarm it as well.
        self._may_be_armed = True
        try:
            fence = await self._bell.arm()
        except QueueFillsUpError:
            self._armed_at, self._fence = None, None
            return
        # A renewal leaves an older fence standing: it still has to be passed.
        self._armed_at, self._fence = now, self._fence if fence is None else fence

    async def _disarm_quietly(self) -> None:
        if not self._may_be_armed:
            return
        try:
            async with asyncio.timeout(_LAST_WISH):
                await self._bell.disarm()
        except (SourceError, TimeoutError):
            return

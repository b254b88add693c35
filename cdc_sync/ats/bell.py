"""The bell: a sequence by which an idle daemon asks the triggers for NOTIFY, until a time of the server's clock.

All watches of a database share it. It is armed while changes are few, so that each wakes the daemon at once. It is
disarmed while they are many, since each NOTIFY costs the ATS something. Nothing relies on a ring: a change that did not
ring is found by the next look at the log (`lookout`). So a wrong bell costs time, never a change.
"""

import time
from collections.abc import Callable

from cdc_sync.ats.connection import Pool
from cdc_sync.ats.expressions import sections

_SQL = sections("changelog.sql")

LEASE = 60
"""Seconds for which the bell stays armed without renewal."""

RENEWED_EVERY = LEASE / 3
"""Seconds: if one renewal fails, the next one can do it."""

BUSY = 50.0
"""Changes per second from which the bell is disarmed."""

CALM = 20.0
"""Changes per second below which it is armed."""

WINDOW = 0.5
"""Seconds over which the rate is measured."""

_MOST_OF_QUEUE = 0.25
"""The used share of the server's NOTIFY queue above which the bell is not armed: a full queue fails commits."""


class Bell:
    """See the module's text.

    Attributes:
        is_armed: whether changes ring, as far as is known.
        is_busy: whether it is disarmed since changes are many.

    Raises:
        SourceError: by each method, if the database cannot answer.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_armed = self.is_busy = False
        self._pool = pool
        self._clock = clock
        # The present window, and the rate in the one before.
        self._since, self._changes, self._before = clock(), 0, 0.0
        self._renew_at = clock()
        self._is_new = True

    async def count(self, changes: int) -> None:
        """Count changes that were read, and disarm the bell before more of them ring."""
        if self._rate(changes) >= BUSY and not self.is_busy:
            self.is_busy = True
            await self.disarm()

    async def follow(self) -> None:
        """Arm it while changes are few, keep it disarmed while they are many, and renew either in time."""
        now, rate = self._clock(), self._rate(0)
        if self.is_busy and rate < CALM:
            self.is_busy, self._renew_at = False, now
        if now >= self._renew_at:
            self._renew_at = now + RENEWED_EVERY
            # Another daemon may have armed it.
            await self._set(until=-1 if self.is_busy else LEASE)
        if self.is_busy:  # since this began, perhaps
            await self.disarm()

    def _rate(self, changes: int) -> float:
        """Changes per second, with these: of the window before, or the least of the present one, as a burst begins."""
        now = self._clock()
        if now - self._since >= WINDOW:
            self._since, self._changes, self._before = now, 0, self._changes / (now - self._since)
        self._changes += changes
        return max(self._before, self._changes / WINDOW)

    async def silence(self) -> None:
        """Unset the bells of earlier versions, once: so they neither ring nor take a watch for abandoned."""
        if self._is_new:
            await self._pool.fetch(_SQL["silence"], (), "silencing earlier versions' bells")
            self._is_new = False

    async def disarm(self) -> None:
        """Disarm it."""
        if self.is_armed:
            await self._set(until=-1)

    async def _set(self, until: int) -> None:
        """Set it to so many seconds from the server's present time, if it is there and we may."""
        parameters = {"until": until, "most": _MOST_OF_QUEUE}
        rows = await self._pool.fetch(_SQL["set_bell"], parameters, "setting the bell cdc_sync.bell")
        self.is_armed = rows == [(True,)]

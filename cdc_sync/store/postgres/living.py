"""Which daemons live: each holds a lease, and the claims of one that lets it lapse are free again.

What must never be: a call under way, and another daemon that takes its entry for free. So the lease is longer than any
call takes, and a call begins only while enough of it is left (`holds`). How much is left, a daemon reckons by its
machine's uptime (the time of a suspended machine included) from before it asked for the lease, so by the time the
database lets it lapse the daemon's last call has been over for a while. A daemon that was stopped, or cut off from the
store, finds that it may not begin, and begins nothing until it has renewed its lease: its claims are its own as long as
nobody has taken them.

A lapsed lease is believed only when it stays so while we look (`_BELIEVED_AFTER`): a database's clock that is set
forward makes every lease lapse at once, and those who live renew theirs within a beat.

The lease of a watch is its daemon's: renewed with it, and free when the daemon's row is gone.

What kill -9 costs: the entries that were under way wait until the lease has lapsed and is believed lapsed, about twice
`hellowork.timeout` and a quarter of a minute. All others go on at once. Who ends in order leaves nothing to wait for.
"""

import math
import os
import platform
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.delivery import expire
from cdc_sync.store.driver import Transaction, Work
from cdc_sync.store.errors import store_error
from cdc_sync.store.statements import migrations

_SCHEMA = str(len(migrations("postgres")))

BEAT = 2.0
"""Seconds between renewals."""

_BEYOND_A_CALL = 10.0
"""Seconds by which the lease is longer than any call: a few beats may fail before a daemon must stop sending."""

_MARGIN = 2.0
"""Seconds of the lease that must be left when a call that takes its longest is over."""

_BELIEVED_AFTER = 2 * BEAT
"""Seconds for which a lapsed lease must stay as it is before its daemon is taken for dead."""

Run = Callable[[Work[Any]], Awaitable[Any]]
"""Runs work in one transaction; returns what it returns, once it is durable."""


class Living:
    """This daemon's lease, and its eye on the others'.

    Args:
        run: runs a transaction.
        longest_call: seconds in which the bytes of a call may leave this host, at most.
    """

    def __init__(self, run: Run, longest_call: float) -> None:
        self._run = run
        self._longest_call = longest_call
        self._good_until = -math.inf
        self._lapsed: dict[int, tuple[str, float]] = {}
        self._since = 0
        self._doubted = False
        self.others = True
        """Whether other daemons live, as far as is known."""
        self.number: int | None = None
        """This daemon's number; None before it has registered, a new one after others took it for dead."""

    @property
    def holds(self) -> bool:
        """Whether enough of the lease is left for a call to begin."""
        return uptime() / 1000 + self._longest_call + _MARGIN <= self._good_until

    def expect(self, longest_call: float) -> None:
        """See `Driver.expect`. A shorter one changes nothing: a call from before may still be under way."""
        self._longest_call = max(self._longest_call, longest_call)

    @property
    def _lease(self) -> float:
        return self._longest_call + _BEYOND_A_CALL

    async def ensure(self) -> int:
        """Return this daemon's number, with enough of its lease left for a call."""
        number = self.number
        return await self.renew() if number is None or self._doubted or not self.holds else number

    def doubt(self) -> None:
        """Renew before the next claim: the server that answers next may not know of this lease."""
        self._doubted = True

    async def renew(self) -> int:
        """Renew the lease; register, if we never did or were taken for dead."""
        asked, lease = uptime() / 1000, self._lease
        number: int
        self._doubted = False
        try:
            number, self._since, self.others = await self._run(self._renewed)
        except BaseException:
            self._doubted = True
            raise
        self.number, self._good_until = number, asked + lease
        return number

    async def bury_dead(self, clock: Clock) -> None:
        """Free the claims of daemons that ended, and of those whose lease has lapsed for long enough."""
        now = time.monotonic()
        rows = await self._run(lambda t: t.rows("overdue", daemon=self.number))
        before, self._lapsed = self._lapsed, {}
        for number, until, ended in rows:
            seen = before.get(number, ("", now))
            self._lapsed[number] = seen if seen[0] == until else (until, -math.inf if ended else now)
        for number, (until, since) in self._lapsed.items():
            if now - since >= _BELIEVED_AFTER:
                await self._run(partial(_bury, number=number, until=until, clock=clock))
        await self._run(partial(_free_ownerless, clock=clock))

    async def end(self) -> None:
        """Give the lease up: no call of ours is under way any more."""
        if self.number is not None:
            await self._run(lambda t: t.run("end", daemon=self.number, since=self._since))
        self.number, self._good_until = None, -math.inf

    async def _renewed(self, transaction: Transaction) -> tuple[int, int, bool]:
        """This daemon's number, when it began, and whether others live."""
        lease = {"lease": self._lease, "schema": _SCHEMA}
        if self.number is not None:
            for (others,) in await transaction.rows("renew", daemon=self.number, since=self._since, **lease):
                return self.number, self._since, others
        host = platform.node() or "unknown"
        for number, since, others in await transaction.rows("register", host=host, process=os.getpid(), **lease):
            return number, since, others
        raise store_error("store-changed")


async def _free_ownerless(transaction: Transaction, clock: Clock) -> None:
    """Free the claims of daemons that are no more, and that were not buried with them."""
    for (number,) in await transaction.rows("ownerless"):
        await expire(transaction, number, clock(), clock.shift)


async def _bury(transaction: Transaction, number: int, until: str, clock: Clock) -> None:
    # In order, before the row's deletion frees them in none: see the package's text.
    if not await transaction.rows("lock_daemon", daemon=number, alive_until=until):
        return
    await transaction.rows("lock_leased", daemon=number)
    await expire(transaction, number, clock(), clock.shift)
    await transaction.run("forget", daemon=number, alive_until=until)

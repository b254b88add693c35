"""This daemon's lease on a shared store, and the claims that it stands for.

Which daemons live: each holds a lease, and the claims of one that lets it lapse are free again.

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

A server may lose claims: after a failover to one that was behind, the store knows nothing of what was committed last.
And it may have some that nobody here knows of: the answer to a claim's commit was lost. So both are compared, after
each failure and with each beat of the lease, never while a claim is being made.
"""

import asyncio
import math
import os
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from cdc_sync.core.outbox import Entry, Lane
from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.delivery import expire
from cdc_sync.store.driver import Transaction, Whose, Work
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

_AFTER_LAPSE = 0.05
"""Seconds after which it is looked at what should have lapsed, or stayed so, by then."""

Run = Callable[[Work[Any]], Awaitable[Any]]
"""Runs work in one transaction; returns what it returns, once it is durable."""

_PASSED_FOR = 1_000
"""Milliseconds for which claims do not look back: what is given back meanwhile, due for longer, waits."""

_PASSED_AFTER = 1_000
"""Milliseconds after which nothing is committed any more that was due then, as a rule."""


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
        self.beat = BEAT
        """Seconds until the next renewal, and the next look at the others' leases."""
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

    async def bury_dead(self, clock: Clock) -> bool:
        """Free what daemons had that ended, or whose lease has lapsed for long enough; whether there were any."""
        rows = await self._run(lambda t: t.rows("overdue", daemon=self.number, beat=BEAT))
        now = time.monotonic()
        before, self._lapsed, self.beat = self._lapsed, {}, BEAT
        for number, until, ended, seconds in rows:
            if seconds > 0:
                self._look_in(seconds)
                continue
            seen = before.get(number, ("", now))
            self._lapsed[number] = seen if seen[0] == until else (until, -math.inf if ended else now)
        buried = False
        for number, (until, since) in self._lapsed.items():
            if now - since >= _BELIEVED_AFTER:
                buried |= await self._run(partial(_bury, number=number, until=until, clock=clock))
            else:
                self._look_in(since + _BELIEVED_AFTER - now)
        await self._run(partial(_free_ownerless, clock=clock))
        return buried

    def _look_in(self, seconds: float) -> None:
        self.beat = min(self.beat, seconds + _AFTER_LAPSE)

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


async def _bury(transaction: Transaction, number: int, until: str, clock: Clock) -> bool:
    # In order, before the row's deletion frees them in none: see the package's text.
    if not await transaction.rows("lock_daemon", daemon=number, alive_until=until):
        return False
    await transaction.rows("lock_leased", daemon=number)
    await expire(transaction, number, clock(), clock.shift)
    await transaction.run("forget", daemon=number, alive_until=until)
    return True


class Claims:
    """See the module's text.

    Args:
        living: this daemon's lease.
        daemon: gives this daemon's number, with enough of its lease left for a call.
        run: runs a transaction.
    """

    def __init__(self, living: Living, daemon: Callable[[], Awaitable[int]], run: Run) -> None:
        self._living = living
        self._daemon = daemon
        self._run = run
        self._numbers: dict[Whose, int] = {}
        """Claims that were handed out and have not ended, with the number of this daemon at that time."""
        self._entries: dict[Whose, Entry] = {}
        """The same, as they were claimed."""
        self._ending: set[Whose] = set()
        """Those whose end is being written."""
        self._claimed_again: set[Whose] = set()
        """Those whose claim the store had lost: their calls may go on, and none may begin."""
        self._unsure = False
        """Whether the store may have other claims of ours than we know of."""
        self._lock = asyncio.Lock()
        self._passed: dict[Lane, tuple[int, int]] = {}
        """For each lane until when what, and up to which due time, was claimed."""

    def doubt(self) -> None:
        """The store may not have what we know: compare before the next claim."""
        self._unsure = True

    def claimants(self, of: Iterable[Whose]) -> dict[Whose, int | None]:
        """The number of this daemon when it claimed each of these entries; None if it has not."""
        return {each: self._numbers.get(each) for each in of}

    @property
    def under_way(self) -> Collection[Whose]:
        """The applications for which this daemon has a call, whoever the store thinks has the claim."""
        return self._entries.keys()

    def holds(self, entry: Entry) -> bool:
        """See `Delivery.holds`: the store has had the claim from its beginning on, as far as we know."""
        of, living = _whose(entry), self._living
        return of not in self._claimed_again and self._numbers.get(of, -1) == living.number and living.holds

    def since(self, lane: Lane, now: int) -> int:
        """From which due time on to claim, if that gives enough: what was due before was claimed lately."""
        until, due_at = self._passed.get(lane, (0, 0))
        return max(due_at - _PASSED_AFTER, 0) if uptime() < until and due_at <= now else 0

    def passed(self, lane: Lane, due_at: int | None) -> None:
        """What was due before is claimed; None if nothing more is due."""
        now = uptime()
        until, _ = self._passed.get(lane, (0, 0))
        if due_at is None:
            self._passed.pop(lane, None)
        else:
            self._passed[lane] = (until if now < until else now + _PASSED_FOR, due_at)

    def add(self, entries: Iterable[Entry], daemon: int) -> None:
        """These claims are durable."""
        for entry in entries:
            self._numbers[_whose(entry)], self._entries[_whose(entry)] = daemon, entry

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[int]:
        """Around a transaction that claims, with this daemon's number. Two come one after the other."""
        daemon = await self._daemon()
        async with self._lock:
            if self._unsure:
                await self._reconcile()
            try:
                yield daemon
            except BaseException:
                # It may have been written all the same; then those claims are ours, and nobody knows of them.
                self._unsure = True
                raise

    @asynccontextmanager
    async def ending(self, of: Iterable[Whose]) -> AsyncIterator[set[Whose]]:
        """Around the transaction that ends claims; those in the set are over once it was left without an error."""
        over = set(of)
        ending = frozenset(over)
        self._ending |= ending
        try:
            yield over
            for each in over:
                self._numbers.pop(each, None)
                self._entries.pop(each, None)
            self._claimed_again -= over
        finally:
            self._ending -= ending

    async def compare(self) -> None:
        """Compare with the store, unless the claim that is being made does it."""
        if self._lock.locked():
            self._unsure = True
            return
        async with self._lock:
            await self._reconcile()

    async def _reconcile(self) -> None:
        daemon = await self._living.ensure()
        again = await self._run(partial(self._reconciled, daemon=daemon))
        self._unsure = False
        for of in again:
            if of in self._numbers:
                self._numbers[of] = daemon
                self._claimed_again.add(of)
            else:
                self._unsure = True  # its end was written at the same moment, and nobody knows of this claim

    async def _reconciled(self, transaction: Transaction, daemon: int) -> list[Whose]:
        """Make the store's claims of this daemon those that we know of.

        What the store has beyond them is freed, as attempted: its end may have been lost in a failover. What it has
        lost is claimed again, unless somebody else has it or has tried it since. Returns those.
        """
        # As a claim does: it is gone if this daemon was taken for dead meanwhile.
        if not await transaction.rows("lock_own_daemon", daemon=daemon):
            return []
        claimed = {(watch, id_) for watch, id_ in await transaction.rows("claimed", daemon=daemon)}
        forgotten = sorted(claimed - self._numbers.keys())
        await transaction.write("free_claims", [(*of, daemon) for of in forgotten])
        lost = [entry for of, entry in sorted(self._entries.items()) if of not in self._ending and of not in claimed]
        await transaction.write("claim_again", [(*_whose(e), e.revision, e.attempts, daemon) for e in lost])
        if not lost:
            return []
        now = {(watch, id_) for watch, id_ in await transaction.rows("claimed", daemon=daemon)}
        return [of for of in map(_whose, lost) if of in now]


def _whose(entry: Entry) -> Whose:
    return entry.watch, entry.application_id

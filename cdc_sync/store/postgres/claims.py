"""The claims of this daemon on a shared store, and how they are made those that the store has.

A server may lose them: after a failover to one that was behind, the store knows nothing of what was committed last. And
it may have some that nobody here knows of: the answer to a claim's commit was lost. So both are compared, after each
failure and with each beat of the lease, never while a claim is being made.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from functools import partial

from cdc_sync.core.outbox import Entry
from cdc_sync.store.clock import uptime
from cdc_sync.store.driver import Transaction, Whose
from cdc_sync.store.postgres.living import Living, Run

_PASSED_FOR = 1_000
"""Milliseconds for which claims do not look back: what is given back meanwhile, due for longer, waits."""

_PASSED_AFTER = 1_000
"""Milliseconds after which nothing is committed any more that was due then, as a rule."""


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
        self._passed: dict[str, tuple[int, int]] = {}
        """For each endpoint until when what, and up to which due time, was claimed."""

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

    def since(self, endpoint: str, now: int) -> int:
        """From which due time on to claim, if that gives enough: what was due before was claimed lately."""
        until, due_at = self._passed.get(endpoint, (0, 0))
        return max(due_at - _PASSED_AFTER, 0) if uptime() < until and due_at <= now else 0

    def passed(self, endpoint: str, due_at: int | None) -> None:
        """What was due before is claimed; None if nothing more is due."""
        now = uptime()
        until, _ = self._passed.get(endpoint, (0, 0))
        if due_at is None:
            self._passed.pop(endpoint, None)
        else:
            self._passed[endpoint] = (until if now < until else now + _PASSED_FOR, due_at)

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

"""This daemon's lease on a shared store, and the claims under it, which are free once the lease has lapsed.

Decision 12 gives the reasons. A call begins only while enough of the lease is left (`holds`), by the machine's uptime
(suspended time included) from before the renewal. A lapsed lease counts only after some time under observation: the
database's clock may have been set forward.

A failover to a server that was behind may lose claims, and a lost answer to a commit may leave unknown ones. So store
and daemon are compared after each failure and at each beat, never during a claim.
"""

import asyncio
import math
import os
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from functools import partial

from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Entry, Lane
from cdc_sync.store.clock import Clock, uptime
from cdc_sync.store.delivery import lock_claims
from cdc_sync.store.driver import EntryId, Run, Transaction
from cdc_sync.store.errors import store_error
from cdc_sync.store.postgres.takeover import free_ownerless, take_over
from cdc_sync.store.statements import migrations

_SCHEMA = str(len(migrations("postgres")))

BEAT = 2.0
"""Seconds between renewals."""

_BEYOND_A_CALL = 10.0
"""Seconds of the lease beyond any call: a few beats may fail before a daemon stops sending."""

_MARGIN = 2.0
"""Seconds of the lease that remain after the longest call."""

_BELIEVED_AFTER = 2 * BEAT
"""Seconds without a renewal after which a lapsed lease's daemon counts as dead."""

_LOOKS_WITHIN = 30.0
"""Seconds between two looks at the others' leases that a slow store may cause; after more, this process was stopped."""

_AFTER_LAPSE = 0.05
"""Seconds after an expected lapse, or its confirmation, at which to look."""

_PASSED_FOR = 1_000
"""Milliseconds for which claims do not look back at entries given back meanwhile."""

_PASSED_AFTER = 1_000
"""Milliseconds by which an entry's commit may follow its due time."""


class DaemonLease:
    """This daemon's lease, and its view of the others'; `longest_call` as in `PostgresStore.open`."""

    def __init__(self, run: Run, longest_call: float) -> None:
        self._run = run
        self._longest_call = longest_call
        self._good_until = -math.inf
        self._lapsed: dict[int, tuple[str, float]] = {}
        self._looked_at = -math.inf
        self.beat = BEAT
        """Seconds until the next renewal, and the next look at the others' leases."""
        self._since = 0
        self._renew_first = False
        self._renewal: asyncio.Task[int] | None = None
        """The one under way."""
        self.others = True
        """Whether other daemons are known to live."""
        self.number: int | None = None
        """This daemon's number; None before it registers, a new one after its lease expired."""
        self.not_taken_over: StoreError | None = None
        """See `Driver.not_taken_over`."""

    @property
    def holds(self) -> bool:
        """Whether enough of the lease is left for a call."""
        return uptime() / 1000 + self._longest_call + _MARGIN <= self._good_until

    def expect(self, longest_call: float) -> None:
        """See `Driver.expect`. A shorter call changes nothing: an earlier one may still be under way."""
        self._longest_call = max(self._longest_call, longest_call)

    @property
    def _length(self) -> float:
        return self._longest_call + _BEYOND_A_CALL

    async def ensure(self) -> int:
        """This daemon's number, with enough of its lease left for a call."""
        number = self.number
        return await self.renew() if number is None or self._renew_first or not self.holds else number

    def renew_first(self) -> None:
        """Renew before the next claim: another server may not have this lease."""
        self._renew_first = True

    async def renew(self) -> int:
        """Renew the lease, or register; returns this daemon's number.

        Steps at the same moment share one renewal, and its error: one after the other, each would wait for a silent
        server. If it began before a step asked, on a connection that was dead already, the step shares the next one.
        """
        began_before = self._renewal is not None
        while True:
            if self._renewal is None:
                self._renewal = asyncio.create_task(self._renew(), name="store: renewal")
                self._renewal.add_done_callback(self._renewal_ended)
            try:
                number = await asyncio.shield(self._renewal)
            except StoreError:
                if not began_before:
                    raise
            else:
                if not self._renew_first:  # else another step has failed meanwhile
                    return number
            began_before = False

    def _renewal_ended(self, renewal: asyncio.Task[int]) -> None:
        self._renewal = None
        if not renewal.cancelled():
            renewal.exception()  # the step that asked may have been cancelled

    async def _renew(self) -> int:
        number: int
        asked, lease = uptime() / 1000, self._length
        self._renew_first = False
        try:
            number, self._since, self.others = await self._run(self._renewed)
        except BaseException:
            self._renew_first = True
            raise
        self.number, self._good_until = number, asked + lease
        return number

    async def expire_claims(self, clock: Clock) -> bool:
        """Free the claims of daemons that ended or whose leases certainly lapsed; returns whether any did."""
        rows = await self._run(lambda t: t.rows("overdue", daemon=self.number, beat=BEAT))
        now = uptime() / 1000
        # If this process was stopped, the others may have been stopped with it: they get time to renew.
        before = self._lapsed if now - self._looked_at < _LOOKS_WITHIN else {}
        self._lapsed, self._looked_at, self.beat = {}, now, BEAT
        for number, until, ended, seconds in rows:
            if seconds > 0:
                self._look_in(seconds)
                continue
            seen = before.get(number, ("", now))
            self._lapsed[number] = seen if seen[0] == until else (until, -math.inf if ended else now)
        expired, not_taken_over = False, None
        for number, (until, since) in self._lapsed.items():
            if now - since < _BELIEVED_AFTER:
                self._look_in(since + _BELIEVED_AFTER - now)
                continue
            try:
                expired |= await take_over(self._run, number, until, clock)
            except StoreError as error:  # beside it, the store may work
                not_taken_over = not_taken_over or error
        try:
            await free_ownerless(self._run, clock)
        except StoreError as error:
            not_taken_over = not_taken_over or error
        self.not_taken_over = not_taken_over
        return expired

    def _look_in(self, seconds: float) -> None:
        self.beat = min(self.beat, seconds + _AFTER_LAPSE)

    async def end(self) -> None:
        """Give the lease up; no call of ours may be under way."""
        if self._renewal is not None:  # it would take the lease again
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        if self.number is not None:
            await self._run(lambda t: t.run("end", daemon=self.number, since=self._since))
        self.number, self._good_until = None, -math.inf

    async def _renewed(self, transaction: Transaction) -> tuple[int, int, bool]:
        """This daemon's number, when it began, and whether others live."""
        lease = {"lease": self._length, "schema": _SCHEMA}
        if self.number is not None:
            for (others,) in await transaction.rows("renew", daemon=self.number, since=self._since, **lease):
                return self.number, self._since, others
        host = platform.node() or "unknown"
        for number, since, others in await transaction.rows("register", host=host, process=os.getpid(), **lease):
            return number, since, others
        raise store_error("store-changed")


class Claims:
    """This daemon's claims; `daemon` is `Driver.daemon`."""

    def __init__(self, lease: DaemonLease, daemon: Callable[[], Awaitable[int]], run: Run) -> None:
        self._lease = lease
        self._daemon = daemon
        self._run = run
        self._numbers: dict[EntryId, int] = {}
        """This daemon's number at each claim that has not ended."""
        self._entries: dict[EntryId, Entry] = {}
        """The same claims' entries."""
        self._ending: set[EntryId] = set()
        """Claims with an end being written."""
        self._claimed_again: set[EntryId] = set()
        """Claims that the store had lost: their calls may go on, and none may begin."""
        self._unsure = False
        """Whether the store may have unknown claims of ours."""
        self._lock = asyncio.Lock()
        self._passed: dict[Lane, tuple[int, int]] = {}
        """Per lane: until when this counts, and the due time up to which entries are claimed."""

    def compare_first(self) -> None:
        """Compare before the next claim: the store may have lost what we know."""
        self._unsure = True

    def claimants(self, of: Iterable[EntryId]) -> dict[EntryId, int | None]:
        """This daemon's number at the claim of each of these entries; None without a claim."""
        return {each: self._numbers.get(each) for each in of}

    @property
    def under_way(self) -> Collection[EntryId]:
        """The applications that this daemon has claimed, by its own knowledge."""
        return self._entries.keys()

    def holds(self, entry: Entry) -> bool:
        """See `Delivery.holds`. The store must have had the claim without a break."""
        of, lease = _id_of(entry), self._lease
        return of not in self._claimed_again and self._numbers.get(of, -1) == lease.number and lease.holds

    def since(self, lane: Lane, now: int) -> int:
        """The due time from which to claim first: earlier entries were claimed lately."""
        until, due_at = self._passed.get(lane, (0, 0))
        return max(due_at - _PASSED_AFTER, 0) if uptime() < until and due_at <= now else 0

    def passed(self, lane: Lane, due_at: int | None) -> None:
        """All entries due earlier are claimed; None: all that are due."""
        now = uptime()
        until, _ = self._passed.get(lane, (0, 0))
        if due_at is None:
            self._passed.pop(lane, None)
        else:
            self._passed[lane] = (until if now < until else now + _PASSED_FOR, due_at)

    def add(self, entries: Iterable[Entry], daemon: int) -> None:
        """Add durable claims."""
        for entry in entries:
            self._numbers[_id_of(entry)], self._entries[_id_of(entry)] = daemon, entry

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[int]:
        """Around a transaction that claims, with this daemon's number; only one at a time."""
        daemon = await self._daemon()
        async with self._lock:
            if self._unsure:
                await self._reconcile()
            try:
                yield daemon
            except BaseException:
                # It may have been committed: then unknown claims are ours.
                self._unsure = True
                raise

    @asynccontextmanager
    async def ending(self, of: Iterable[EntryId]) -> AsyncIterator[set[EntryId]]:
        """Around the transaction that ends claims: without an error, those left in the set are over."""
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
        """Compare with the store, unless a claim under way will do it."""
        if self._lock.locked():
            self._unsure = True
            return
        async with self._lock:
            await self._reconcile()

    async def _reconcile(self) -> None:
        daemon = await self._lease.ensure()
        again = await self._run(partial(self._reconciled, daemon=daemon))
        self._unsure = False
        for of in again:
            if of in self._numbers:
                self._numbers[of] = daemon
                self._claimed_again.add(of)
            else:
                self._unsure = True  # its end was written meanwhile: an unknown claim

    async def _reconciled(self, transaction: Transaction, daemon: int) -> list[EntryId]:
        """Make the store's claims of this daemon equal to ours; returns those made again.

        Surplus claims count as attempted: a failover may have lost their ends. Lost claims are made again, unless
        another daemon has claimed or tried the entry since.
        """
        # The row is gone if this daemon's lease has expired.
        if not await transaction.rows("lock_own_daemon", daemon=daemon):
            return []
        claimed = {(watch, id_) for watch, id_ in await transaction.rows("claimed", daemon=daemon)}
        forgotten = [(*of, daemon) for of in sorted(claimed - self._numbers.keys())]
        await lock_claims(transaction, forgotten)
        await transaction.write("free_claims", forgotten)
        lost = [entry for of, entry in sorted(self._entries.items()) if of not in self._ending and of not in claimed]
        await transaction.write("claim_again", [(*_id_of(e), e.revision, e.attempts, daemon) for e in lost])
        if not lost:
            return []
        now = {(watch, id_) for watch, id_ in await transaction.rows("claimed", daemon=daemon)}
        return [of for of in map(_id_of, lost) if of in now]


def _id_of(entry: Entry) -> EntryId:
    return entry.watch, entry.application_id

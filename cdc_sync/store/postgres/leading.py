"""The lead of a store in PostgreSQL: the session that writes is the session that holds the lock.

The leader renews its row in that session. A standby looks at it each second. A leader whose row has not changed for its
lease is silent: its session is ended, since a process that is stopped inside a transaction holds everything for good.
A standby tries the lock only once the row has been unchanged for the lease, or the former leader has surely ended: its
calls may still be on their way. All of this is measured by each process's own monotonic clock.

The lease is counted from before a renewal was sent, so it ends for the leader before it does for others. A leader that
cannot renew it loses the lead a margin before its end. If it is stopped meanwhile, SIGALRM ends the process before its
next instruction.
"""

import asyncio
import math
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from cdc_sync.config.dsn import shown
from cdc_sync.core.failures import StoreError
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store import Store
from cdc_sync.store.clock import uptime
from cdc_sync.store.driver import Transaction, value
from cdc_sync.store.errors import store_error
from cdc_sync.store.lead import LOOKS_EVERY, Lead, Leader, Standby, StandingBy, begin_to_lead, held, in_use, leader_in

from .driver import PostgresDriver
from .schema import connect, translating, version_of

BEAT = 2.0
"""Seconds between renewals."""

_BEYOND_A_CALL = 10.0
"""Seconds of the lease beyond any call: a few renewals may fail before a leader loses the lead."""

_MARGIN = 3.0
"""Seconds before the lease's end at which a leader that could not renew it gives up."""

_SEEN_WITHIN = 10.0
"""Seconds between two looks at the row; after more, this process was stopped, and begins to count again."""

_ENDS_WITHIN = 5.0
"""Seconds for a session that was asked to end."""


class Lease:
    """How long this process may lead, by the machine's uptime, suspended time included.

    A call's bytes may leave this host for `longest_call` seconds.
    """

    def __init__(self, longest_call: float) -> None:
        self._longest_call = longest_call
        self._until = -math.inf

    @property
    def length(self) -> float:
        """Seconds, from the next renewal on."""
        return self._longest_call + _BEYOND_A_CALL

    @property
    def left(self) -> float:
        """Seconds until a leader that could not renew it gives up."""
        return self._until - _MARGIN - _seconds()

    def expect(self, longest_call: float) -> None:
        """A shorter call changes nothing: an earlier one may still be under way."""
        self._longest_call = max(self._longest_call, longest_call)

    def outlasts_a_call(self) -> bool:
        """Whether a call that begins now ends before this leader would give up."""
        return self._longest_call <= self.left

    def renewed(self, asked: float, length: float) -> None:
        """A renewal was acknowledged that was sent at an uptime."""
        self._until = asked + length
        # Python's own handler would run too late. Suspended time does not count here; `left` has it.
        signal.setitimer(signal.ITIMER_REAL, max(self._until - _seconds(), 0.001))

    def end(self) -> None:
        """No call is under way, and none begins."""
        if self._until > -math.inf:  # else the timer may be another lease's
            self._until = -math.inf
            signal.setitimer(signal.ITIMER_REAL, 0)


def _seconds() -> float:
    return uptime() / 1000


class PostgresLead(Lead):
    """See `Lead`; it lasts as long as the session and the lease."""

    def __init__(self, driver: PostgresDriver, leader: Leader, lease: Lease) -> None:
        self._driver = driver
        self._lease = lease
        super().__init__(driver, leader)

    def may_call(self) -> bool:
        """See `Lead`."""
        return self._lease.outlasts_a_call()

    def expect(self, longest_call: float, configuration: str) -> None:
        """See `Lead`."""
        self._lease.expect(longest_call)
        self.leader = replace(self.leader, configuration=configuration)

    def no_more_calls(self) -> None:
        """See `Lead`."""
        self._lease.end()

    async def _hold(self) -> None:
        driver = self._driver
        while driver.lost is None and self._lease.left > 0:
            with suppress(StoreError):  # a job that failed alone is tried again while the lease lasts
                await self._renew()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(BEAT, max(self._lease.left, 0))):
                    await driver.is_lost.wait()
        # Every call that the lease has allowed ends before that, even if nobody heeds the loss.
        asyncio.get_running_loop().call_later(max(self._lease.left, 0), self._lease.end)
        raise store_error("store-lead-lost", place=driver.name)

    async def _renew(self) -> None:
        asked, length, clock = _seconds(), self._lease.length, self._driver.clock

        async def work(transaction: Transaction) -> None:
            of = self.leader
            await transaction.run("renew", holder=of.holder, lease=length, configuration=of.configuration)
            before = clock()
            clock.compare(await value(transaction, "clock"), before)
            row = await leader_in(transaction)
            if row is None or row.holder != of.holder:
                # The tables were made again, without this leader and all that was known.
                self._driver.lose(store_error("store-lead-lost", place=self._driver.name))

        timer = asyncio.get_running_loop().call_later(max(self._lease.left, 0), self._driver.cut)
        try:
            await self._driver.transact_first(work)
        finally:
            timer.cancel()
        self._lease.renewed(asked, length)


@dataclass(slots=True)
class _Watching:
    """For how long the leader's row, and the holder of the lock, have been unchanged, as seen from here.

    Attributes:
        own_lease: of a session that holds the lock without a row.
        row: the leader's row.
        lock_pid: the process of the session that holds the lock.
        row_since: when the row was seen for the first time.
        both_since: when the two were.
        looked_at: when they were seen for the last time.
    """

    own_lease: float
    row: Leader | None = None
    lock_pid: int | None = None
    row_since: float = 0.0
    both_since: float = 0.0
    looked_at: float = -math.inf

    def see(self, row: Leader | None, lock_pid: int | None) -> None:
        """Take in what was read just now."""
        now = time.monotonic()
        is_new = row != self.row or now - self.looked_at > _SEEN_WITHIN
        if is_new:
            self.row_since = now
        if is_new or lock_pid != self.lock_pid:
            self.both_since = now
        self.row, self.lock_pid, self.looked_at = row, lock_pid, now

    @property
    def lease(self) -> float:
        """Of who leads."""
        return self.own_lease if self.row is None else self.row.lease

    @property
    def both_unchanged_for(self) -> float:
        """Seconds."""
        return time.monotonic() - self.both_since

    @property
    def has_ended(self) -> bool:
        """Whether no call of the row's leader can be under way."""
        is_silent = time.monotonic() - self.row_since >= self.lease
        return self.row is None or self.row.has_surely_ended or is_silent


@asynccontextmanager
async def leading(
    dsn: str, ours: Leader, longest_call: float, standing_by: StandingBy, *, tables: Iterable[QualifiedName] = ()
) -> AsyncIterator[Lead]:
    """Stand by until this process leads, then lead.

    Raises:
        StoreError: the store cannot be used.
    """
    lease = Lease(longest_call)
    driver = await PostgresDriver.open(dsn, answers_within=lease.length / 3, tables=tables)
    try:
        ours = replace(ours, lease=lease.length, backend=driver.backend)
        await _take(driver, ours, standing_by)
        # A machine that was suspended while it stood by has lost time, and the former leader went on.
        await driver.begin_clock()
        asked = _seconds()
        leader = await begin_to_lead(driver, ours)
        lease.renewed(asked, leader.lease)
        async with held(PostgresLead(driver, leader, lease)) as lead:
            yield lead
    finally:
        lease.end()
        await driver.close()


async def _take(driver: PostgresDriver, ours: Leader, standing_by: StandingBy) -> None:
    """Stand by until the lock is ours, and no call of a former leader can be under way.

    Who waits for the end of those calls has no lock: nobody ends the session of a daemon that is stopped meanwhile.
    """
    watching = _Watching(ours.lease)
    while True:
        watching.see(*await driver.transact(_leader_and_lock_pid))
        if watching.has_ended and await _try_to_lead(driver):
            row, _ = await driver.transact(_leader_and_lock_pid)
            if row == watching.row:
                return
            await driver.value("give_up_lead")  # another one has led meanwhile
        not_taken_over = await _end_silent(driver, watching)
        is_led = watching.row is not None and watching.lock_pid == watching.row.backend
        await standing_by(Standby(Store(driver), watching.row, ours, not is_led, not_taken_over))
        await asyncio.sleep(LOOKS_EVERY)


async def _leader_and_lock_pid(transaction: Transaction) -> tuple[Leader | None, int | None]:
    """The leader's row, and the process of the session that holds the lock."""
    return await leader_in(transaction), await value(transaction, "lock_holder")


async def _try_to_lead(driver: PostgresDriver) -> bool:
    # Alone, so that nobody's failure repeats it: a lock that is taken twice stays when it is given up.
    return bool(await driver.transact_first(lambda t: value(t, "try_lead")))


async def _end_silent(driver: PostgresDriver, watching: _Watching) -> StoreError | None:
    """End the session of a silent leader, or of another holder of the lock; returns why that is not possible."""
    leader, lock_pid = watching.row, watching.lock_pid
    if lock_pid is None or watching.both_unchanged_for < watching.lease:
        return None
    row = "" if leader is None else f"{leader.holder} {leader.beat}"
    rows = await driver.run("end_holder", backend=lock_pid, row=row)
    if watching.both_unchanged_for < watching.lease + _ENDS_WITHIN:
        return None
    daemon = "a process" if leader is None else leader.shown
    for process, role, own_role, is_ended in rows:
        if not is_ended:
            return store_error("store-take-over/role", daemon=daemon, processes=process, role=role, own_role=own_role)
    return store_error("store-take-over", daemon=daemon)


@asynccontextmanager
async def alone(dsn: str, tables: Iterable[QualifiedName]) -> AsyncIterator[Store]:
    """The store with its lock, while no daemon leads; an earlier version's is migrated, none is made.

    Raises:
        StoreError: one does, or the store cannot be used.
    """
    async with await connect(dsn) as connection:
        with translating(dsn):
            version = await version_of(connection)
    if not version:
        raise store_error("store-not-set-up/postgres", place=shown(dsn))
    driver = await PostgresDriver.open(dsn, tables=tables)
    try:
        if not await driver.value("try_lead"):
            raise in_use(await driver.transact(leader_in))
        yield Store(driver)
    finally:
        await driver.close()

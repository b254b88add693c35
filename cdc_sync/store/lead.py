"""A daemon's lead of a store, and its wait for that."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from cdc_sync.core.failures import StoreError
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.driver import Driver
from cdc_sync.store.leader import Leader

LOOKS_EVERY = 1.0
"""Seconds between a standby's looks at the lead, and between a leader's whether the store is still there."""


@dataclass(frozen=True, slots=True)
class Standby:
    """A daemon that waits for the lead.

    Attributes:
        store: to be read meanwhile; None if it cannot be.
        leader: the row of who leads, or led last.
        ours: this process as a leader.
        is_free: whether nobody leads: it only waits for the former leader's calls to end.
        not_taken_over: why this daemon cannot take over from a leader that is silent.
    """

    store: Store | None
    leader: Leader | None
    ours: Leader
    is_free: bool = False
    not_taken_over: StoreError | None = None

    @property
    def differs(self) -> bool:
        """Whether the leader works by another configuration."""
        return self.leader is not None and self.leader.configuration != self.ours.configuration


StandingBy = Callable[[Standby], Awaitable[None]]
"""Called about each second while a daemon stands by."""


class Lead:
    """This daemon's lead of a store; nobody else can lead a store in a file while this process lives.

    Attributes:
        store: see there.
        leader: its row.
        holding: keeps the lead; it ends with a `StoreError` when the lead is lost. No call may be under way any more.
    """

    def __init__(self, driver: Driver, leader: Leader) -> None:
        self.store = Store(driver)
        self.leader = leader
        self.holding = asyncio.create_task(self._hold(), name="holding the lead")

    async def _hold(self) -> None:
        while True:
            self.store.driver.check_place()
            await asyncio.sleep(LOOKS_EVERY)

    def may_call(self) -> bool:
        """Whether a call that begins now ends before another daemon can lead: ask right before the call."""
        return True

    def expect(self, longest_call: float, configuration: str) -> None:
        """From now on, a call's bytes may leave this host for so many seconds, by another configuration."""

    def no_more_calls(self) -> None:
        """No call is under way, and none begins."""


L = TypeVar("L", bound=Lead)


@asynccontextmanager
async def held(lead: L) -> AsyncIterator[L]:
    """Begin to send; after an end in order, when no call is under way, the leader's row says so."""
    try:
        await lead.store.delivery.begin_sending()
        yield lead
    finally:
        await end([lead.holding])
    await lead.store.driver.run("stop_leading", holder=lead.leader.holder)

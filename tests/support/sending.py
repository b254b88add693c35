"""A sender at work: a real store, the real client, the emulator at the other end."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cdc_sync.core.batch import NO_CALLS
from cdc_sync.core.events import Event
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import DueEntries, Entry, Lane, Wanted
from cdc_sync.core.replies import Finished, Health, Reply, RetryPolicy
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, AllowedHosts, endpoint_of
from cdc_sync.delivery.client import Caller, Client
from cdc_sync.delivery.endpoints import SenderSettings
from cdc_sync.delivery.sender import Sender
from cdc_sync.store import Store
from cdc_sync.store import delivery as store_delivery
from cdc_sync.store.driver import Effect, no_effect
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.wall_clock import wall_clock
from support.builders import HOUR, WATCH, a_baseline, a_batch, a_content, an_observation, some_rules


class _AnyPort(frozenset[str]):
    """Names of allowed hosts, whatever the port: each server of a test listens on another one."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).rpartition(":")[0])


LOOPBACK = AllowedHosts(_AnyPort({"127.0.0.1", "localhost", "[::1]"}))

QUICK = RetryPolicy(first=20, max=80, give_up_after=HOUR, not_found_for=HOUR)
"""Waits too short to be waited for."""

SLOW = RetryPolicy(first=HOUR, max=HOUR, give_up_after=7 * 24 * HOUR, not_found_for=HOUR)
"""Waits that no test lives to see the end of, unless it moves the clock."""

SETTINGS = SenderSettings(concurrency=16, rate=None, policy=QUICK, allowed=LOOPBACK, built={})

RULES = some_rules(max_changes=100_000, max_deletions=100_000)

T = TypeVar("T")


def an_entry(application_id: str = "a1", *, base_url: str, account: str = DEFAULT_ACCOUNT) -> Entry:
    """An entry whose first call has begun."""
    return Entry(
        watch=WATCH,
        application_id=application_id,
        content=a_content("seen", application_id=application_id, base_url=base_url, account=account),
        kinds=frozenset({"status"}),
        state="pending",
        revision=1,
        queued_at=0,
        due_at=0,
        attempted=True,
        attempts=1,
        first_attempt_at=0,
        not_found_since=None,
        reason=None,
    )


@dataclass
class MovableClock:
    """The wall clock, and what a test adds to it."""

    ahead: int = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


class Counted:
    """A caller that counts how many calls are under way.

    Attributes:
        under_way: so many now.
        ended: how many have ended.
        starts: for each call, how many were under way with it, and how many had ended before.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.under_way = self.ended = 0
        self.starts: list[tuple[int, int]] = []

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        self.under_way += 1
        self.starts.append((self.under_way, self.ended))
        try:
            return await self._caller.call(entry)
        finally:
            self.under_way -= 1
            self.ended += 1


class Watched(store_delivery.Delivery):
    """An outbox that counts what is asked of it, and fails, or keeps waiting, as told."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.driver)
        self.reads = self.looks = self.completions = 0
        self.fails: set[str] = set()
        self.complete_may_begin = asyncio.Event()
        self.complete_may_begin.set()

    async def due(self, wanted: Mapping[Lane, Wanted], now: int, effect: Effect[DueEntries] = no_effect) -> DueEntries:
        self.reads += 1
        self._check("read", effect)
        return await super().due(wanted, now, effect)

    async def complete(
        self, finished: Sequence[Finished], health: Mapping[str, Health], effect: Effect[dict[Lane, int]] = no_effect
    ) -> dict[Lane, int]:
        self.completions += 1
        self._check("complete", effect)
        await self.complete_may_begin.wait()
        return await super().complete(finished, health, effect)

    async def lanes(self) -> dict[Lane, int]:
        self.looks += 1
        self._check("look")
        return await super().lanes()

    def _check(self, step: str, effect: Effect[Any] = no_effect) -> None:
        if step in self.fails:
            effect(None)
            raise StoreError("store-unusable", "the disk is full")


@dataclass
class Delivery:
    """What a sender works with.

    Attributes:
        look_every: see `Sender`, as `store_retry` and `chance`.
        at_work: the sender that is at work.
    """

    path: Path
    store: Store
    caller: Counted
    clock: MovableClock = field(default_factory=MovableClock)
    settings: SenderSettings = SETTINGS
    observed: list[Event] = field(default_factory=list)
    look_every: float = 1.0
    store_retry: float = 1.0
    chance: Callable[[], float] = random.random
    at_work: Sender | None = None

    def __post_init__(self) -> None:
        self.outbox = Watched(self.store)

    def sender(self, **settings: object) -> Sender:
        """A sender; the settings that are named replace the usual ones."""
        used = replace(self.settings, **settings)  # type: ignore[arg-type] # passed through
        return Sender(
            self.outbox,
            self.caller,
            used,
            self.observed.append,
            self.clock,
            look_every=self.look_every,
            store_retry=self.store_retry,
            chance=self.chance,
        )

    @asynccontextmanager
    async def sending(self, **settings: object) -> AsyncIterator[Sender]:
        """A sender at work, stopped at the end."""
        sender = self.sender(**settings)
        work = asyncio.create_task(sender.run())
        self.at_work = sender
        try:
            yield sender
        finally:
            self.at_work = None
            async with asyncio.timeout(20):
                assert not await sender.stop(), "no call is cut off"
                await work

    async def send_once(self, **settings: object) -> None:
        """Everything that is due now, once; must come to an end."""
        async with asyncio.timeout(20):
            await self.sender(**settings).run_once()

    async def queue(self, base_url: str, *ids: str, status: str = "seen") -> None:
        """Let applications, known to HelloWork as `applied`, have this status now. The sender at work hears of it."""
        now = self.clock()
        known = await self.store.capture.known(WATCH, ids)
        new = [an_observation(each, base_url=base_url) for each in ids if each not in known]
        await self.store.capture.apply(RULES, a_baseline(*new, now=now))
        changed = [an_observation(each, status, base_url=base_url) for each in ids]
        await self.store.capture.apply(RULES, a_batch(*changed, now=now), self.at_work or NO_CALLS)

    async def is_settled(self) -> bool:
        return not await self.store.report.entries("pending", None, 1)

    async def health(self, base_url: str) -> Health:
        return (await self.store.delivery.endpoints())[endpoint_of(base_url)][0]

    def of_type(self, kind: type[T]) -> list[T]:
        return [each for each in self.observed if isinstance(each, kind)]


@asynccontextmanager
async def delivery(path: Path) -> AsyncIterator[Delivery]:
    """A store at `path`, and a client that waits ten seconds for an answer."""
    store = Store(SqliteDriver(path))
    try:
        await store.delivery.begin_sending()
        async with Client({DEFAULT_ACCOUNT: {}}, 10.0, SETTINGS.concurrency) as client:
            yield Delivery(path, store, Counted(client))
    finally:
        await store.driver.close()

"""A small world around a real sender and a real store, in which everything happens at random and at once.

Rows change, and go back; applies are cancelled, or fail; calls take time, fail, are received without an answer, or are
refused; the store is slow, or fails; operators hold, release, discard, retry, resend and pause; watches are withheld;
the process dies, or stops. There is no sweep, and no regular look at the outbox: what the sender forgets stays there.

Checked as it goes:

- what was applied arrives, in its last state;
- no call has a state that HelloWork certainly has;
- no older state arrives after a newer one;
- an application has one call at a time;
- the watches of an endpoint take turns.
"""

import asyncio
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Entry, EntryId
from cdc_sync.core.replies import ALL_ENDPOINTS, Reply, RetryPolicy
from cdc_sync.delivery.sender import Sender
from cdc_sync.store.driver import Effect, Transaction, Work, no_effect
from support import acting
from support.builders import HOUR, a_baseline, a_batch, an_observation, some_rules
from support.sending import LOOPBACK, SETTINGS
from support.store_backends import Backend, SqliteBackend

ORIGINS = "http://127.0.0.1:1", "http://127.0.0.1:2"
POLICY = RetryPolicy(first=5, max=20, give_up_after=HOUR, not_found_for=HOUR)
WATCHES = "w0", "w1", "w2"
RIVALS = "r0", "r1"
"""Two watches of the same account, whose rows carry the same ids."""
ACCOUNTS = "default", "own", "other"
"""Those of other rows, which move between them."""
THEIRS = "theirs"

MASS = 60
STUCK = 3.0
"""Seconds without a call, an answer or an end, in a world without faults."""


class BrokenPromiseError(AssertionError):
    """What the sender must never do."""


@dataclass
class Application:
    """One application.

    Attributes:
        watch: whose table has its row.
        states: of its row, in order.
        place: of the last one that HelloWork received.
        acknowledged: what HelloWork certainly has.
        unsure: whether it may have something else.
        discarded: what a person took for sent.
        is_dirty: whether its row must be applied again, since that failed.
        account: its row's.
        former_accounts: those of its row since the last apply that is over began.
    """

    id: str
    watch: str
    base_url: str
    states: list[str] = field(default_factory=lambda: ["s0"])
    place: int = 0
    acknowledged: str = "s0"
    unsure: bool = False
    discarded: set[str] = field(default_factory=set)
    is_dirty: bool = False
    is_called: bool = False
    account: str = ACCOUNTS[0]
    former_accounts: set[str] = field(default_factory=set)

    @property
    def has_arrived(self) -> bool:
        return self.states[-1] in {self.states[self.place], *self.discarded}


class World:
    """See the module's text."""

    def __init__(self, backend: Backend, seed: int) -> None:
        self.backend = backend
        self.chance = random.Random(seed)  # noqa: S311 - no secret depends on it
        self.number = count(1)
        self.applications = {
            f"a{number}": Application(f"a{number}", WATCHES[number % 3], ORIGINS[number % 2]) for number in range(36)
        }
        rivals = [Application(f"x{number}", RIVALS[0], ORIGINS[0], account=THEIRS) for number in range(6)]
        self.applications |= {each.id: each for each in rivals}
        self.is_faulty = True
        self.withheld: frozenset[str] = frozenset()
        self.may_begin = True
        self.slow = self.chance.choice([0.0, 0.004, 0.015])
        self.has_operators = bool(seed % 2)
        self.broken: list[str] = []
        self.tally: dict[str, int] = defaultdict(int)
        self.last_called: list[str] = []
        self.rival_lock = asyncio.Lock()
        self.cancelled: list[Application] = []

    # HelloWork.

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `Caller`."""
        of = self.applications[entry.application_id]
        self.check(entry, of)
        self.tally["calls"] += 1
        self.last_called.append(of.id)
        of.is_called = of.unsure = True
        try:
            await asyncio.sleep(self.chance.choice([0, 0, 0.002, 0.01, 0.03]))
            fate = self.chance.random() if self.is_faulty else 1.0
            if fate < 0.1:
                return Reply(self.chance.choice([503, 503, 401, 429, 404, 400])), ""
            self.receive(entry, of)
            await asyncio.sleep(self.chance.choice([0, 0.002, 0.005]))
            if fate < 0.2:
                self.tally["lost answers"] += 1
                return Reply(failure="the answer was lost"), ""
            of.acknowledged, of.unsure = entry.content.status, False
            return Reply(200), ""
        finally:
            of.is_called = False

    def check(self, entry: Entry, of: Application) -> None:
        state = entry.content.status
        if of.is_called:
            self.broken.append(f"two calls of {of.id} at once")
        if not of.unsure and state == of.acknowledged:
            self.broken.append(f"{of.id} is sent {state}, which HelloWork has: {of.states[-6:]}")
        if entry.kinds and entry.content.account not in {of.account, *of.former_accounts}:
            self.broken.append(f"{of.id} of {of.account} is sent as {entry.content.account}")
        if entry.watch in self.withheld:
            self.broken.append(f"{entry.watch} is withheld, and {of.id} is sent")
        if not self.may_begin:
            self.broken.append(f"no call may begin, and {of.id} is sent")

    def receive(self, entry: Entry, of: Application) -> None:
        state, since = entry.content.status, of.states[of.place :]
        if state not in since:
            self.broken.append(f"{of.id}: {state} after {of.states[of.place]}: {of.states[-9:]}")
        else:
            of.place += since.index(state)

    # The store, and the sender.

    async def open(self) -> None:
        """Start, after a crash or an end."""
        for each in self.cancelled:
            each.is_dirty = True  # the store may have been closed before its apply: a start sweeps
        self.cancelled.clear()
        self.store = await self.backend.open()
        self.transact = self.store.driver.transact
        self.store.driver.transact = self.slowly  # type: ignore[method-assign] # the fault that is injected
        await self.quietly(self.store.delivery.begin_sending)
        settings = replace(
            SETTINGS,
            allowed=LOOPBACK,
            policy=POLICY,
            accounts={*ACCOUNTS, THEIRS},
            concurrency=self.chance.choice([1, 2, 4]),
        )
        self.sender = Sender(
            self.store.delivery,
            self,
            settings,
            lambda _: None,
            self.store.driver.clock,
            may_begin=lambda: self.may_begin,
            may_send=lambda watch: watch not in self.withheld,
            look_every=HOUR,
            store_retry=0.005,
            chance=self.chance.random,
        )

    async def slowly(self, work: Work[Any], effect: Effect[Any] = no_effect) -> Any:
        """See `Driver.transact`."""
        if self.is_faulty and self.chance.random() < 0.04:
            self.tally["failures of the store"] += 1
            effect(None)
            raise StoreError("store-unusable", "the disk is full")
        seconds = self.chance.random() * self.slow

        async def slow(transaction: Transaction) -> Any:
            result = await work(transaction)
            await self.backend.sleep(seconds)
            return result

        return await self.transact(slow, effect)

    async def quietly(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Until it succeeds."""
        while True:
            with suppress(StoreError):
                await work()
                return

    # Rows.

    def next_state(self, of: Application) -> str:
        if of.id.startswith("x"):
            return f"s{next(self.number)}"
        earlier = [of.acknowledged] * 3 + of.states[-3:] + [of.states[of.place]]
        return self.chance.choice([*earlier, *(f"s{next(self.number)}" for _ in range(5))])

    def some(self) -> list[Application]:
        """Some applications of one watch, rather those that are on their way."""
        every = list(self.applications.values())
        on_the_way = [each for each in every if each.is_called or each.states[-1] != each.acknowledged]
        first = self.chance.choice(on_the_way if on_the_way and self.chance.random() < 0.6 else every)
        if first.id.startswith("x"):
            return [first]
        alike = [each for each in every if each.watch == first.watch and each is not first]
        return [first, *self.chance.sample(alike, self.chance.randint(0, 5))]

    def change(self, some: Collection[Application]) -> "asyncio.Task[None]":
        """Let their rows change, and apply them."""
        for each in some:
            if each.id.startswith("x") and self.chance.random() < 0.5:
                each.watch = self.chance.choice(RIVALS)
            if not each.id.startswith("x") and self.chance.random() < 0.3:
                each.former_accounts.add(each.account)
                each.account = self.chance.choice(ACCOUNTS)
            each.states.append(self.next_state(each))
        self.tally["changes"] += len(some)
        return asyncio.create_task(self.apply(some))

    async def apply(self, some: Collection[Application]) -> None:
        """Apply the present rows."""
        rows = [an_observation(each.id, each.states[-1], base_url=each.base_url, account=each.account) for each in some]
        (watch,) = {each.watch for each in some}
        batch = a_batch(*rows, now=self.store.driver.clock())
        before = {each.id: (each.account, len(each.states)) for each in some}
        for each in some:
            each.is_dirty = False
        try:
            if watch in RIVALS:
                # Otherwise the order of two watches' applies is not known.
                async with self.rival_lock:
                    others = tuple(other for other in RIVALS if other != watch)
                    await self.store.capture.apply(rules_of(watch), batch._replace(others=others), self.sender)
            else:
                await self.store.capture.apply(rules_of(watch), batch, self.sender)
        except StoreError:
            for each in some:
                each.is_dirty = True
        else:
            for each in some:
                if before[each.id] == (each.account, len(each.states)):
                    each.former_accounts.clear()

    async def apply_again(self) -> None:
        """Apply what could not be applied, as capture does."""
        for each in self.applications.values():
            while each.is_dirty:
                await self.apply([each])

    # Operators.

    async def intervene(self) -> None:
        watch, now, store = self.chance.choice(WATCHES), self.store.driver.clock(), self.store
        ids = [each.id for each in self.applications.values() if each.watch == watch and self.chance.random() < 0.3]
        done: Collection[Any] = ()
        with suppress(StoreError):
            match self.chance.randrange(7):
                case 0:
                    await store.capture.blow_fuse(watch, "an operator holds it", now)
                case 1 | 2:
                    done = await acting.release_held(store, watch, now)
                case 3:
                    state = self.chance.choice(["held", "dead"])
                    done = await acting.discard(store, state, watch, now, ids=ids)  # type: ignore[arg-type] # a state
                    for _, id_ in done:
                        of = self.applications[id_]
                        of.discarded |= set(of.states)
                        of.unsure = True
                case 4:
                    done = await acting.retry_dead(store, watch, now)
                case 5:
                    for id_ in ids[:2]:
                        self.applications[id_].unsure = True
                    done = await acting.resend(store, watch, ids[:2], now)
                case _:
                    await acting.pause(store, ALL_ENDPOINTS)
                    self.sender.pause(await store.operation.paused())
                    await asyncio.sleep(0.01)
                    self.sender.pause(())
                    await acting.resume(store, ALL_ENDPOINTS)
        if done:
            self.sender.look()

    async def withhold(self) -> None:
        self.withheld = frozenset({self.chance.choice(WATCHES)})
        self.sender.recheck()
        await asyncio.sleep(0.02)
        self.withheld = frozenset()
        self.sender.recheck()

    async def lose_the_lead(self) -> None:
        self.may_begin = False
        await asyncio.sleep(0.02)
        self.may_begin = True
        self.sender.recheck()  # a turn of the reader

    # Life.

    async def start(self) -> None:
        """Begin with what HelloWork is taken to have."""
        self.is_faulty = False
        await self.open()
        for watch in (*WATCHES, *RIVALS):
            ids = [each.id for each in self.applications.values() if each.watch == watch]
            rows = [an_observation(id_, "s0", base_url=self.applications[id_].base_url) for id_ in ids]
            await self.store.capture.apply(rules_of(watch), a_baseline(*rows, now=self.store.driver.clock()))
        self.is_faulty = True

    async def live(self, seconds: float) -> None:
        """One life of the process: until it dies, or ends."""
        self.running = asyncio.create_task(self.sender.run())
        others: set[asyncio.Task[None]] = set()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.raise_if_broken()
            step = self.chance.random()
            if self.has_operators and step < 0.04:
                others.add(asyncio.create_task(self.intervene()))
            elif step < 0.06:
                others.add(asyncio.create_task(self.withhold()))
            elif step < 0.07:
                others.add(asyncio.create_task(self.lose_the_lead()))
            some = self.some()
            applying = self.change(some)
            await asyncio.sleep(0)
            fate = self.chance.random()
            # Rivals' applies are waited for: else their order is not known.
            if fate < 0.15 and some[0].watch in WATCHES:
                if applying.cancel():
                    self.cancelled += some
                self.tally["cancelled callers"] += 1
            elif fate < 0.6:
                await applying
            else:
                others.add(applying)
            await asyncio.sleep(self.chance.choice([0, 0, 0.002]))
        await asyncio.gather(*others, return_exceptions=True)

    def raise_if_broken(self) -> None:
        if self.broken:
            raise BrokenPromiseError("; ".join(self.broken[:3]))
        if self.running.done():
            self.running.result()
            raise BrokenPromiseError("the sender has ended")

    async def settle(self) -> None:
        """Without faults everything arrives."""
        self.is_faulty = False
        await self.apply_again()
        await self.until_all_is_sent()
        now = self.store.driver.clock()
        decided = list[EntryId]()
        for watch in (*WATCHES, *RIVALS):
            decided += await acting.release_held(self.store, watch, now)
            decided += await acting.retry_dead(self.store, watch, now)
        if decided:  # a look would find what the sender has forgotten
            self.sender.look()
            await self.until_all_is_sent()
        missing = [each for each in self.applications.values() if not each.has_arrived]
        if missing:
            raise BrokenPromiseError(
                f"lost: {[(each.id, each.states[-5:], each.states[each.place]) for each in missing]}"
            )
        self.cancelled.clear()
        self.tally["settled"] += 1
        self.is_faulty = True

    async def until_all_is_sent(self) -> None:
        known, last = -1, time.monotonic()
        while await self.store.report.entries("pending", None, 1) or self.sender.under_way:
            self.raise_if_broken()
            if self.tally["calls"] != known:
                known, last = self.tally["calls"], time.monotonic()
            elif time.monotonic() - last > STUCK:
                stuck = await self.store.report.entries("pending", None, 9)
                raise BrokenPromiseError(f"not sent: {stuck[:3]}\nin memory: {self.sender._memory}")
            await asyncio.sleep(0.005)
        self.raise_if_broken()

    async def take_turns(self) -> None:
        """After a mass change, another watch's change is sent among the first."""
        self.is_faulty = False
        mass, single = [f"m{number}" for number in range(MASS)], f"single{next(self.number)}"
        for id_ in mass:
            of = self.applications.setdefault(id_, Application(id_, "w0", ORIGINS[0]))
            of.states.append(f"s{next(self.number)}")
            of.former_accounts.add(of.account)
            of.account = ACCOUNTS[0]  # the others' endpoints may be well while this one is not
        self.applications[single] = Application(single, "w2", ORIGINS[0], states=["s0", "s1"])
        self.last_called.clear()
        await self.apply([self.applications[id_] for id_ in mass])
        await self.apply([self.applications[single]])
        await self.settle()
        before = self.last_called.index(single)
        del self.applications[single]
        if before > MASS * 2 // 3:
            raise BrokenPromiseError(f"{before} calls of a mass change before that of another watch")

    async def die(self) -> None:
        """Kill -9: what is in memory is lost."""
        self.tally["crashes"] += 1
        called = [each for each in self.applications.values() if each.is_called]
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.store.driver.close()
        await self.open()
        await self.doubt()
        # Before anything is sent, some of what may have arrived goes back.
        for each in called:
            if each.watch in WATCHES and self.chance.random() < 0.7:
                each.states.append(each.acknowledged)
                await self.apply([each])
        await self.apply_again()

    async def end(self) -> None:
        """SIGTERM."""
        self.tally["ends"] += 1
        was_cut_off = await self.sender.stop(self.chance.choice([0.005, 5.0]))
        await self.running
        if not was_cut_off:
            await self.quietly(self.store.delivery.stopped_cleanly)
        await self.store.driver.close()
        await self.open()
        if was_cut_off:
            await self.doubt()

    async def doubt(self) -> None:
        """After an end that was not clean each entry may have been received."""
        for state in ("pending", "held", "dead"):
            for entry in await self.entries(state):
                self.applications[entry.application_id].unsure = True

    async def entries(self, state: Any) -> list[Entry]:
        self.is_faulty, before = False, self.is_faulty
        try:
            return await self.store.report.entries(state, None, 10_000)
        finally:
            self.is_faulty = before


def rules_of(watch: str) -> Any:
    rules = some_rules(watch, max_changes=100_000, max_deletions=100_000)
    return replace(rules, allowed=LOOPBACK, account=None)


async def run(backend: Backend, seed: int, seconds: float) -> dict[str, int]:
    """Let a world live so long; returns how often what happened.

    Raises:
        BrokenPromiseError: see the module's text.
    """
    world = World(backend, seed)
    await world.start()
    end = time.monotonic() + seconds
    try:
        while True:
            await world.live(world.chance.choice([0.05, 0.2, 0.6]))
            is_last = time.monotonic() > end
            if is_last or world.chance.random() < 0.5:
                await asyncio.sleep(world.chance.choice([0.0, 0.1]))  # no change wakes anybody
                await world.settle()
                if is_last or world.chance.random() < 0.3:
                    await world.take_turns()
            if is_last:
                return dict(world.tally)
            await (world.die() if world.chance.random() < 0.6 else world.end())
    finally:
        world.running.cancel()
        await asyncio.gather(world.running, return_exceptions=True)
        await world.store.driver.close()


def search(seconds: float, folder: Path) -> str | None:
    """Let worlds live for so many seconds; returns how a promise was broken."""
    end, seed = time.monotonic() + seconds, 1
    while time.monotonic() < end:
        backend = SqliteBackend(Path(tempfile.mkdtemp(dir=folder)))
        try:
            asyncio.run(run(backend, seed, 1.0))
        except BrokenPromiseError as broken:
            return f"seed {seed}: {broken}"
        seed += 1
    return None

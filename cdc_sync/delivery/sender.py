"""The sender: claims due entries, calls, and writes down what came of it.

    outbox ──claim (durable)──▶ call ──▶ reply ──finish (durable)──▶ snapshot, or due again, or dead letter

At most one call per application is under way, because an application has one entry, and a claimed entry is not claimed
again. Ends are written in groups: while one transaction is written, the ends of other calls collect for the next.

If the store cannot write a claim, nothing is sent. If it cannot write an end, the sender claims nothing more and tries
until it can: what was sent is marked as attempted already, so nothing is forgotten, and nothing is sent that could not
be recorded.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cdc_sync.core.delivery import Again, Done, Fate, Finished, GiveUp, fate
from cdc_sync.core.endpoint import Health, admits, after
from cdc_sync.core.failures import StoreError
from cdc_sync.core.observations import CallEnded, EndpointChanged, Observe, StoreFailed, StoreRecovered
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reply import Meaning, Reply, meaning_of
from cdc_sync.core.retry import RetryPolicy
from cdc_sync.core.status_url import AllowedHosts, endpoint_of
from cdc_sync.delivery.client import Caller
from cdc_sync.delivery.pace import Pace

_LOOK_EVERY = 1.0
"""Seconds between looks at the outbox when nothing wakes the sender: operator commands write to it from outside."""

_STORE_RETRY = 1.0
"""Seconds between tries while the store cannot be written."""


class Outbox(Protocol):
    """The part of the store that the sender uses; see `store.protocol.Store`."""

    async def claim(self, now: int, horizon: int, wanted: Mapping[str, int]) -> list[Entry]:
        """Take due entries, marked as attempted."""

    async def finish(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """Write ends of attempts."""

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """Every endpoint's health and next due time."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """What the sender may do.

    Attributes:
        concurrency: calls under way at once.
        rate: calls per second to one endpoint; None for no limit.
        policy: when to try again, and when to give up.
        allowed: where calls may go, looked at again before each call: an entry may be older than the configuration.
        horizon: no entry waits longer than this many milliseconds, unless a clock was wrong.
    """

    concurrency: int
    rate: float | None
    policy: RetryPolicy
    allowed: AllowedHosts
    horizon: int


@dataclass(slots=True)
class _Endpoint:
    health: Health = field(default_factory=Health)
    pace: Pace = field(default_factory=Pace)
    due_at: int | None = None


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Sender:
    """Delivers what is due. `run` works until `stop` is called; `wake` says that there may be something new."""

    def __init__(
        self,
        outbox: Outbox,
        caller: Caller,
        settings: SenderSettings,
        observe: Observe,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._outbox = outbox
        self._caller = caller
        self._settings = settings
        self._observe = observe
        self._clock = clock
        self._endpoints: dict[str, _Endpoint] = {}
        self._under_way: Counter[str] = Counter()
        self._ends: list[Finished] = []
        self._changed: dict[str, Health] = {}
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._stopping = False
        self._store_failed = False
        self.last_progress = time.monotonic()

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._under_way.total()

    def wake(self) -> None:
        """Look at the outbox now."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; `run` returns when the calls under way have ended and are written down."""
        self._stopping = True
        self._woken.set()
        self._ended.set()

    async def run(self) -> None:
        """Deliver until stopped."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._record(), name="sender: record")
            await self._dispatch(tasks)
            self._ended.set()

    async def run_once(self) -> None:
        """Try everything that is due now once, and return when all of it is written down."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._record(), name="sender: record")
            start = self._clock()
            await self._refresh()
            while True:
                self._woken.clear()
                entries = await self._claim(start)
                self._start(tasks, entries)
                if not entries and not self.under_way:
                    await self._refresh()
                    if not any(
                        self._quota(endpoint, start) and e.due_at is not None and e.due_at <= start
                        for endpoint, e in self._endpoints.items()
                    ):
                        break
                await self._pause(_LOOK_EVERY if self.under_way else 0.01)
            self.stop()

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        while not self._stopping:
            self._woken.clear()
            self.last_progress = time.monotonic()
            try:
                entries = await self._claim(self._clock())
                if not entries:
                    await self._refresh()
                self._store_works()
            except StoreError as error:
                self._store_fails(error)
                await asyncio.sleep(_STORE_RETRY)
                continue
            self._start(tasks, entries)
            if not entries or self.under_way >= self._settings.concurrency:
                await self._pause(self._until_next())

    def _start(self, tasks: asyncio.TaskGroup, entries: list[Entry]) -> None:
        for entry in entries:
            endpoint = endpoint_of(entry.content.url)
            self._under_way[endpoint] += 1
            tasks.create_task(self._deliver(entry, endpoint), name=f"call {entry.application_id}")

    async def _claim(self, now: int) -> list[Entry]:
        wanted: dict[str, int] = {}
        free = self._settings.concurrency - self.under_way
        if self._store_failed and self._ends:
            return []
        for endpoint in self._endpoints:
            quota = min(self._quota(endpoint, now), free)
            if quota:
                wanted[endpoint] = quota
                free -= quota
        if not wanted:
            return []
        entries = await self._outbox.claim(now, self._settings.horizon, wanted)
        for entry in entries:
            self._endpoints[endpoint_of(entry.content.url)].pace.take(time.monotonic(), self._settings.rate)
        return entries

    def _quota(self, name: str, now: int) -> int:
        endpoint = self._endpoints[name]
        match admits(endpoint.health, now, self._under_way[name]):
            case "none":
                return 0
            case "probe":
                return 1
            case "all":
                return endpoint.pace.allowance(time.monotonic(), self._settings.rate, self._settings.concurrency)

    async def _refresh(self) -> None:
        """Learn of new endpoints and of due times; of health only at first sight, since afterwards we know better."""
        for name, (health, due_at) in (await self._outbox.endpoints()).items():
            if name not in self._endpoints:
                self._endpoints[name] = _Endpoint(health)
                self._woken.set()
            self._endpoints[name].due_at = due_at

    def _until_next(self) -> float:
        """Seconds until something may be sent."""
        now, waits = self._clock(), [_LOOK_EVERY]
        for name, endpoint in self._endpoints.items():
            if endpoint.due_at is None:
                continue
            wait = (
                max(endpoint.due_at, endpoint.health.until if endpoint.health.mode != "healthy" else 0) - now
            ) / 1000
            if wait <= 0 and self._under_way[name] and self.under_way >= self._settings.concurrency:
                continue  # a call that ends wakes us
            waits.append(max(wait, endpoint.pace.wait(time.monotonic(), self._settings.rate), 0.001))
        return min(waits)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _deliver(self, entry: Entry, endpoint: str) -> None:
        started = time.monotonic()
        waited = (self._clock() - entry.queued_at) / 1000
        refusal = self._settings.allowed.refusal(entry.content.url)
        if refusal is not None:
            reason = f"the URL {entry.content.url!r} may not be called: {refusal}"
            self._end(entry, endpoint, GiveUp(reason), {"reason": reason}, None)
            return
        try:
            reply, excerpt = await self._caller.call(entry)
        except asyncio.CancelledError:
            self._under_way[endpoint] -= 1
            raise
        now, seconds = self._clock(), time.monotonic() - started
        meaning = meaning_of(reply, now)
        said = describe(reply, excerpt)
        became = fate(entry, meaning, said, self._settings.policy, now=now, chance=random.random())  # noqa: S311 - jitter
        detail: dict[str, Any] = {"status": reply.status, "reason": said, "seconds": round(seconds, 4)}
        if excerpt:
            detail["body"] = excerpt
        self._end(entry, endpoint, became, detail, meaning)
        outcome = {Done: "acknowledged", Again: "retry", GiveUp: "dead"}[type(became)]
        self._observe(
            CallEnded(entry.watch, entry.application_id, outcome, said, entry.attempts, seconds, waited)  # type: ignore[arg-type] # the three outcomes
        )

    def _end(self, entry: Entry, endpoint: str, became: Fate, detail: dict[str, Any], meaning: Meaning | None) -> None:
        now = self._clock()
        self._under_way[endpoint] -= 1
        self._ends.append(Finished(entry, became, detail, now))
        if meaning is not None:
            self._judge(endpoint, meaning, detail["reason"], now)
        self._ended.set()
        self._woken.set()

    def _judge(self, name: str, meaning: Meaning, reason: str, now: int) -> None:
        endpoint = self._endpoints[name]
        before = endpoint.health
        health = after(before, meaning, reason, self._settings.policy, now=now, chance=random.random())  # noqa: S311 - jitter
        if health == before:
            return
        endpoint.health = health
        self._changed[name] = health
        if health.mode != before.mode or (health.mode != "healthy" and health.reason != before.reason):
            wait = max(health.until - now, 0) / 1000
            self._observe(EndpointChanged(name, health.mode, health.reason, wait))

    async def _record(self) -> None:
        """Write ends as they come, in groups; with the last one after `stop`, return."""
        while not (self._stopping and not self._ends and not self.under_way):
            await self._ended.wait()
            self._ended.clear()
            while self._ends:
                ends, health = self._ends, self._changed
                self._ends, self._changed = [], {}
                try:
                    await self._outbox.finish(ends, health)
                    self._store_works()
                except StoreError as error:
                    self._ends, self._changed = ends + self._ends, {**health, **self._changed}
                    self._store_fails(error)
                    await asyncio.sleep(_STORE_RETRY)
            # An entry that is due again at once can be claimed only now.
            self._woken.set()

    def _store_fails(self, error: StoreError) -> None:
        if not self._store_failed:
            self._store_failed = True
            self._observe(StoreFailed(str(error)))

    def _store_works(self) -> None:
        if self._store_failed:
            self._store_failed = False
            self._observe(StoreRecovered())


def describe(reply: Reply, excerpt: str) -> str:
    """A reply in words, for people."""
    if reply.status is None:
        return reply.failure or "no answer"
    words = f"HTTP {reply.status}"
    if reply.retry_after is not None:
        words += f", Retry-After: {reply.retry_after[:60]}"
    line = " ".join(excerpt.split())[:200]
    return f"{words}: {line}" if line else words

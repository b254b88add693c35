"""The sender: claims due entries, calls, and writes down what came of it.

    outbox ──claim (durable)──▶ call ──▶ reply ──finish (durable)──▶ snapshot, or due again, or dead letter

At most one call per application is under way, because an application has one entry, and a claimed entry is not claimed
again. Ends are written in groups: while one transaction is written, the ends of other calls collect for the next.

If the store cannot write a claim, nothing is sent. If it cannot write an end, the sender claims nothing more and tries
until it can: what was sent is marked as attempted already, so nothing is forgotten, and nothing is sent that could not
be recorded.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cdc_sync.core.delivery import Again, Fate, Finished, GiveUp, fate, outcome_of
from cdc_sync.core.endpoint import Health, after
from cdc_sync.core.failures import StoreError
from cdc_sync.core.observations import CallEnded, EndpointChanged, Observe, StoreFailed, StoreRecovered
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reply import Acknowledged, Meaning, NotFound, Rejected, Reply, meaning_of
from cdc_sync.core.retry import RetryPolicy
from cdc_sync.core.status_url import AllowedHosts, endpoint_of
from cdc_sync.delivery.client import Caller
from cdc_sync.delivery.endpoints import Endpoints

_LOOK_EVERY = 1.0
"""Seconds between looks at the whole outbox, at most: nobody tells of an entry that an operator command wrote to it."""

_STORE_RETRY = 1.0
"""Seconds between tries while the store cannot be written."""

_Step = Literal["claim", "look", "finish"]


class Outbox(Protocol):
    """The part of the store that the sender uses; see `store.protocol.Store`."""

    async def claim(self, now: int, horizon: int, wanted: Mapping[str, int], probing: Collection[str]) -> list[Entry]:
        """Take due entries, marked as attempted."""

    def holds(self, entry: Entry) -> bool:
        """Whether a call for a claimed entry may begin."""

    async def complete(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
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
        built: the base URL of each watch that builds its URLs: for the same reason they are built again.
        horizon: no entry waits longer than this many milliseconds, unless a clock was wrong.
    """

    concurrency: int
    rate: float | None
    policy: RetryPolicy
    allowed: AllowedHosts
    built: Mapping[str, str]
    horizon: int


def wall_clock() -> int:
    """This machine's clock, which may be set at any time: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Sender:
    """Delivers what is due. `run` works until `stop` is called; `wake` says that there may be something new.

    While it runs, `progressed` is called at every turn, about once a second at least.
    """

    def __init__(
        self,
        outbox: Outbox,
        caller: Caller,
        settings: SenderSettings,
        observe: Observe,
        clock: Callable[[], int] = wall_clock,
        *,
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        self._outbox = outbox
        self._caller = caller
        self._settings = settings
        self._observe = observe
        self._clock = clock
        self._progressed = progressed
        self._endpoints = Endpoints(settings.concurrency, settings.rate, settings.horizon)
        self._ends: list[Finished] = []
        self._changed: dict[str, Health] = {}
        self._failing: set[_Step] = set()
        self._step: _Step = "claim"
        self._refused: set[str] = set()
        """Endpoints for which a claim could not be written, and none has been since."""
        self._writes = 0
        self._writing = False
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._hinted = False
        self._stopping = False
        self._dispatching = True
        self._learnt_at = -math.inf

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._endpoints.under_way

    def wake(self) -> None:
        """Claim now: something is being queued, or has been.

        While it is being recorded, the claim follows in the same queue of the store, and may share its commit.
        """
        self._hinted = True
        self._woken.set()

    def use(self, settings: SenderSettings) -> None:
        """Go on with other settings; what is known of the endpoints stays, and one that refused us is asked again."""
        self._settings = settings
        self._endpoints.limit(settings.concurrency, settings.rate, settings.horizon)
        self._endpoints.probe_refusing()
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; `run` returns when the calls under way have ended and are written down."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Deliver until stopped."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._record(patient=True), name="sender: record")
            while not self._stopping:
                await self._dispatch(tasks)
            self._no_more_calls()

    async def run_once(self) -> None:
        """Try everything that is due now once, and return when all of it is written down.

        Raises:
            StoreError: the store failed; what was sent, and could not be written down, is sent again another time.
        """
        failure: StoreError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._record(patient=False), name="sender: record")
                await self._dispatch_all(tasks, self._clock())
                self._no_more_calls()
        except* StoreError as group:
            failure = _first(group)
        if failure is not None:
            raise failure

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        """Start what is due, then wait until there may be more."""
        self._woken.clear()
        self._progressed()
        now, wait = self._clock(), _LOOK_EVERY
        try:
            # An end that cannot be written: nothing is sent that could not be recorded either. The recorder wakes us.
            if "finish" not in self._failing:
                await self._start_due(tasks, now)
                wait = min(self._endpoints.ready_in(now), self._endpoints.more_in(now), wait)
        except StoreError as error:
            self._fails(self._step, error)
            await asyncio.sleep(_STORE_RETRY)
        else:
            await self._pause(wait)

    async def _dispatch_all(self, tasks: asyncio.TaskGroup, now: int) -> None:
        """Start what is due at `now`, as calls end and the pace allows, until there is nothing more to start."""
        while True:
            self._woken.clear()
            await self._start_due(tasks, now)
            wait = self._endpoints.ready_in(now)
            if wait == math.inf and not self.under_way:
                return
            await self._pause(min(wait, _LOOK_EVERY))

    def _no_more_calls(self) -> None:
        """Let the recorder return when it has written the last end."""
        self._dispatching = False
        self._ended.set()

    async def _start_due(self, tasks: asyncio.TaskGroup, now: int) -> None:
        """Claim what may be sent now and start its calls; learn what else is due, unless that is plenty already."""
        if not self._endpoints.free:
            return
        if self._hinted:
            self._hinted = False
            self._endpoints.expect(now)
        knows_some = self._endpoints.ready_in(now) < math.inf
        wanted = self._endpoints.wanted(now)
        probing = self._endpoints.probing(wanted, now)
        entries = await self._claim(now, wanted, probing) if wanted else []
        for entry in entries:
            endpoint = endpoint_of(entry.content.url)
            self._endpoints.begin(endpoint)
            tasks.create_task(self._deliver(entry, endpoint), name=f"call {entry.application_id}")
        is_old = time.monotonic() - self._learnt_at >= _LOOK_EVERY
        if not knows_some or len(entries) < sum(wanted.values()) or is_old:
            await self._learn()

    async def _claim(self, now: int, wanted: Mapping[str, int], probing: Collection[str]) -> list[Entry]:
        self._step = "claim"
        try:
            entries = await self._outbox.claim(now, self._settings.horizon, wanted, probing)
        except StoreError:
            self._refused.update(wanted)
            raise
        # What could not be claimed is claimed now, or gone. That there was nothing to ask for says nothing.
        self._refused.difference_update(wanted)
        if not self._refused:
            self._works("claim")
        return entries

    async def _learn(self) -> None:
        self._step = "look"
        self._learnt_at = time.monotonic()
        writes = self._writes
        found = await self._outbox.endpoints()
        self._works("look")
        self._refused.difference_update(name for name, (_, due_at) in found.items() if due_at is None)
        if not self._refused:
            self._works("claim")
        # Between a write of ours and its end the store's health may be from before it; the next look will tell.
        others = self._writes == writes and not self._writing
        for name in self._endpoints.learn(found, unsaved=self._changed if others else found):
            # From an earlier run, or from another daemon: whoever keeps account of what is wrong has not heard of it.
            self._tell(name, self._endpoints[name].health)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _deliver(self, entry: Entry, endpoint: str) -> None:
        started = time.monotonic()
        waited = (self._clock() - entry.queued_at) / 1000
        # With the settings as they are now. The endpoint stays the one that the entry was claimed for, whose calls are
        # counted; what is queued from now on has the new one.
        entry = entry.addressed(self._settings.built)
        try:
            became, detail, meaning = await self._attempt(entry)
        finally:
            self._endpoints.end(endpoint)
        seconds = time.monotonic() - started
        now, said = self._clock(), detail["reason"]
        self._ends.append(Finished(entry, became, {**detail, "seconds": round(seconds, 4)}, now))
        if meaning is not None:
            self._judge(endpoint, meaning, said, now)
        self._ended.set()
        self._woken.set()
        self._observe(
            CallEnded(entry.watch, entry.application_id, outcome_of(became), said, entry.attempts, seconds, waited)
        )

    async def _attempt(self, entry: Entry) -> tuple[Fate, dict[str, Any], Meaning | None]:
        """Call, if the URL may be called: what becomes of the entry, what the history keeps, what the reply means."""
        refusal = self._settings.allowed.refusal(entry.content.url)
        if refusal is not None:
            reason = f"the URL {entry.content.url!r} may not be called: {refusal}"
            return GiveUp(reason), {"reason": reason}, None
        if not self._outbox.holds(entry):
            # This process was stopped, or cut off from the store, for so long that another daemon may send it instead.
            reason = "not sent: the claim on it may have lapsed before the call was over"
            return Again(self._clock()), {"reason": reason}, None
        reply, excerpt = await self._caller.call(entry)
        now = self._clock()
        meaning = meaning_of(reply, wall_clock())
        said = describe(reply, excerpt)
        detail = {"status": reply.status, "reason": said}
        if excerpt:
            detail["body"] = excerpt
        return fate(entry, meaning, said, self._settings.policy, now=now, chance=_chance()), detail, meaning

    def _judge(self, name: str, meaning: Meaning, reason: str, now: int) -> None:
        endpoint = self._endpoints[name]
        before = endpoint.health
        health = after(before, meaning, reason, self._settings.policy, now=now, chance=_chance())
        endpoint.heed(health, answered=isinstance(meaning, Acknowledged | NotFound | Rejected))
        if health == before:
            return
        self._changed[name] = health
        if health.mode != before.mode or (health.mode != "healthy" and health.reason != before.reason):
            self._tell(name, health)

    def _tell(self, name: str, health: Health) -> None:
        wait = max(health.until - self._clock(), 0) / 1000
        self._observe(EndpointChanged(name, health.mode, health.reason, wait))

    async def _record(self, *, patient: bool) -> None:
        """Write ends as they come, in groups, until no more can come.

        Raises:
            StoreError: they cannot be written; not if `patient`, which tries until they can.
        """
        while self._dispatching or self.under_way or self._ends:
            await self._ended.wait()
            self._ended.clear()
            while self._ends:
                await self._write_ends(patient=patient)
            # An entry that is due again at once can be claimed only now.
            self._woken.set()

    async def _write_ends(self, *, patient: bool) -> None:
        ends, health = self._ends, self._changed
        self._ends, self._changed = [], {}
        self._writes += 1
        self._writing = True
        try:
            await self._outbox.complete(ends, health)
            self._endpoints.saved(health)
        except StoreError as error:
            self._ends, self._changed = ends + self._ends, health | self._changed
            if not patient:
                raise
            self._fails("finish", error)
            await asyncio.sleep(_STORE_RETRY)
        else:
            self._works("finish")
        finally:
            self._writing = False

    def _fails(self, step: _Step, error: StoreError) -> None:
        if not self._failing:
            self._observe(StoreFailed(str(error)))
        self._failing.add(step)

    def _works(self, step: _Step) -> None:
        if step in self._failing:
            self._failing.remove(step)
            if not self._failing:
                self._observe(StoreRecovered())


def _chance() -> float:
    return random.random()  # noqa: S311 - jitter


def _first(group: BaseExceptionGroup[StoreError]) -> StoreError:
    """One of the errors in a group, which may be nested."""
    error: StoreError | BaseExceptionGroup[StoreError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(reply: Reply, excerpt: str) -> str:
    """A reply in words, for people."""
    if reply.status is None:
        return reply.failure or "no answer"
    words = f"HTTP {reply.status}"
    if 300 <= reply.status < 400:  # noqa: PLR2004 - HTTP's classes are numbers
        words += ", a redirect, which is never followed (is hellowork.base_url right?)"
    if reply.retry_after is not None:
        words += f", Retry-After: {reply.retry_after[:60]}"
    line = " ".join(excerpt.split())[:200]
    return f"{words}: {line}" if line else words

"""The sender: claims due entries, calls, and completes them.

    outbox ──claim (durable)──▶ ready queue ──▶ worker: call, reply ──complete (durable)──▶ snapshot, due again, dead
                 ▲                   │
                 └──unclaim──────────┘ its endpoint waits, or the sender stops

- Each of `concurrency` workers takes an entry in the event loop's step in which its call begins, so an earlier pause of
  the endpoint still counts.
- The claimer claims ahead what they will begin within about 50 ms (decision 19), and gives back, uncounted, what does
  not begin.
- The recorder completes calls in groups: during one transaction, other calls' ends collect for the next.

At most one call per application is under way: an entry is not claimed again before it is completed or given back. One
task makes all claims and unclaims. An entry claimed while it is given back is not called, but given back once more.

**Beside an apply.** `offer` withdraws the unstarted entries of a batch's applications in one step of the event loop.
None begins until `settle`, so the apply treats them as never attempted.

If the store cannot write a claim, nothing is sent. If it cannot complete, no further call begins until it can.
"""

import asyncio
import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Literal, Protocol

from cdc_sync.core import events
from cdc_sync.core.batch import Applied
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Entry, Lane, Offer
from cdc_sync.core.reasons import coded
from cdc_sync.core.replies import (
    ACKED,
    ACKNOWLEDGED,
    HEALTHY,
    Acknowledged,
    CallResult,
    CredentialsRefused,
    DeadLetter,
    Finished,
    Health,
    Meaning,
    NotFound,
    Rejected,
    Reply,
    Retry,
    after,
    meaning_of,
    result_of,
)
from cdc_sync.core.status_url import build, refused
from cdc_sync.delivery.client import Caller
from cdc_sync.delivery.endpoints import Endpoint, Endpoints, EntryId, SenderSettings, fingerprint, lane_of
from cdc_sync.event_loop import ungrouped
from cdc_sync.wall_clock import wall_clock

_PLAIN_ID = re.compile(r"[A-Za-z0-9_~-]{1,200}")
"""An id that stands in a URL unescaped and unambiguous."""

_LOOKS_EVERY = 5.0
"""Seconds between looks at the outbox where others' due entries wake the sender."""

_MANY_LANES = 100
"""With more lanes, looks take at most a tenth of the time."""

_Step = Literal["claim", "look", "complete"]


class Outbox(Protocol):
    """The part of the store that the sender uses; see `store.delivery.Delivery`."""

    @property
    def is_woken(self) -> bool:
        """See `store.driver.Driver`."""

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[Lane, int], probing: Collection[Lane] = ()
    ) -> list[Entry]:
        """See `Delivery`."""

    async def unclaim(self, entries: Sequence[Entry]) -> None:
        """See `Delivery`."""

    def holds(self, entry: Entry) -> bool:
        """See `Delivery`."""

    async def complete(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """See `Delivery`."""

    async def look(self) -> tuple[dict[str, Health], dict[Lane, int]]:
        """See `Delivery`."""


class Sender:
    """Delivers what is due. `run` works until `stop` is called.

    Args:
        outbox: the store.
        caller: makes calls.
        settings: its settings.
        observe: gets events.
        clock: for due times.
        progressed: called at each turn of the claimer, at least about once a second.
        look_every: most seconds between looks at the whole outbox, where others' entries cause no wake-up.
        store_retry: seconds between tries while the store cannot be written.
        monotonic: seconds, for durations.
        chance: a random number, 0 ≤ chance < 1, for waits.
    """

    def __init__(
        self,
        outbox: Outbox,
        caller: Caller,
        settings: SenderSettings,
        observe: events.Emit,
        clock: Callable[[], int] = wall_clock,
        *,
        progressed: Callable[[], None] = lambda: None,
        look_every: float = 1.0,
        store_retry: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._caller = caller
        self._settings = settings
        self._observe = observe
        self._clock = clock
        self._progressed = progressed
        self._look_every = look_every
        self._store_retry = store_retry
        self._monotonic = monotonic
        self._chance = chance
        self._endpoints = Endpoints(settings, clock, monotonic)
        self._checked = checked_beginnings(settings)

        self._workers = 0
        self._idle: deque[asyncio.Future[None]] = deque()
        self._open = False
        """Whether calls may begin."""
        self._stopping = False
        self._once = False
        """Whether to try only what is due at the beginning, once."""

        self._woken = asyncio.Event()
        self._look = False
        """Look at the outbox at the next turn."""
        self._learnt_at = -math.inf
        self._look_from = -math.inf
        """Until then, look only every `look_every`."""
        self._lapsed = False
        """Whether a claim was lost before its call began."""

        self._ends: list[Finished] = []
        self._retries: list[tuple[Lane, int]] = []
        """Their retries' due times."""
        self._changed: dict[str, Health] = {}
        self._unfinished: set[EntryId] = set()
        """Applications with a call that is not completed yet."""
        self._newer: set[EntryId] = set()
        """Those with a newer entry, claimable after the completion."""
        self._ended = asyncio.Event()
        self._writes = 0
        """Begun and ended completions: odd while one is under way."""

        self._failing: set[_Step] = set()

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._endpoints.under_way

    # Beside an apply.

    def offer(self, watch: str, application_ids: Collection[str]) -> Offer:
        """Withdraw a batch's unstarted entries until `settle`; returns what the apply may use."""
        claims = self._open and not (self._failing or self._endpoints.returning or self._lapsed)
        return self._endpoints.offer(watch, application_ids, claims=claims)

    def settle(self, offered: Offer, watch: str, applied: Applied | None) -> None:
        """Use the result of an apply; None: it failed, give back the withdrawn entries."""
        endpoints, is_left = self._endpoints, False
        endpoints.settle(watch, offered, None if applied is None else applied.touched)
        if applied is not None:
            endpoints.put(applied.claimed)
            # Claim the rest now, or after the application's call.
            left = {result.application_id for result in applied.results if result.state == "pending"}
            left.difference_update(entry.application_id for entry in applied.claimed)
            later = {(watch, application_id) for application_id in left} & self._unfinished
            self._newer |= later
            if is_left := len(left) > len(later):
                for origin, due_at in applied.due.items():
                    endpoints.hint(due_at, (origin, watch))
            # Only a look finds an entry that left its queue and stayed unchanged.
            self._look = self._look or not applied.touched <= left.union(e.application_id for e in applied.claimed)
        self._dispatch()
        if endpoints.returning or self._look or is_left or (endpoints.ready and self._settings.rate):
            self._woken.set()  # ready entries may have to wait for the rate limit

    # Life.

    def use(self, settings: SenderSettings) -> None:
        """Use other settings; see `Endpoints.use`."""
        self._settings = settings
        self._checked = checked_beginnings(settings)
        gone, followers = self._endpoints.use(settings)
        for name in gone:
            self._changed.pop(name, None)
            self._observe(events.EndpointGone(name))
        for endpoint in followers:
            self._changed[endpoint.name] = endpoint.health
            self._tell(endpoint.name, endpoint.health)
        self._woken.set()

    def look(self) -> None:
        """Look at the outbox now: another process may have written."""
        self._look = True
        self._woken.set()

    def pause(self, paused: Collection[str]) -> None:
        """Pause calls to these endpoints (see `ALL_ENDPOINTS`), and resume them to others."""
        before, self._endpoints.paused = self._endpoints.paused, frozenset(paused)
        for name in sorted(self._endpoints.paused ^ before):
            self._observe(events.SendingResumed(name or None) if name in before else events.SendingPaused(name or None))
            self._woken.set()

    def stop(self) -> None:
        """Begin no more calls; `run` returns once calls are completed and other entries given back."""
        self._stopping = True
        self._open = False
        self._woken.set()

    async def run(self) -> None:
        """Deliver until stopped."""
        async with asyncio.TaskGroup() as tasks:
            self._open = not self._stopping
            recorder = tasks.create_task(self._record(), name="sender: recorder")
            while not self._stopping:
                self._employ(tasks)
                await self._turn()
            await self._return_everything()
            await self._end(recorder)
            await self._return_everything()  # those that an apply had withdrawn

    async def run_once(self) -> None:
        """Try everything due now once, and complete it.

        Raises:
            StoreError: the store failed; uncompleted entries will be sent again.
        """
        self._once = True
        self._endpoints.until = self._clock()
        await asyncio.sleep(0.001)  # so that retries are due later
        with ungrouped(StoreError):
            await self.run()

    def _employ(self, tasks: asyncio.TaskGroup) -> None:
        """Have `concurrency` workers; after a reload, surplus ones stay idle."""
        while self._workers < self._settings.concurrency:
            self._workers += 1
            tasks.create_task(self._work(), name=f"sender: worker {self._workers}")

    async def _end(self, recorder: asyncio.Task[None]) -> None:
        """Let the workers and the recorder finish."""
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._ended.set()
        await recorder

    # The claimer.

    async def _turn(self) -> None:
        """Claim ahead, then wait for more to do."""
        endpoints = self._endpoints
        self._woken.clear()
        self._progressed()
        if "complete" in self._failing:
            # Send nothing that may not be recorded. The recorder wakes us.
            await self._wait(self._look_every)
            return
        lapsed = self._lapsed
        try:
            await self._claim_ahead()
        except StoreError:
            if self._once:
                raise
            await asyncio.sleep(self._store_retry)
            return
        if self._once:
            is_idle = not (endpoints.ready or self.under_way or endpoints.returning)
            if is_idle and (self._lapsed or not endpoints.has_due()):
                self.stop()
        elif lapsed:
            # The next claim renews the lease, or fails.
            await asyncio.sleep(self._store_retry)
            self._lapsed = False
            return
        wait = min(endpoints.due_in(), self._look_every)
        await self._wait(min(wait, max(self._look_from - self._monotonic(), 0)) if self._look else wait)

    async def _claim_ahead(self) -> None:
        """Give back, claim ahead, and look at the outbox if necessary."""
        endpoints = self._endpoints
        endpoints.give_back()
        await self._unclaim()
        few = False
        if self._open and not self._lapsed:
            wanted, probing = endpoints.claimable()
            if wanted:
                few = await self._claim(wanted, probing) < sum(wanted.values())
                endpoints.give_back(everything=not self._open)
        look_every = max(self._look_every, _LOOKS_EVERY) if self._outbox.is_woken else self._look_every
        now, self._look = self._monotonic(), self._look or few
        if (self._look and now >= self._look_from) or now - self._learnt_at >= look_every:
            self._look = False
            await self._learn()
            if endpoints.claimable()[0]:
                self._woken.set()
        self._dispatch()
        if endpoints.returning:
            self._woken.set()

    async def _claim(self, wanted: Mapping[Lane, int], probing: Collection[Lane]) -> int:
        endpoints, now = self._endpoints, self._clock()
        due = min(now, endpoints.until)
        endpoints.expect(wanted)
        try:
            with self._noting("claim"):
                entries = await self._outbox.claim(due, now + self._settings.horizon - due, wanted, probing)
        finally:
            endpoints.coming.remove(wanted)
        endpoints.put(entries)
        if entries:  # else it wrote nothing
            self._works("claim")
        return len(entries)

    async def _unclaim(self) -> None:
        endpoints = self._endpoints
        entries = dict(endpoints.returning)
        if not entries:
            return
        with self._noting("claim"):
            await self._outbox.unclaim(list(entries.values()))
        self._works("claim")
        # Give an entry that was claimed meanwhile back again: either write may have been the first.
        for of, entry in entries.items():
            if endpoints.returning[of] is entry:
                del endpoints.returning[of]
                endpoints.hint(min(entry.due_at, endpoints.until), lane_of(entry))

    async def _return_everything(self) -> None:
        while True:
            self._endpoints.give_back(everything=True)
            if not self._endpoints.returning:
                return
            try:
                await self._unclaim()
            except StoreError:
                if self._once:
                    raise
                await asyncio.sleep(self._store_retry)

    async def _learn(self) -> None:
        endpoints, writes = self._endpoints, self._writes
        self._learnt_at = begun = self._monotonic()
        endpoints.look()
        with self._noting("look"):
            healths, lanes = await self._outbox.look()
        self._look_from = ended = self._monotonic()
        if len(lanes) > _MANY_LANES:
            self._look_from += 9 * (ended - begun)
        self._works("look")
        # During a completion of ours the store's health may be older; trust the next look.
        others = self._writes == writes and writes % 2 == 0
        for name in endpoints.learn(healths, lanes, unsaved=self._changed if others else healths):
            # Another run or daemon wrote it: report it here too.
            self._tell(name, endpoints.all[name].health)
        if not endpoints.pending:
            self._works("claim")  # nothing is left to claim

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    # The workers.

    def _dispatch(self) -> None:
        """Wake an idle worker for each entry that may begin."""
        startable = len(self._endpoints.ready) - len(self._endpoints.withdrawn)
        while startable > 0 and self._idle:
            idle = self._idle.pop()
            if not idle.done():  # else cancelled
                idle.set_result(None)
                startable -= 1

    async def _work(self) -> None:
        endpoints = self._endpoints
        asked = False  # asked for more since the last call
        while True:
            may_begin = self._open and "complete" not in self._failing
            begun = endpoints.begin() if may_begin else None
            if begun is not None:
                entry, endpoint = begun
                self._unfinished.add((entry.watch, entry.application_id))
                if len(endpoints.ready) <= endpoints.ahead // 2 and endpoints.pending:
                    self._woken.set()
                await self._deliver(entry, endpoint)
                asked = False
                if self._idle:
                    self._dispatch()  # the reply may have let several begin
            elif self._stopping:
                return
            else:
                # The last worker wakes the claimer only for a pace or the end.
                is_last = not endpoints.under_way and (endpoints.ready or self._once)
                if not asked and (endpoints.pending or is_last):
                    self._woken.set()
                asked = True
                idle = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle

    async def _deliver(self, entry: Entry, endpoint: Endpoint) -> None:
        settings, started, claimed = self._settings, endpoint.last_start, entry
        beginning, application_id = self._checked.get(entry.watch), entry.application_id
        refusal = None
        if (
            beginning is None
            or _PLAIN_ID.fullmatch(application_id) is None
            or entry.content.url != f"{beginning}{application_id}/status"
        ):
            # The endpoint of its claim counts the call, whatever the URL is now.
            entry = entry.addressed(settings.built)
            refusal = settings.allowed.refusal(entry.content.url)
        became: CallResult = ACKED
        seconds = 0.0
        if refusal is not None:
            self._endpoints.end(endpoint, None)
            now = self._clock()
            became = DeadLetter(refused(entry.content.url, refusal))
            why, detail = became.reason, dict[str, Any](reason=became.reason)
        elif not self._outbox.holds(entry):
            self._lapse(entry, endpoint)
            return
        else:
            try:
                reply, excerpt = await self._caller.call(entry)
            finally:
                seconds = self._monotonic() - started
                self._endpoints.end(endpoint, seconds)
            now = self._clock()
            # A date is compared with the wall clock.
            meaning = meaning_of(reply, now if reply.retry_after is None else wall_clock())
            why = describe(reply, excerpt)
            detail = {"status": reply.status, "reason": why}
            if excerpt:
                detail["body"] = excerpt
            if meaning is not ACKNOWLEDGED:
                became = result_of(entry, meaning, why, self._settings.policy, now=now, chance=self._chance())
                if isinstance(became, Retry):
                    self._retries.append((lane_of(claimed), became.due_at))
            may_be_news = meaning is not ACKNOWLEDGED or endpoint.most is not None or endpoint.health is not HEALTHY
            # Old credentials prove nothing about new ones.
            if may_be_news and (settings is self._settings or not isinstance(meaning, CredentialsRefused)):
                self._judge(endpoint, meaning, why, now)
        detail["seconds"] = round(seconds, 4)
        if not self._ends:
            self._ended.set()
        self._ends.append(Finished(entry, became, detail, now))
        waited = (now - entry.queued_at) / 1000 - seconds
        if waited < 0:
            waited = 0.0  # the two terms come from two clocks
        self._observe(
            events.CallEnded(entry.watch, application_id, became.outcome, why, entry.attempts, seconds, waited)
        )

    def _lapse(self, entry: Entry, endpoint: Endpoint) -> None:
        """Give back an entry with a lapsed claim: another daemon may call."""
        of = entry.watch, entry.application_id
        self._endpoints.end(endpoint, None)
        self._endpoints.returning[of] = entry
        self._unfinished.discard(of)
        self._lapsed = True
        self._woken.set()
        self._ended.set()
        why = coded("claim-lapsed", "not sent: the claim on it may have lapsed before the call was over")
        waited = (self._clock() - entry.queued_at) / 1000
        self._observe(events.CallEnded(*of, "retry", why, entry.attempts, 0.0, waited))

    def _judge(self, endpoint: Endpoint, meaning: Meaning, reason: str, now: int) -> None:
        before = endpoint.health
        health = after(before, meaning, reason, self._settings.policy, now=now, chance=self._chance())
        if health != before and isinstance(meaning, CredentialsRefused):
            salt = bytes.fromhex(before.refused[:16]) if before.refused else None
            health = replace(health, refused=fingerprint(self._endpoints.headers_of(endpoint), salt))
        endpoint.heed(health, answered=isinstance(meaning, Acknowledged | NotFound | Rejected))
        is_gone = self._endpoints.all.get(endpoint.name) is not endpoint
        if health == before or is_gone:
            return
        self._changed[endpoint.name] = health
        self._woken.set()
        if health.mode != before.mode or (health.mode != "healthy" and health.reason != before.reason):
            self._tell(endpoint.name, health)

    def _tell(self, name: str, health: Health) -> None:
        wait = max(health.until - self._clock(), 0) / 1000
        self._observe(events.EndpointChanged(name, health.mode, health.reason, wait))

    # The recorder.

    async def _record(self) -> None:
        """Complete calls in groups until no more can end; try for ever, except in `run_once`.

        Raises:
            StoreError: in `run_once`, the store failed.
        """
        endpoints = self._endpoints
        while not self._stopping or self.under_way or self._ends:
            if not self._ends:
                self._ended.clear()
                await self._ended.wait()
                continue
            ends, health, retries = self._ends, self._changed, self._retries
            self._ends, self._changed, self._retries = [], {}, []
            self._writes += 1
            try:
                await self._outbox.complete(ends, health)
            except StoreError as error:
                self._fails("complete", error)
                self._ends, self._retries = ends + self._ends, retries + self._retries
                self._changed = health | self._changed
                if self._once:
                    raise
                await asyncio.sleep(self._store_retry)
                continue
            finally:
                self._writes += 1
            for name in endpoints.all.keys() & health:
                endpoints.all[name].stored = health[name]
            # Retries, and entries enqueued meanwhile, can be claimed now.
            ended = {(end.entry.watch, end.entry.application_id) for end in ends}
            self._unfinished -= ended
            newer = self._newer & ended
            self._newer -= newer
            for lane, due_at in retries:
                endpoints.hint(due_at, lane)
            if newer:
                endpoints.hint_of_watches(self._clock(), {watch for watch, _ in newer})
            if "complete" in self._failing:
                self._works("complete")
                self._dispatch()
            elif not (newer or retries):
                continue
            self._woken.set()

    @contextmanager
    def _noting(self, step: _Step) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            self._fails(step, error)
            raise

    def _fails(self, step: _Step, error: StoreError) -> None:
        """Note a failed step; report the first."""
        if not self._failing:
            self._observe(events.StoreFailed(error.message, code=error.code))
        self._failing.add(step)

    def _works(self, step: _Step) -> None:
        """Note a step that works; report the recovery after the last failing one."""
        if step in self._failing:
            self._failing.remove(step)
            if not self._failing:
                self._observe(events.StoreRecovered())


def checked_beginnings(settings: SenderSettings) -> dict[str, str]:
    """The beginnings of watches' built URLs that are allowed with every plain id."""
    built = {watch: build(base_url, "1") for watch, base_url in settings.built.items()}
    return {watch: url.removesuffix("1/status") for watch, url in built.items() if not settings.allowed.refusal(url)}


_REDIRECT = "HTTP %(status)s, a redirect, which is never followed (is hellowork.base_url right?)"
_REPLIES = {
    "http": "HTTP %(status)s",
    "http-answer": "HTTP %(status)s: %(answer)s",
    "redirect": _REDIRECT,
    "redirect-answer": f"{_REDIRECT}: %(answer)s",
}


def describe(reply: Reply, excerpt: str) -> str:
    """A reply in words, for people."""
    if reply.status is None:
        return reply.failure or coded("no-answer", "no answer")
    status: object = reply.status
    if reply.retry_after is not None:
        status = f"{status}, Retry-After: {reply.retry_after[:60]}"
    line = " ".join(excerpt.split())[:200]
    if 200 <= reply.status < 300:  # noqa: PLR2004 - HTTP's classes are numbers
        return f"HTTP {status}: {line}" if line else f"HTTP {status}"  # no reason for a failure: no French
    code = "redirect" if 300 <= reply.status < 400 else "http"  # noqa: PLR2004 - as above
    if not line:
        return coded(code, _REPLIES[code], status=status)
    return coded(f"{code}-answer", _REPLIES[f"{code}-answer"], status=status, answer=line)

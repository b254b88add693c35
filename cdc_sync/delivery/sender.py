"""The sender: reads due entries into memory, calls, and completes them.

    outbox ──turn: read──▶ memory ──worker: call, reply──▶ ended ──turn: complete (durable)──▶ snapshot, outbox
                             ▲
                             └── what an apply has just enqueued

- A turn with the store completes what has ended, for many calls at once, and reads ahead, so that the next entry to
  call is in memory (`memory`). Reading ahead and beginning a call write nothing to the store. There is one turn at a
  time: calls that end during a turn are completed in the next one. If a turn fails, its completions are kept and tried
  again.
- Up to `concurrency` workers call. A worker takes an entry and begins its call in one step of the event loop; it ends
  when it finds no call that may begin. `Sender._dispatch` starts further ones whenever that may have changed.

Each job of the store has an effect, which changes memory; effects run in the order of the commits
(`store.driver.Driver.transact`): an entry leaves memory after its completion, and before a later read's result enters.

**A call begins** (`Sender._work`) if all of these hold: the sender is not stopping; the last turn with the store
worked; `may_begin` allows it; fewer than `concurrency` are under way; its entry is in memory, and no apply decides
about its application; `Endpoints.may_call` allows it (rate, pauses, the endpoint's health, and half of the places at
most for a slow one).
**It is repeated or given up** as `core.replies` decides by its reply. An acknowledged entry leaves the outbox. A
refused one, and one that was retried for too long, is given up: it stays as a dead letter, for a person. After any
other reply, or none, it is due again later, and the same call is made. If the process ends before the result is in the
store, the call is made again.
**If the row changes during a call,** the call goes on, and the new entry waits in the outbox. The completion writes
what was acknowledged into the snapshot; after any other end the new entry counts as attempted, so that no change back
cancels it. Then it is read.
**In order:** an application's next call begins after the previous one has ended and is completed.

One `Sender` runs once.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from cdc_sync.core import events
from cdc_sync.core.batch import Applied, BesideApply
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Applying, Lane
from cdc_sync.core.replies import Finished
from cdc_sync.event_loop import ungrouped
from cdc_sync.store.delivery import Delivery
from cdc_sync.wall_clock import wall_clock

from .calling import Calls
from .client import Caller
from .endpoints import Endpoints, SenderSettings
from .memory import Lanes, Memory


class Sender(BesideApply):
    """Delivers what is due. `run` works until `stop` is called.

    Args:
        outbox: the store.
        caller: makes calls.
        settings: its settings.
        observe: gets events.
        clock: for due times.
        may_begin: whether a call may begin: this process leads, for as long as a call takes.
        may_send: whether a watch's entries may be sent; see `recheck`.
        look_every: seconds between looks at all lanes.
        store_retry: seconds between tries while the store cannot be used.
        monotonic: seconds, for durations.
        chance: a random number, 0 ≤ chance < 1, for waits.
    """

    def __init__(
        self,
        outbox: Delivery,
        caller: Caller,
        settings: SenderSettings,
        observe: events.Emit,
        clock: Callable[[], int] = wall_clock,
        *,
        may_begin: Callable[[], bool] = lambda: True,
        may_send: Callable[[str], bool] = lambda _: True,
        look_every: float = 1.0,
        store_retry: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._observe = observe
        self._may_begin = may_begin
        self._look_every = look_every
        self._store_retry = store_retry
        self._endpoints = Endpoints(settings, clock, monotonic)
        self._memory = Memory(self._endpoints, Lanes(self._endpoints, may_send))
        self._calls = Calls(caller, self._endpoints, observe, self.recheck, chance)
        self._group = asyncio.TaskGroup()
        self._workers: set[asyncio.Task[None] | None] = set()
        self._turning: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        """Set if another turn follows at once."""
        self._ended: list[Finished] = []
        """The calls to complete in the next turn."""
        self._look_at = -math.inf
        """When to look at all lanes, by the monotonic clock."""
        self._has_learned = False
        self._store_works = True
        self._once = False
        """Whether to try only what is due at the beginning, once."""
        self._stopping = False
        self._is_over = asyncio.Event()
        self._is_over.set()

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._endpoints.under_way

    # Calls.

    def _dispatch(self) -> None:
        """Start a worker for each entry whose call has not begun, as far as there are places."""
        ready = len(self._memory.entries) - len(self._memory.calling)
        free = self._endpoints.settings.concurrency - len(self._workers)
        for _ in range(min(free, ready)):
            work = self._work()
            try:
                worker = self._group.create_task(work)
            except RuntimeError:  # the sender does not run, or ends by a failure or a cancellation
                work.close()
                return
            self._workers.add(worker)

    async def _work(self) -> None:
        """Call until no call may begin, then free this worker's place.

        No pause comes between a call's beginning and the checks that it may begin.
        """
        try:
            # Nothing is sent that may not be recorded.
            while not self._stopping and self._store_works and self._may_begin():
                begun = self._memory.begin()
                if begun is None:
                    return
                if self._endpoints.settings.rate:
                    self._woken.set()  # how long the turns may rest has changed
                end = await self._calls.make(*begun)
                self._ended.append(end)  # read after the call: a turn may have replaced the list
                self._woken.set()
                self._dispatch()  # the reply may let several begin
        finally:
            self._workers.discard(asyncio.current_task())

    # Turns with the store.

    def _look(self) -> None:
        """Look at all lanes in the next turn, at once."""
        self._look_at = -math.inf
        self._woken.set()

    async def _take_turns(self) -> None:
        """Take turns until the last call has ended and is completed.

        Raises:
            StoreError: in a run that tries once, the store failed.
        """
        endpoints, memory = self._endpoints, self._memory
        while True:
            self._woken.clear()
            try:
                await self._turn()
                self._report_store(None)
            except StoreError as error:
                self._report_store(error)
                if self._once:
                    raise
                await asyncio.sleep(self._store_retry)
                self._look()
            self._dispatch()
            if self._once and not (memory.entries or memory.deciding or self._woken.is_set()):
                self._stopping = True
                self._woken.set()
            if self._stopping and not endpoints.under_way and not self._ended:
                return
            if not self._woken.is_set():
                look = self._look_at - endpoints.monotonic()
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(min(look, memory.seconds_left()), 0.0)):
                        await self._woken.wait()

    async def _turn(self) -> None:
        """Complete what has ended, look at all lanes if it is time, and read what is due."""
        endpoints, memory = self._endpoints, self._memory
        if self._ended:
            await self._complete()
        if not self._has_learned:
            endpoints.learn(await self._outbox.healths())
            self._has_learned = True
        if endpoints.monotonic() >= self._look_at:
            # Set before the answer: a look that is wanted meanwhile must not be lost.
            self._look_at = endpoints.monotonic() + self._look_every
            lanes = await self._outbox.lanes()
            for lane, due_at in lanes.items():
                memory.lanes.read_at(lane, due_at)
            self._calls.report(name for name, _ in lanes)
        if wanted := memory.take_wanted():
            await self._outbox.due(wanted, endpoints.now(), memory.take_in)
            self._woken.set()  # there may be more

    async def _complete(self) -> None:
        """Complete calls. Their entries leave memory, and what is still pending of their applications is read."""
        endpoints, memory = self._endpoints, self._memory
        self._calls.report_ended()  # a result that is in the store is counted
        ended, self._ended = self._ended, []
        healths, endpoints.unsaved = endpoints.unsaved, {}

        def completed(pending: Mapping[Lane, int] | None) -> None:
            if pending is None:
                self._ended = ended + self._ended
                endpoints.unsaved = healths | endpoints.unsaved
                return
            for end in ended:
                memory.completed(end.entry.id)
            for lane, due_at in pending.items():
                memory.lanes.read_at(lane, due_at)

        await self._outbox.complete(ended, healths, completed)

    def _report_store(self, error: StoreError | None) -> None:
        """Report the first turn that fails, and the first one that works again."""
        worked, self._store_works = self._store_works, error is None
        if worked != self._store_works:
            self._observe(events.StoreFailed(error.message, code=error.code) if error else events.StoreRecovered())

    # Beside an apply.

    def begin_apply(self, watch: str, application_ids: Collection[str]) -> Applying:
        """See `core.batch.BesideApply`."""
        return self._memory.begin_apply(watch, application_ids)

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        """See `core.batch.BesideApply`."""
        self._memory.end_apply(applying, applied)
        if applied is None:
            self._look()
        self._woken.set()
        self._dispatch()

    # What changes from outside.

    def use(self, settings: SenderSettings) -> None:
        """Use other settings; see `Endpoints.use`."""
        self._memory.forget()
        for name in self._endpoints.use(settings):
            self._observe(events.EndpointGone(name))
        self._woken.set()

    def look(self) -> None:
        """Read the outbox again: somebody else has written it. Entries whose calls have not begun leave memory."""
        self._memory.forget()
        self._look()

    def pause(self, paused: Collection[str]) -> None:
        """Pause calls to these endpoints (see `ALL_ENDPOINTS`), and resume them to others."""
        before, self._endpoints.paused = self._endpoints.paused, frozenset(paused)
        for name in sorted(self._endpoints.paused ^ before):
            self._observe(events.SendingResumed(name or None) if name in before else events.SendingPaused(name or None))
        if self._endpoints.paused != before:
            self.recheck()

    def recheck(self) -> None:
        """What may be sent has changed: what may not leaves memory, and what may is read."""
        self._memory.forget(lambda lane: self._memory.lanes.admits(lane) == "none")
        self._woken.set()

    # Life.

    async def run(self) -> None:
        """Deliver until stopped."""
        self._is_over.clear()
        try:
            async with self._group:
                self._turning = self._group.create_task(self._take_turns())
        finally:
            self._calls.report_ended()
            self._is_over.set()

    async def run_once(self) -> None:
        """Try everything due now once, and complete it.

        Raises:
            StoreError: the store failed; uncompleted entries will be sent again.
        """
        self._once = True
        self._endpoints.until = self._endpoints.clock()
        await asyncio.sleep(0.001)  # a retry that is due at once is due after `until`
        with ungrouped(StoreError):
            await self.run()

    async def stop(self, grace: float | None = None) -> bool:
        """Begin no more calls. Wait until those under way are completed, for `grace` seconds at most; cancel the rest.

        Returns whether one was cut off, or its result is not in the store.
        """
        self._stopping = True
        self._woken.set()
        over = asyncio.ensure_future(self._is_over.wait())
        await asyncio.wait([over], timeout=grace)
        for task in (self._turning, *self._workers):
            if task is not None:
                task.cancel()
        await over
        return bool(self._memory.calling)

"""The sender: reads due entries into memory, calls, and completes them.

    outbox ──turn: read──▶ memory ──worker: call, reply──▶ ended ──turn: complete (durable)──▶ snapshot, outbox
                             ▲
                             └── what an apply has just enqueued

- A turn with the store (`turns`) completes what has ended, for many calls at once, and reads ahead, so that the next
  entry to call is in memory (`memory`). Nothing of that is written.
- Up to `concurrency` workers call. Each takes an entry and begins its call in one step of the event loop, and ends when
  no call may begin. `Sender._dispatch` makes further ones whenever that may have changed.

The store's transactions change memory by effects, which run in the order of their commits
(`store.driver.Driver.transact`): an entry leaves memory after its completion, and before a later read's result enters.

**A call begins** (`Sender._begin`) if its entry is in memory and no apply decides about its application;
`Endpoints.may_call` and `may_begin` allow it; the last turn with the store worked; and fewer than `concurrency` are
under way.
**It is repeated or given up** as `core.replies` decides by its reply. It is repeated, too, if its result is not in the
store when the process ends.
**In order:** an application's next call begins after the last one has ended and is completed.

One `Sender` runs once.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection

from cdc_sync.core import events
from cdc_sync.core.batch import Applied, BesideApply
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Applying, Entry
from cdc_sync.delivery.calling import Calls
from cdc_sync.delivery.client import Caller
from cdc_sync.delivery.endpoints import Endpoint, Endpoints, SenderSettings
from cdc_sync.delivery.memory import Lanes, Memory
from cdc_sync.delivery.turns import Outbox, Turns
from cdc_sync.event_loop import ungrouped
from cdc_sync.wall_clock import wall_clock


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
        outbox: Outbox,
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
        self._observe = observe
        self._may_begin = may_begin
        self._endpoints = Endpoints(settings, clock, monotonic)
        self._memory = Memory(self._endpoints, Lanes(self._endpoints, may_send))
        self._calls = Calls(caller, self._endpoints, observe, self.recheck, chance)
        self._turns = Turns(outbox, self._memory, observe, self._turned, look_every=look_every, retry=store_retry)
        self._group = asyncio.TaskGroup()
        self._workers: set[asyncio.Task[None]] = set()
        self._turning: asyncio.Task[None] | None = None
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
        """Let workers look for calls that may begin: one for each entry whose call has not begun."""
        ready = len(self._memory.entries) - len(self._memory.calling)
        free = self._endpoints.settings.concurrency - len(self._workers)
        for _ in range(min(free, ready)):
            self._start_worker()

    async def _work(self) -> None:
        """Call as long as a call may begin. No pause comes between its beginning and the check that it may."""
        while (begun := self._begin()) is not None:
            self._turns.complete(await self._calls.make(*begun))
            self._dispatch()  # the reply may let several begin

    def _begin(self) -> tuple[Entry, Endpoint] | None:
        """Begin the next call, if one may begin."""
        if self._stopping or not self._turns.work or not self._may_begin():
            return None  # nothing is sent that may not be recorded
        begun = self._memory.begin()
        if begun is not None and self._endpoints.settings.rate:
            self._turns.wake()  # it waits for the next one's time
        return begun

    # Beside an apply.

    def begin_apply(self, watch: str, application_ids: Collection[str]) -> Applying:
        """See `core.batch.BesideApply`."""
        return self._memory.begin_apply(watch, application_ids)

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        """See `core.batch.BesideApply`."""
        self._memory.end_apply(applying, applied)
        if applied is None:
            self._turns.look()
        self._dispatch()
        self._turns.wake()

    # What changes from outside.

    def use(self, settings: SenderSettings) -> None:
        """Use other settings; see `Endpoints.use`."""
        self._memory.forget()
        for name in self._endpoints.use(settings):
            self._observe(events.EndpointGone(name))
        self._turns.wake()

    def look(self) -> None:
        """Read the outbox again: somebody else has written it. Entries whose calls have not begun leave memory."""
        self._memory.forget()
        self._turns.look()

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
        self._turns.wake()

    # Life.

    async def run(self) -> None:
        """Deliver until stopped."""
        self._is_over.clear()
        try:
            async with self._group:
                turns = self._turns.run(self._have_calls_ended, once=self._once)
                self._turning = self._group.create_task(turns)
        finally:
            self._is_over.set()

    async def run_once(self) -> None:
        """Try everything due now once, and complete it.

        Raises:
            StoreError: the store failed; uncompleted entries will be sent again.
        """
        self._once = True
        self._endpoints.until = self._endpoints.clock()
        await asyncio.sleep(0.001)  # so that retries are due later
        with ungrouped(StoreError):
            await self.run()

    async def stop(self, grace: float | None = None) -> bool:
        """Begin no more calls, and wait for those under way, so many seconds at most.

        Returns whether one was cut off, or its result is not in the store.
        """
        self._end()
        over = asyncio.ensure_future(self._is_over.wait())
        await asyncio.wait([over], timeout=grace)
        for task in (self._turning, *self._workers):
            if task is not None:
                task.cancel()
        await over
        return bool(self._memory.calling)

    def _end(self) -> None:
        """Begin no more calls."""
        self._stopping = True
        self._turns.wake()

    def _have_calls_ended(self) -> bool:
        """Whether no call is under way, and none begins any more."""
        return self._stopping and not self._endpoints.under_way

    def _turned(self) -> None:
        """A turn with the store is over."""
        endpoints, memory = self._endpoints, self._memory
        if endpoints.unreported:
            pending = {name for name, _ in memory.lanes.unread}
            for endpoint in [each for each in endpoints.unreported if each.name in pending]:
                endpoints.unreported.discard(endpoint)
                self._calls.report(endpoint.name, endpoint.health)
        self._dispatch()
        if self._once and not (memory.entries or memory.deciding or self._turns.is_woken):
            self._end()

    def _start_worker(self) -> None:
        """Start a worker, unless the sender does not run, or ends by a failure or a cancellation."""
        work = self._work()
        try:
            task = self._group.create_task(work)
        except RuntimeError:
            work.close()
            return
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)

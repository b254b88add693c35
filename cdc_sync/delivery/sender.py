"""The sender: reads due entries into memory, calls, and completes them.

    outbox ──Reader──▶ memory (`ready`) ──task: call, reply──▶ Recorder ──complete (durable)──▶ snapshot, outbox
                          ▲
                          └── what an apply has just enqueued

- The Reader reads ahead, so that the next entry to call is in memory. Nothing of that is written.
- Up to `concurrency` tasks call. Each takes an entry and begins its call in one step of the event loop, and ends when
  no call may begin. `_Callers.dispatch` makes further ones whenever that may have changed.
- The Recorder completes calls in groups: during one transaction, other calls' ends collect for the next.

The store's transactions change memory by effects, which run in the order of their commits
(`store.driver.Driver.transact`): an entry leaves memory after its completion, and before a later read's result enters.

**A call begins** if its entry is in memory and no apply decides about its application; `Endpoints.may_call` and
`may_begin` allow it; the last results could be stored; and fewer than `concurrency` are under way.
**It is repeated or given up** as `core.replies` decides by its reply. It is repeated, too, if its result is not in the
store when the process ends.
**In order:** an application's next call begins after the last one has ended and is completed.

One `Sender` runs once.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from cdc_sync.core import events
from cdc_sync.core.batch import Applied
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Applying, Entry
from cdc_sync.delivery.calling import Calls
from cdc_sync.delivery.client import Caller
from cdc_sync.delivery.endpoints import Endpoint, Endpoints, SenderSettings
from cdc_sync.delivery.lanes import Lanes
from cdc_sync.delivery.ready import Ready
from cdc_sync.delivery.steps import Outbox, Reader, Recorder, StoreSteps
from cdc_sync.event_loop import ungrouped
from cdc_sync.wall_clock import wall_clock


class Sender:
    """Delivers what is due. `run` works until `stop` is called.

    Args:
        outbox: the store.
        caller: makes calls.
        settings: its settings.
        observe: gets events.
        clock: for due times.
        may_begin: whether a call may begin: this process leads, for as long as a call takes.
        may_send: whether a watch's entries may be sent; see `follow_gate`.
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
        self._endpoints = Endpoints(settings, clock, monotonic)
        self._ready = Ready(self._endpoints, Lanes(self._endpoints, may_send))
        self._calls = Calls(caller, self._endpoints, observe, self._health_changed, monotonic, chance)
        steps = StoreSteps(observe, store_retry)
        self._reader = Reader(outbox, self._ready, steps, self._read, self._turned, look_every)
        self._recorder = Recorder(outbox, self._ready, steps, self._completed)
        self._tasks = _Tasks()
        self._callers = _Callers(self._ready, self._calls, self._recorder, self._reader, may_begin, self._tasks)
        self._once = False
        """Whether to try only what is due at the beginning, once."""
        self._is_over = asyncio.Event()
        self._is_over.set()

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._endpoints.under_way

    # Beside an apply.

    def begin_apply(self, watch: str, application_ids: Collection[str]) -> Applying:
        """See `core.batch.Calls`."""
        return self._ready.begin_apply(watch, application_ids)

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        """See `core.batch.Calls`."""
        self._ready.end_apply(applying, applied)
        if applied is None:
            self._reader.look()
        self._callers.dispatch()
        self._reader.wake()

    # Life.

    def use(self, settings: SenderSettings) -> None:
        """Use other settings; see `Endpoints.use`."""
        for name in self._ready.use(settings):
            self._observe(events.EndpointGone(name))
        self._reader.wake()

    def look(self) -> None:
        """Read the outbox again: somebody else has written it. Entries whose calls have not begun leave memory."""
        self._ready.forget(lambda _, __: True)
        self._reader.look()

    def pause(self, paused: Collection[str]) -> None:
        """Pause calls to these endpoints (see `ALL_ENDPOINTS`), and resume them to others."""
        endpoints = self._endpoints
        before, endpoints.paused = endpoints.paused, frozenset(paused)
        for name in sorted(endpoints.paused ^ before):
            self._observe(events.SendingResumed(name or None) if name in before else events.SendingPaused(name or None))
        if endpoints.paused != before:
            now = endpoints.clock()
            self._ready.forget(lambda _, endpoint: endpoints.admits(endpoint, now) == "none")
            self._reader.wake()

    def follow_gate(self) -> None:
        """`may_send` has changed."""
        self._ready.forget(lambda entry, _: not self._ready.lanes.may_send(entry.watch))
        self._reader.wake()

    async def stop(self, grace: float | None = None) -> bool:
        """Begin no more calls, and wait for those under way, so many seconds at most.

        Returns whether one was cut off, or its result is not in the store.
        """
        self._end()
        over = asyncio.ensure_future(self._is_over.wait())
        await asyncio.wait([over], timeout=grace)
        self._tasks.cancel()
        await over
        return bool(self._ready.begun)

    async def run(self) -> None:
        """Deliver until stopped."""
        self._is_over.clear()
        try:
            async with asyncio.TaskGroup() as group:
                self._tasks.begin(group, self._recorder.run(self._callers.have_ended, once=self._once))
                self._tasks.begin(group, self._reader.run(lambda: self._callers.stopping, once=self._once))
                self._tasks.group = group
        finally:
            self._tasks.group = None
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

    def _end(self) -> None:
        """Begin no more calls."""
        self._callers.stopping = True
        self._reader.wake()
        self._recorder.wake()

    # What the parts cause.

    def _read(self) -> None:
        """The reader has read something."""
        endpoints, ready = self._endpoints, self._ready
        if endpoints.unreported:
            pending = {endpoint for endpoint, _ in ready.lanes.unread}
            for endpoint in [each for each in endpoints.unreported if each.name in pending]:
                endpoints.unreported.discard(endpoint)
                self._calls.report(endpoint.name, endpoint.health)
        self._callers.dispatch()

    def _turned(self) -> None:
        """The reader has read what there was to read."""
        self._read()
        if self._once and not (self._ready.flying or self._ready.applying or self._reader.is_woken):
            self._end()

    def _completed(self) -> None:
        """Some calls' results are in the store."""
        self._callers.dispatch()
        self._reader.wake()

    def _health_changed(self, endpoint: Endpoint) -> None:
        if endpoint.health.mode != "healthy":
            self._ready.forget(lambda _, each: each is endpoint)
        self._reader.wake()


class _Tasks:
    """The sender's tasks, in a group while it runs."""

    def __init__(self) -> None:
        self.group: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> bool:
        """Begin a task; returns False if the group ends, by a failure or a cancellation."""
        try:
            task = group.create_task(work)
        except RuntimeError:
            work.close()
            return False
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    def cancel(self) -> None:
        """Cancel all of them."""
        for task in list(self._running):
            task.cancel()


class _Callers:
    """Up to `concurrency` tasks that call.

    Attributes:
        stopping: whether no more calls begin.
    """

    def __init__(  # noqa: PLR0917 - the sender's own parts
        self,
        ready: Ready,
        calls: Calls,
        recorder: Recorder,
        reader: Reader,
        may_begin: Callable[[], bool],
        tasks: _Tasks,
    ) -> None:
        self._ready = ready
        self._calls = calls
        self._recorder = recorder
        self._reader = reader
        self._may_begin = may_begin
        self._tasks = tasks
        self._number = 0
        self.stopping = False

    def have_ended(self) -> bool:
        """Whether no call is under way, and none begins any more."""
        return self.stopping and not self._ready.endpoints.under_way

    def dispatch(self) -> None:
        """Let tasks look for calls that may begin: one for each entry whose call has not begun."""
        ready, group = self._ready, self._tasks.group
        free = ready.endpoints.settings.concurrency - self._number
        for _ in range(min(free, len(ready.flying) - len(ready.begun))):
            if self.stopping or group is None:
                return
            self._number += 1
            self.stopping = not self._tasks.begin(group, self._call())

    async def _call(self) -> None:
        """Call as long as a call may begin. No pause comes between its beginning and the check that it may."""
        while (begun := self._begin()) is not None:
            self._recorder.add(await self._calls.make(*begun))
            self.dispatch()  # the reply may let several begin
            if self.have_ended():
                self._recorder.wake()
        self._number -= 1

    def _begin(self) -> tuple[Entry, Endpoint] | None:
        """Begin the next call, if one may begin."""
        if self.stopping or not self._recorder.works or not self._may_begin():
            return None  # nothing is sent that may not be recorded
        begun = self._ready.begin()
        if begun is not None and (self._ready.endpoints.settings.rate or self._ready.lanes.is_low(begun[1])):
            self._reader.wake()
        return begun

"""The sender's steps in the store: reading due entries, and completing calls."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal, Protocol, TypeVar

from cdc_sync.core import events
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import DueEntries, Lane, Wanted
from cdc_sync.core.replies import Finished, Health
from cdc_sync.delivery.ready import Ready

T = TypeVar("T")
_Effect = Callable[[T | None], None]
_Step = Literal["read", "complete"]


class Outbox(Protocol):
    """The part of the store that the sender uses; see `store.delivery.Delivery`."""

    async def due(
        self, wanted: Mapping[Lane, Wanted], now: int, latest: int, effect: _Effect[DueEntries]
    ) -> DueEntries:
        """See `Delivery`."""

    async def lanes(self) -> dict[Lane, int]:
        """See `Delivery`."""

    async def healths(self) -> dict[str, Health]:
        """See `Delivery`."""

    async def complete(
        self,
        finished: Sequence[Finished],
        health: Mapping[str, Health],
        effect: _Effect[dict[Lane, int]],
    ) -> dict[Lane, int]:
        """See `Delivery`."""


class StoreSteps:
    """Reports the first step that fails, and the recovery after the last one.

    Attributes:
        failing: the steps that fail.
        retry: seconds between tries.
    """

    def __init__(self, observe: events.Emit, retry: float) -> None:
        self.failing: set[_Step] = set()
        self.retry = retry
        self._observe = observe

    def fails(self, step: _Step, error: StoreError) -> None:
        """Note a step that fails."""
        if not self.failing:
            self._observe(events.StoreFailed(error.message, code=error.code))
        self.failing.add(step)

    def works(self, step: _Step) -> None:
        """Note a step that works."""
        if step in self.failing:
            self.failing.remove(step)
            if not self.failing:
                self._observe(events.StoreRecovered())


class Reader:
    """Reads due entries into memory.

    `read` is called after each read, and `turned` once there is nothing more to read, or no room.
    """

    def __init__(  # noqa: PLR0917 - the sender's own parts
        self,
        outbox: Outbox,
        ready: Ready,
        steps: StoreSteps,
        read: Callable[[], None],
        turned: Callable[[], None],
        look_every: float,
    ) -> None:
        self._outbox = outbox
        self._ready = ready
        self._steps = steps
        self._read = read
        self._turned = turned
        self._look_every = look_every
        self._woken = asyncio.Event()
        self._has_learned = False
        self._look_at = -math.inf
        """When to look at all lanes."""

    @property
    def is_woken(self) -> bool:
        """Whether something may be read since the last turn began."""
        return self._woken.is_set()

    def wake(self) -> None:
        """Something may be read."""
        self._woken.set()

    def look(self) -> None:
        """Look at all lanes."""
        self._look_at = -math.inf
        self._woken.set()

    async def run(self, is_over: Callable[[], bool], *, once: bool) -> None:
        """Read until it is over.

        Raises:
            StoreError: with `once`, the store failed.
        """
        while not is_over():
            self._woken.clear()
            try:
                await self._turn()
                self._steps.works("read")
            except StoreError as error:
                self._steps.fails("read", error)
                if once:
                    raise
                await asyncio.sleep(self._steps.retry)
                continue
            finally:
                self._turned()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_left()):
                    await self._woken.wait()

    async def _turn(self) -> None:
        ready, clock = self._ready, self._ready.endpoints.clock
        if not self._has_learned:
            ready.endpoints.learn(await self._outbox.healths())
            self._has_learned = True
        if self._moment() >= self._look_at:
            await self._look()
        while wanted := ready.wanted():
            now = clock()
            ready.reading(wanted)
            due, latest = min(now, ready.endpoints.until), now + ready.endpoints.settings.horizon
            await self._outbox.due(wanted, due, latest, partial(ready.found, wanted))
            self._read()

    async def _look(self) -> None:
        # Before the answer, so that a look that is wanted meanwhile is not lost.
        self._look_at = self._moment() + self._look_every
        try:
            lanes = await self._outbox.lanes()
        except StoreError:
            self._look_at = -math.inf
            raise
        for lane, due_at in lanes.items():
            self._ready.lanes.read_at(lane, due_at)

    def _seconds_left(self) -> float:
        """Until there may be something to read, or to call by an endpoint's pace."""
        ready, look = self._ready, self._look_at - self._moment()
        due = (ready.lanes.next_at - ready.endpoints.clock()) / 1000
        return max(min(look, due, ready.pace_wait()), 0.0)

    def _moment(self) -> float:
        return self._ready.endpoints.monotonic()


class Recorder:
    """Completes calls in groups; `completed` is called after each."""

    def __init__(self, outbox: Outbox, ready: Ready, steps: StoreSteps, completed: Callable[[], None]) -> None:
        self._outbox = outbox
        self._ready = ready
        self._steps = steps
        self._completed = completed
        self._ends: list[Finished] = []
        self._woken = asyncio.Event()

    @property
    def works(self) -> bool:
        """Whether the last results could be stored."""
        return "complete" not in self._steps.failing

    def add(self, finished: Finished) -> None:
        """Complete a call."""
        self._ends.append(finished)
        self._woken.set()

    def wake(self) -> None:
        """It may be over."""
        self._woken.set()

    async def run(self, is_over: Callable[[], bool], *, once: bool) -> None:
        """Complete calls until it is over; try for ever, except with `once`.

        Raises:
            StoreError: with `once`, the store failed.
        """
        while self._ends or not is_over():
            if not self._ends:
                self._woken.clear()
                await self._woken.wait()
                continue
            ends, self._ends = self._ends, []
            endpoints = self._ready.endpoints
            health, endpoints.unsaved = endpoints.unsaved, {}
            try:
                await self._outbox.complete(ends, health, partial(self._complete, ends))
                self._steps.works("complete")
            except StoreError as error:
                self._steps.fails("complete", error)
                self._ends = ends + self._ends
                endpoints.unsaved = health | endpoints.unsaved
                if once:
                    raise
                await asyncio.sleep(self._steps.retry)
                continue
            self._completed()

    def _complete(self, ends: Sequence[Finished], again: Mapping[Lane, int] | None) -> None:
        """Let completed calls' entries leave memory, and read what is still pending of their applications."""
        if again is not None:
            for end in ends:
                self._ready.completed(end.entry.id)
            for lane, due_at in again.items():
                self._ready.lanes.read_at(lane, due_at)

"""The sender's turns with the store: complete the calls that have ended, then read what is due.

The store runs its jobs in order, so there is one turn at a time. During it, other calls' ends collect for the next one.
After a turn that failed all is tried again; what had ended stays in memory meanwhile.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from cdc_sync.core import events
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import DueEntries, Lane, Wanted
from cdc_sync.core.replies import Finished, Health
from cdc_sync.delivery.memory import Memory

T = TypeVar("T")
_Effect = Callable[[T | None], None]


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
        self, finished: Sequence[Finished], health: Mapping[str, Health], effect: _Effect[dict[Lane, int]]
    ) -> dict[Lane, int]:
        """See `Delivery`."""


class Turns:
    """See the module's text.

    Args:
        turned: is called after each turn, whether it worked or not.
        look_every: seconds between looks at all lanes.
        retry: seconds between tries while the store cannot be used.

    Attributes:
        work: whether the last turn worked.
    """

    def __init__(
        self,
        outbox: Outbox,
        memory: Memory,
        observe: events.Emit,
        turned: Callable[[], None],
        *,
        look_every: float,
        retry: float,
    ) -> None:
        self._outbox = outbox
        self._memory = memory
        self._observe = observe
        self._turned = turned
        self._look_every = look_every
        self._retry = retry
        self._woken = asyncio.Event()
        self._ended: list[Finished] = []
        self._look_at = -math.inf
        self._has_learned = False
        self.work = True

    @property
    def is_woken(self) -> bool:
        """Whether another turn follows at once."""
        return self._woken.is_set()

    def wake(self) -> None:
        """Something may be read."""
        self._woken.set()

    def look(self) -> None:
        """Look at all lanes."""
        self._look_at = -math.inf
        self.wake()

    def complete(self, ended: Finished) -> None:
        """Complete a call in the next turn."""
        self._ended.append(ended)
        self.wake()

    async def run(self, are_over: Callable[[], bool], *, once: bool) -> None:
        """Take turns until they are over.

        Raises:
            StoreError: with `once`, the store failed.
        """
        while True:
            self._woken.clear()
            try:
                await self._turn()
                self._report(None)
            except StoreError as error:
                self._report(error)
                if once:
                    raise
                await asyncio.sleep(self._retry)
                self.look()
            self._turned()
            if are_over() and not self._ended:
                return
            if not self._woken.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds_left()):
                        await self._woken.wait()

    def _report(self, error: StoreError | None) -> None:
        """Report the first turn that fails, and the first one that works again."""
        worked, self.work = self.work, error is None
        if worked != self.work:
            self._observe(events.StoreFailed(error.message, code=error.code) if error else events.StoreRecovered())

    async def _turn(self) -> None:
        endpoints = self._memory.endpoints
        if self._ended:
            await self._complete()
        if not self._has_learned:
            endpoints.learn(await self._outbox.healths())
            self._has_learned = True
        if endpoints.monotonic() >= self._look_at:
            # Before the answer, so that a look that is wanted meanwhile is not lost.
            self._look_at = endpoints.monotonic() + self._look_every
            for lane, due_at in (await self._outbox.lanes()).items():
                self._memory.lanes.read_at(lane, due_at)
        if wanted := self._memory.take_wanted():
            now = endpoints.clock()
            latest = now + endpoints.settings.horizon
            await self._outbox.due(wanted, min(now, endpoints.until), latest, self._memory.take_in)
            self.wake()  # there may be more

    async def _complete(self) -> None:
        """Complete calls. Their entries leave memory, and what is still pending of their applications is read."""
        endpoints = self._memory.endpoints
        ended, self._ended = self._ended, []
        healths, endpoints.unsaved = endpoints.unsaved, {}

        def completed(pending: Mapping[Lane, int] | None) -> None:
            if pending is None:
                self._ended = ended + self._ended
                endpoints.unsaved = healths | endpoints.unsaved
                return
            for end in ended:
                self._memory.completed(end.entry.id)
            for lane, due_at in pending.items():
                self._memory.lanes.read_at(lane, due_at)

        await self._outbox.complete(ended, healths, completed)

    def _seconds_left(self) -> float:
        """Until there may be something to read, or to call by an endpoint's pace."""
        memory = self._memory
        due = (memory.lanes.next_at() - memory.endpoints.clock()) / 1000
        look = self._look_at - memory.endpoints.monotonic()
        return max(min(look, due, memory.pace_wait()), 0.0)

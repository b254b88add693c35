"""What HelloWork has received so far, and waiting for more of it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from cdc_sync.demo.scenario import Told
from cdc_sync.demo.verdict import Received
from cdc_sync.emulator import Call


class Inbox:
    """Takes the emulator's calls; `told` is who else wants to know of each."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.told: Callable[[Received], None] = lambda _: None
        self._news = asyncio.Event()

    def add(self, call: Call) -> None:
        """A call is over."""
        received = Received.from_call(call)
        self.received.append(received)
        self._news.set()
        self.told(received)

    async def until_as_many(self, expected: Iterable[Told]) -> None:
        """Wait until every application of these has had at least as many calls as are expected for it."""
        wanted = Counter(told.application_id for told in expected)
        while wanted - Counter(received.told.application_id for received in self.received):
            self._news.clear()
            await self._news.wait()

"""Noticing what changes the rows that we see and yet is no change of a row: policies, partitions, truncated ones."""

import asyncio

from cdc_sync.pipeline.capture import Capture
from cdc_sync.source.triggers import Storage, stored_in


class SilentChanges:
    """Looks at a watch's tables as a whole, and asks for a sweep when single rows cannot tell what happened."""

    def __init__(self, capture: Capture, storage: Storage) -> None:
        self._capture = capture
        self._storage = storage

    @classmethod
    async def since_now(cls, capture: Capture) -> "SilentChanges":
        """Begin; what was before is the business of a sweep that begins later.

        Raises:
            SourceError: the catalog cannot be read.
        """
        return cls(capture, await stored_in(capture.connected.pool, capture.tables))

    async def look(self) -> None:
        """Ask for a sweep if something happened since the last look.

        Raises:
            SourceError: the catalog cannot be read.
        """
        storage = await stored_in(self._capture.connected.pool, self._capture.tables)
        # Rows that were hidden were suspected, and their deletion held: seeing them again takes that back.
        visible_again = await self._capture.intake.look_for_policies()
        if visible_again or storage != self._storage:
            await self._capture.intake.requests.add()
            self._storage = storage
            self._capture.parts.want_sweep()

    async def run(self, every: float) -> None:
        """Look every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every)
            await self.look()

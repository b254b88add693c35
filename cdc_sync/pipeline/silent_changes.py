"""Noticing what changes the rows that we see and yet is no change of a row: policies, partitions, truncated ones."""

import asyncio
from collections.abc import Callable, Sequence

from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.pipeline.intake import Intake
from cdc_sync.source.connection import Connection
from cdc_sync.source.triggers import Storage, stored_in


class SilentChanges:
    """Looks at a watch's tables as a whole, and asks for a sweep when single rows cannot tell what happened."""

    def __init__(
        self,
        intake: Intake,
        pool: AsyncConnectionPool[Connection],
        tables: Sequence[QualifiedName],
        storage: Storage,
        want_sweep: Callable[[], None],
    ) -> None:
        self._intake = intake
        self._pool = pool
        self._tables = tables
        self._storage = storage
        self._want_sweep = want_sweep

    @classmethod
    async def since_now(
        cls,
        intake: Intake,
        pool: AsyncConnectionPool[Connection],
        tables: Sequence[QualifiedName],
        want_sweep: Callable[[], None],
    ) -> "SilentChanges":
        """Begin; what was before is the business of a sweep that begins later.

        Raises:
            SourceError: the catalog cannot be read.
        """
        return cls(intake, pool, tables, await stored_in(pool, tables), want_sweep)

    async def look(self) -> None:
        """Ask for a sweep if something happened since the last look.

        Raises:
            SourceError: the catalog cannot be read.
        """
        storage = await stored_in(self._pool, self._tables)
        # Rows that were hidden were suspected, and their deletion held: seeing them again takes that back.
        visible_again = await self._intake.look_for_policies()
        if visible_again or storage != self._storage:
            await self._intake.requests.add()
            self._storage = storage
            self._want_sweep()

    async def run(self, every: float) -> None:
        """Look every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every)
            await self.look()

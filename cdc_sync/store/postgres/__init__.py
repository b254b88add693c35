"""The shared store: the schema `cdc_sync` of a PostgreSQL database, for several daemons on several hosts.

Who locks what, in this order, so that there is no deadlock:

1. the row of the watch: one batch or operator command writes for a watch at a time;
2. rows of the outbox, in order of watch and application id;
3. rows of the snapshot, in the same order: only whoever has the application's entry, or its watch, writes to one;
4. rows of endpoints, then of call counts, in order.

A claim holds the key of its daemon's row, so whoever takes the daemon for dead waits for it, and then finds its claims.
Claiming waits for nobody else: it skips what is locked. What a decision is taken from is locked before it is read.
Should PostgreSQL find a deadlock all the same, the whole step is done again.
"""

from collections.abc import Iterable
from typing import Self

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store.postgres.copying import copy_to_sqlite
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.protocol import Upgrading, not_reported
from cdc_sync.store.store import Store

__all__ = ["PostgresStore", "copy_to_sqlite"]


class PostgresStore(Store):
    """A store in the schema `cdc_sync` of a database; see `PostgresDriver`."""

    def __init__(self, driver: PostgresDriver) -> None:
        super().__init__(driver)
        self.driver = driver

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        longest_call: float = 10.0,
        read_only: bool = False,
        tables: Iterable[QualifiedName] = (),
        upgrading: Upgrading = not_reported,
    ) -> Self:
        """Open the store, and bring its schema up to date unless it is only read.

        Args:
            dsn: the database, in whatever form libpq takes.
            longest_call: seconds in which the bytes of a call may leave this host, at most.
            read_only: refuse to write.
            tables: those that are watched in the same database, whose owners' `pg_dump` reads a store made here.
            upgrading: hears that the schema is brought up to date, while that goes on.

        Raises:
            StoreError: it cannot be used; the message says why.
        """
        driver = await PostgresDriver.open(
            dsn, longest_call=longest_call, read_only=read_only, tables=tables, upgrading=upgrading
        )
        return cls(driver)

    async def living(self) -> list[tuple[str, int]]:
        """The daemons that live: host and process id, the oldest first."""
        return await self.driver.transact(lambda t: t.rows("living"))

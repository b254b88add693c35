"""Whether a tenant's table is still the one that its watch was captured from, by the table's oid.

Schemas are renamed, dropped and restored, so a tenant's name may lead to another table. Rows that are missing there
prove nothing:

- It is another tenant's table: two schemas' names were exchanged, say. The watch waits.
- It is unknown: it was restored, or recreated. A sweep compares it, and the deletions that are found until they are
  answered are held for a person. Only then it is the tenant's table: a crash repeats all of it.

A dump that is restored gives tables other oids. A failover to a standby, a restored disk and pg_upgrade keep them
(src/bin/pg_upgrade/pg_upgrade.c: "We control all assignments of pg_class.oid").
"""

from collections.abc import Mapping
from functools import partial

from cdc_sync.core.events import TableReplaced
from cdc_sync.core.reasons import Reason
from cdc_sync.core.watch_names import SEPARATOR, template_of
from cdc_sync.store.capture import FROM_DATABASE

from .connection import Pool
from .errors import reason, source_error
from .facts import TableFacts, oid_of
from .parts import WatchParts

POSITION = "table"
"""The position with the table's oid."""

FORGOTTEN = ""
"""The position after `adopt-database`: the next table is an unknown one."""


class TenantTable:
    """One watch's table; of a watch without a tenant any table is right.

    Attributes:
        is_of_tenant: whether the watch is a tenant's.
        doubt: why deletions are held; None if the table is the tenant's.
        is_compared: whether a sweep has compared every row.
    """

    def __init__(self, parts: WatchParts, facts: TableFacts, pool: Pool) -> None:
        self.doubt: Reason | None = None
        self._parts, self._facts, self._pool = parts, facts, pool
        self.is_of_tenant = SEPARATOR in parts.name
        self.is_compared = False

    async def recognise(self, before: str | None) -> Mapping[str, str]:
        """Compare with the oid of an earlier run; returns the position to write at once.

        Raises:
            SourceError: it is another watch's table.
        """
        parts, facts = self._parts, self._facts
        now = str(facts.oid)
        if before == now or not self.is_of_tenant:
            return {}
        if before is None or not await parts.store.report.known_of(parts.name):
            return {POSITION: now}
        if (other := await self._other_watch()) is not None:
            raise source_error("table-of-another", table=facts.qualified, watch=other)
        self.doubt = reason("table-unknown", table=facts.qualified)
        parts.observe(TableReplaced(parts.name, str(facts.qualified)))
        return {}

    async def _other_watch(self) -> str | None:
        """The watch of the same template that was captured from this table; other templates may share it."""
        parts, template = self._parts, template_of(self._parts.name)
        for watch, of in (await parts.store.report.positions_of_all(POSITION, FROM_DATABASE)).items():
            is_here = of.get(POSITION) == str(self._facts.oid) and of.get(FROM_DATABASE, "") == parts.database.name
            if is_here and watch != parts.name and template_of(watch) == template:
                return watch
        return None

    async def look(self) -> None:
        """After each read: begin again, by `SourceError`, if the table's name leads to another table now."""
        table = self._parts.watch.table
        if await self._pool.ask(f"looking up the table {table}", partial(oid_of, table=table)) != self._facts.oid:
            raise source_error("table-replaced", table=self._facts.qualified)

    async def accepted(self) -> Mapping[str, str]:
        """The position to write once a sweep has compared an unknown table, and its deletions are answered."""
        if self.doubt is None or not self.is_compared:
            return {}
        if await self._parts.store.capture.next_suspicion(self._parts.name) is not None:
            return {}
        self.doubt = None
        return {POSITION: str(self._facts.oid)}

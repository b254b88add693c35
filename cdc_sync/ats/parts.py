"""What a watch works with, beside its database's sessions; and whether a tenant's table is still the same, by its oid.

Schemas are renamed, dropped and restored, so a tenant's name may lead to another table. Rows that are missing there
prove nothing:

- It is another tenant's table: two schemas' names were exchanged, say. The watch waits.
- It is unknown: it was restored, or recreated. A sweep compares it, and the deletions that are found until they are
  answered are held for a person. Only then it is the tenant's table: a crash repeats all of it.

A dump that is restored gives tables other oids. A failover to a standby, a restored disk and pg_upgrade keep them
(src/bin/pg_upgrade/pg_upgrade.c: "We control all assignments of pg_class.oid").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cdc_sync.config import Watch
from cdc_sync.core.batch import NO_CALLS, BesideApply
from cdc_sync.core.events import Emit, TableReplaced
from cdc_sync.core.reasons import Reason
from cdc_sync.core.rows import WatchRules
from cdc_sync.core.watch_names import template_of
from cdc_sync.core.zone import EventDates
from cdc_sync.store import Store
from cdc_sync.store.capture import FROM_DATABASE

from .database import Database
from .errors import reason, source_error
from .facts import TableFacts
from .rows_elsewhere import OtherWatches


class Steps(NamedTuple):
    """How much a watch does at once, and how often, in seconds.

    `give_back_every` and `place_every` are at least so long.

    Attributes:
        adopted: rows of the baseline.
        drained: changes of the log.
        give_back_every: tries to shorten the change log's file: each takes a short lock, which a standby replays.
        polled: rows of a poll.
        look_every: looks at the server's transactions, and moves of a poll's watermark: each takes a transaction id.
        place_every: saves of a poll's watermark: a restart reads again from there.
        compared: rows that a sweep compares: one store statement of some 10 ms, which may delay the capture.
        read: rows that a sweep reads, at most: Python gives little of their memory back.
        searched: record numbers examined for unmet records.
        confirmed: suspected deletions.
    """

    adopted: int = 500
    drained: int = 1_000
    give_back_every: float = 60.0
    polled: int = 500
    look_every: float = 15.0
    place_every: float = 300.0
    compared: int = 5_000
    read: int = 500
    searched: int = 20_000
    confirmed: int = 200


@dataclass(frozen=True, slots=True)
class WatchParts:
    """What a watch works with, beside its database's sessions.

    Attributes:
        rules: the core's form of the watch's configuration.
        clock: this daemon's, in milliseconds since the epoch.
        beside_apply: the sender.
        event_dates: how those of the last changed rows fit.
    """

    name: str
    watch: Watch
    rules: WatchRules
    database: Database
    others: OtherWatches
    observe: Emit
    clock: Callable[[], int]
    beside_apply: BesideApply = NO_CALLS
    event_dates: EventDates = field(default_factory=EventDates)
    want_sweep: Callable[[], None] = lambda: None
    dry_run: bool = False
    steps: Steps = field(default_factory=Steps)

    @property
    def store(self) -> Store:
        """The database's store."""
        return self.database.store


TABLE = "table"
"""The position with the table's oid."""

FORGOTTEN = ""
"""The position after `adopt-database`: the next table is an unknown one."""


class WatchedTable:
    """One watch's table, and whether it is the one from before.

    Attributes:
        doubt: why deletions are held; None if the table is known.
        is_compared: whether a sweep has compared every row.
    """

    def __init__(self, parts: WatchParts, facts: TableFacts) -> None:
        self.doubt: Reason | None = None
        self._parts, self._facts = parts, facts
        self.is_compared = False

    async def recognise(self, before: str | None) -> Mapping[str, str]:
        """Compare with the oid of an earlier run; returns the position to write at once.

        Raises:
            SourceError: it is another watch's table.
        """
        parts, facts = self._parts, self._facts
        now = str(facts.oid)
        if before == now:
            return {}
        if before is None or not await parts.store.report.known_of(parts.name):
            return {TABLE: now}
        if (other := await self._other_watch()) is not None:
            raise source_error("table-of-another", table=facts.qualified, watch=other)
        self.doubt = reason("table-unknown", table=facts.qualified)
        parts.observe(TableReplaced(parts.name, str(facts.qualified)))
        return {}

    async def _other_watch(self) -> str | None:
        """The watch of the same template that was captured from this table; other templates may share it."""
        parts, template = self._parts, template_of(self._parts.name)
        for watch, of in (await parts.store.report.positions_of_all(TABLE, FROM_DATABASE)).items():
            is_here = of.get(TABLE) == str(self._facts.oid) and of.get(FROM_DATABASE, "") == parts.database.name
            if is_here and watch != parts.name and template_of(watch) == template:
                return watch
        return None

    async def accepted(self) -> Mapping[str, str]:
        """The position to write once a sweep has compared an unknown table, and its deletions are answered."""
        if self.doubt is None or not self.is_compared:
            return {}
        if await self._parts.store.capture.next_suspicion(self._parts.name) is not None:
            return {}
        self.doubt = None
        return {TABLE: str(self._facts.oid)}

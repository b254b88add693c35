"""Reading by watermark: pages over (watermark column, key), and the watermark's arithmetic in the column's own type.

The database computes and compares every watermark, so neither its precision nor its time zone is ever translated. A
watermark is kept as the text that `to_json` gives: ISO 8601 in full precision, whatever DateStyle is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.fence import SnapshotReading
from cdc_sync.core.rows import Key, Row
from cdc_sync.source import expressions
from cdc_sync.source.connection import Connection, guarded_fetch
from cdc_sync.source.errors import source_error, unless_a_row_fails
from cdc_sync.source.mapping import Mapping
from cdc_sync.source.reading import PageSize, Reader, fetch
from cdc_sync.source.replica_guard import ReplicaGuard
from cdc_sync.source.statements import CLOCK, Statements, bounded, walk
from cdc_sync.source.unreadable import columns_of

_LARGEST_BACKWARD_JUMP = timedelta(hours=3)
"""No time zone sets its clocks back by more when summer time ends."""

_SQL = expressions.sections("reading.sql")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next page of a poll begins: behind this watermark and key."""

    watermark: str
    key: Key


@dataclass(frozen=True, slots=True)
class PollPage:
    """Rows, the database's clock (milliseconds since the epoch), and where the next page begins; None: nowhere.

    `dates` are the rows' watermarks as the rows write dates, none if a row could not be read.
    """

    rows: list[Row]
    at: int
    next: Place | None
    dates: Sequence[str] = ()


class WatermarkReader:
    """Polls one watch's table; `guard` knows how far any of the servers was that were read.

    Every method raises `SourceError` when the database cannot answer.

    Attributes:
        resolution: milliseconds that a watermark stands for.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        mapping: Mapping,
        watermark: str,
        lookback: timedelta,
        guard: ReplicaGuard | None = None,
    ) -> None:
        self._pool = pool
        self._guard = guard or ReplicaGuard()
        self._mapping = mapping
        self._lookback = lookback
        self._type = watermark_type(mapping, watermark)
        mark = expressions.column(watermark)
        date = mapping.instant(mark, self._type)
        # A date may be any time of its day.
        self.resolution = 24 * 60 * 60 * 1000 if self._type == "date" else 0

        def marked(items: sql.Composable) -> tuple[sql.Composed, sql.Composed]:
            select = sql.SQL("SELECT {}, {}, to_json({}) #>> '{{}}', {} FROM {}").format(
                items, date, mark, CLOCK, mapping.table
            )
            return walk(mapping, select, mark, self._type)

        self._first, self._next = marked(mapping.select)
        # Where an expression fails on a row of a page: its keys, whose rows are then read apart.
        self._first_keys, self._next_keys = marked(sql.SQL(", ").join(mapping.key_texts))
        self._size = PageSize()
        self._by_key = Reader(pool, mapping, self._guard).by_key
        self._dates = sql.SQL("SELECT {}, {}, {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(mapping.key_texts), date, CLOCK, mapping.table, Statements(mapping).key_is_given
        )

    async def look(self) -> SnapshotReading:
        """One look at the server's transactions. On a primary it takes a transaction id: not to be done too often."""
        doing = "looking at the server's transactions"
        found = await guarded_fetch(self._pool, self._guard, sql.SQL(_SQL["look"]), (), width=3, doing=doing)
        ((instant, xmin, xmax),) = found
        return SnapshotReading(instant, xmin, xmax)

    async def watermark_at(self, fence: int) -> str:
        """The watermark that a fence (microseconds since the epoch) allows: `lookback` before it.

        It is a whole second: a column, or an application, may have no fractions and so write a time that is a little
        past. In a time zone that sets its clocks back within the next hours, local times will repeat. The watermark
        then stays behind the first of them already now, since a poll may be the last one for hours.
        """
        instant: sql.SQL | sql.Composed = sql.SQL(_SQL["watermark"])
        if self._type != "timestamptz":
            zone = sql.Literal(self._mapping.watch.timezone)
            instant = sql.SQL(_SQL["local_watermark"]).format(instant, zone)
        query = sql.SQL("SELECT to_json({}::{}) #>> '{{}}'").format(instant, sql.SQL(self._type))
        parameters = {"fence": fence, "lookback": self._lookback, "jump": _LARGEST_BACKWARD_JUMP}
        ((watermark,),) = await fetch(self._pool, query, parameters, "computing the watermark")
        return str(watermark)

    async def page(self, start: str | Place, size: int) -> PollPage:
        """The next `size` rows, or fewer that are large: at or behind a watermark, or behind a place."""
        size = min(size, self._size.fit)
        if isinstance(start, Place):
            query, keys_query, parameters = self._next, self._next_keys, [start.watermark, *start.key, size]
        else:
            query, keys_query, parameters = self._first, self._first_keys, [start, size]
        rows: list[Row] | None = None
        is_cut, width = False, self._mapping.width + 3
        fetched = await unless_a_row_fails(self._fetch(bounded(query, width), parameters, width + 1))
        if fetched is not None:
            is_cut = self._size.taken(fetched, width)
            fetched = [row[:-1] for row in fetched]
        else:
            fetched = await self._fetch(keys_query, parameters, len(self._mapping.key_texts) + 3)
            rows = (await self._by_key([self._mapping.key(columns) for columns in fetched])).rows if fetched else []
        if not fetched:
            return PollPage([], 0, None)
        dates = [columns[-3] for columns in fetched] if rows is None else ()
        rows = [self._mapping.row(columns) for columns in fetched] if rows is None else rows
        next_ = Place(fetched[-1][-2], self._mapping.key(fetched[-1])) if is_cut or len(fetched) == size else None
        return PollPage(rows, fetched[0][-1], next_, dates)

    async def dates(self, keys: Sequence[Key]) -> list[tuple[Key, str | None, int]]:
        """The watermarks of the rows of these keys, as rows write dates, each with its key and the database's clock."""
        fetched = await self._fetch(self._dates, columns_of(keys), len(self._mapping.key_texts) + 2)
        return [(self._mapping.key(columns), columns[-2], columns[-1]) for columns in fetched]

    async def _fetch(self, query: sql.Composed, parameters: Sequence[Any], width: int) -> list[tuple[Any, ...]]:
        doing = f"polling {self._mapping.watch.table}"
        return await guarded_fetch(self._pool, self._guard, query, parameters, width=width, doing=doing)


def watermark_type(mapping: Mapping, watermark: str) -> str:
    """The watermark's type as a cast; only instants have an order that the fence can be compared with.

    Raises:
        SourceError: there is no such column, or it is of another type.
    """
    columns = mapping.facts.columns
    found = columns.get(watermark)
    where = f"{mapping.facts.schema}.{mapping.facts.name}"
    if found is None:
        raise source_error("watermark-missing", column=watermark, table=where, columns=", ".join(columns))
    if found.startswith("timestamp") and found.endswith("with time zone"):
        return "timestamptz"
    if found.startswith("timestamp"):
        return "timestamp"
    if found == "date":
        return "date"
    raise source_error("watermark-type", column=watermark, table=where, type=found)

"""Reading by watermark: pages over (watermark column, key), and the watermark's arithmetic in the column's own type.

The database computes and compares every watermark, so neither its precision nor its time zone is ever translated. A
watermark is kept as the text that `to_json` gives: ISO 8601 in full precision, whatever DateStyle is.
"""

import re
from collections.abc import Sequence
from datetime import timedelta

from psycopg import sql

from cdc_sync.core.rows import Key
from cdc_sync.core.watermark import SnapshotReading
from cdc_sync.source import expressions
from cdc_sync.source.connection import with_position
from cdc_sync.source.errors import source_error, unless_a_row_fails
from cdc_sync.source.mapping import Mapping
from cdc_sync.source.reading import Page, Reader
from cdc_sync.source.statements import CLOCK, bounded, walk
from cdc_sync.source.unreadable import columns_of

_LARGEST_BACKWARD_JUMP = timedelta(hours=3)
"""No time zone sets its clocks back by more when summer time ends."""

_SQL = expressions.sections("reading.sql")

_LOOK = with_position(sql.SQL(_SQL["look"]), 3)


_INSTANTS = {
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "date": "date",
}
"""Types of a watermark as the catalog writes them, each as a cast."""


class WatermarkReader:
    """Polls one watch's table.

    Every method raises `SourceError` when the database cannot answer.

    Attributes:
        resolution: milliseconds that a watermark stands for.
    """

    def __init__(self, reader: Reader, watermark: str, lookback: timedelta) -> None:
        self._reader = reader
        self._mapping = mapping = reader.mapping
        self._lookback = lookback
        self._type = watermark_type(mapping, watermark)
        mark = expressions.column(watermark)
        date = mapping.instant(mark, self._type)
        # A date may be any time of its day.
        self.resolution = 24 * 60 * 60 * 1000 if self._type == "date" else 0
        select, ends = reader.statements.select, (date, sql.SQL("to_json({}) #>> '{{}}'").format(mark), CLOCK)
        keys, width = mapping.key_texts, len(mapping.key_texts)
        pages = walk(mapping, select(mapping.select, *ends), mark, self._type)
        self._pages = [bounded(page, mapping.width + 3) for page in pages]
        # Where an expression fails on a row of a page: its keys, whose rows are then read apart.
        self._keys = [with_position(page, width + 3) for page in walk(mapping, select(*keys, *ends), mark, self._type)]
        dates = sql.SQL("{} WHERE {}").format(select(*keys, date, CLOCK), reader.statements.key_is_given)
        self._dates = with_position(dates, width + 2)

    async def look(self) -> SnapshotReading:
        """One look at the server's transactions. On a primary it takes a transaction id: not to be done too often."""
        ((instant, xmin, xmax, _),) = await self._reader.fetch(_LOOK, ())
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
        ((watermark,),) = await self._reader.pool.fetch(query, parameters, "computing the watermark")
        return str(watermark)

    async def page(self, place: Key, size: int) -> Page:
        """The next `size` rows, or fewer that are large: at or behind a watermark, or behind a watermark and key."""
        reader, behind = self._reader, len(place) > 1
        size = min(size, reader.fit)
        found = await unless_a_row_fails(reader.fetch(self._pages[behind], [*place, size]))
        if found is not None:
            width, is_cut = self._mapping.width, reader.are_large(found, self._mapping.width + 3)
            rows, dates = list(map(self._mapping.row, found)), [columns[width] for columns in found]
        else:
            found = await reader.fetch(self._keys[behind], [*place, size])
            width, is_cut = len(self._mapping.key_columns), False
            rows, dates = (await reader.by_key(list(map(self._mapping.key, found)))).rows, []
        if not found:
            return Page([], 0, None)
        _, mark, at, *_ = found[-1][width:]
        last = (mark, *self._mapping.key(found[-1])) if is_cut or len(found) == size else None
        return Page(rows, at, last, dates)

    async def dates(self, keys: Sequence[Key]) -> list[tuple[Key, str | None, int]]:
        """The watermarks of the rows of these keys, as rows write dates, each with its key and the database's clock."""
        found = await self._reader.fetch(self._dates, columns_of(keys))
        return [(self._mapping.key(columns), *columns[len(self._mapping.key_columns) : -1]) for columns in found]


def watermark_type(mapping: Mapping, watermark: str) -> str:
    """The watermark's type as a cast; only instants have an order that the fence can be compared with.

    Raises:
        SourceError: there is no such column, or it is of another type.
    """
    columns, where = mapping.facts.columns, f"{mapping.facts.schema}.{mapping.facts.name}"
    found = columns.get(watermark)
    if found is None:
        raise source_error("watermark-missing", column=watermark, table=where, columns=", ".join(columns))
    type_ = _INSTANTS.get(re.sub(r"\(\d\)", "", found))
    if type_ is None:
        raise source_error("watermark-type", column=watermark, table=where, type=found)
    return type_

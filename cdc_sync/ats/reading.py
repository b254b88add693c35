"""Reading rows: by key, by application, and in pages.

A read that proves that a row is gone is `confirming`: it includes what may have hidden the row. Polls read pages over
(watermark column, key), with watermarks of the column's own type.
"""

import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from psycopg import sql

from cdc_sync.ats import expressions, row_security
from cdc_sync.ats.connection import (
    AT_ONCE,
    OWN_PATH,
    PINNED_PATH,
    Connection,
    Pool,
    Rows,
    Turn,
    rows_of,
    rows_on_own_path,
    with_position,
)
from cdc_sync.ats.errors import SourceError, is_of_a_row, source_error, unless_a_row_fails
from cdc_sync.ats.expressions import composed
from cdc_sync.ats.facts import table_facts
from cdc_sync.ats.mapping import Mapping, columns_of
from cdc_sync.ats.row_security import Hiding
from cdc_sync.ats.statements import CLOCK, LARGEST, TEXT, Statements, bounded, walk
from cdc_sync.ats.unreadable import UnreadableRows, convertible
from cdc_sync.config import Watch
from cdc_sync.core.rows import Key, Row
from cdc_sync.core.watermark import SnapshotReading

_AT_FIRST = 200
"""Rows in memory at once, if the server does not bound them, until their size is known."""

_WALKED = 2_000
"""Rows at once of a walk for unreadable ones."""

_UNKNOWN = sys.maxsize

_LARGEST_BACKWARD_JUMP = timedelta(hours=3)
"""No time zone sets its clocks back by more when summer time ends."""

_SQL = expressions.sections("reading.sql")

_LOOK = with_position(sql.SQL(_SQL["look"]), 3)

_INSTANTS = {
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "date": "date",
}
"""A watermark's types as the catalog writes them, each as a cast."""


_PLANNED_EVERY = 60.0
"""Seconds for which the plan of a prepared statement is kept: one for a small table reads all of it."""

_QUICK = 1.0
"""Seconds for which a quick read may hold a connection."""

_IDLE = 10.0
"""Seconds after which the server ends a confirming read whose daemon is stopped or gone."""


@dataclass(frozen=True, slots=True)
class Read:
    """Rows, and the database's clock at the read (milliseconds since the epoch).

    Attributes:
        hidden_by: the policies that may have hidden rows from a confirming read.
        unread: keys without an answer, since the rows before them were large.
    """

    rows: list[Row]
    at: int
    hidden_by: frozenset[Hiding] = field(default=frozenset(), kw_only=True)
    unread: frozenset[Key] = field(default=frozenset(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Page(Read):
    """A page of a walk; `last` is where the next one begins, None if this was the last."""

    last: Key | None


@dataclass(frozen=True, slots=True)
class Digests:
    """A page of digests (`ats.mapping`): the text, how many rows, the clock, and where the next one begins."""

    text: str
    rows: int
    at: int
    last: Key | None


class Reader:
    """Reads one watch's table through its mapping.

    A row on which an expression fails is returned as `unreadable`. Rows have digests if a `shape` is given.

    Attributes:
        fit: how many rows fit into a page, as far as is known.
        shape: what a walk reads, in which order.

    Raises:
        SourceError: by each method, if the database does not answer: a failed read is never an empty answer.
    """

    def __init__(self, pool: Pool, mapping: Mapping, *, idle: float = _IDLE) -> None:
        self.pool = pool
        self.mapping = mapping
        self.statements = Statements(mapping)
        self.fit = _UNKNOWN
        self.shape = self.statements.shape
        self._doing = f"reading {mapping.watch.table}"
        self._idle = idle
        # Whether the last read was.
        self._is_slow = False
        self.unreadable = UnreadableRows(pool, mapping, self.statements, self.fetch)

    def at_once(self, wanted: int) -> int:
        """How many rows to have in memory at once, at most."""
        return min(wanted, _AT_FIRST if self.fit == _UNKNOWN else self.fit)

    async def hidden_by(self) -> frozenset[Hiding]:
        """The policies that may hide rows of the table now; reads no row."""
        read, _ = await self._confirmed(self.statements.pages[0], [None, 0])
        return read.hidden_by

    def interpreted(self, fetched: Rows, hidden_by: frozenset[Hiding] = frozenset()) -> tuple[Read, bool]:
        """The rows of a statement, and whether their size ended it."""
        width = self.mapping.width
        rows = [self.mapping.row(columns, columns[width]) for columns in fetched]
        at = int(fetched[0][width + 1]) if fetched else 0
        return Read(rows, at, hidden_by=hidden_by), self.are_large(fetched, width + 2)

    def are_large(self, fetched: Rows, size_at: int) -> bool:
        """Whether rows, with their size in a column, are too large together; updates `fit`."""
        if not fetched or fetched[0][size_at] is None:  # unbounded
            return False
        size = int(max(row[size_at] for row in fetched))
        # One more fits, so that a page of such rows is ended by its size.
        self.fit = LARGEST * len(fetched) // max(size, 1) + 1
        return size >= LARGEST

    async def by_key(self, keys: Collection[Key], *, confirming: bool = False, shape: str | None = None) -> Read:
        """The rows of these keys; a key that the columns cannot hold has none."""
        return _whole([part async for part, _ in self.parts_by_key(keys, confirming=confirming, shape=shape)])

    async def parts_by_key(
        self, keys: Collection[Key], *, confirming: bool = False, shape: str | None = None
    ) -> AsyncIterator[tuple[Read, list[Key]]]:
        """As `by_key`, in parts of bounded size, each with the keys that it answers."""

        async def read(some: Sequence[Key]) -> Read:
            query, parameters = self.statements.by_key, [shape, *columns_of(some)]
            if confirming:
                found, is_cut = await self._confirmed(query, parameters)
            else:
                # To parse and to plan it takes five times as long as to run it.
                query = f"{query} -- {time.monotonic() // _PLANNED_EVERY}"
                found, is_cut = self.interpreted(await self.fetch(query, parameters, prepare=True))
            if not is_cut:
                return found
            # Asking for all of them again would never end.
            unread = frozenset(some) - {row.key for row in found.rows}
            return replace(found, unread=unread if len(unread) < len(some) else frozenset())

        met, fitting = self.unreadable.met, _fitting(self.mapping, keys)
        alone = [key for key in fitting if key in met]
        left = [key for key in fitting if key not in met]
        while left:
            given, left = left[: self.fit], left[self.fit :]
            try:
                found = await read(given)
            except SourceError as error:
                if not is_of_a_row(error):
                    raise
                alone += given
                continue
            yield found, [key for key in given if key not in found.unread]
            left = [*found.unread, *left]
        for key in alone:
            yield await self._alone(key, read([key]), confirming=confirming), [key]
        if others := [key for key in keys if len(key) != len(self.mapping.key_columns)]:
            yield Read([], 0), others

    async def _alone(self, key: Key, reading: Awaitable[Read], *, confirming: bool) -> Read:
        """A row that is read alone, whether it can be read or not."""
        try:
            found = await reading
        except SourceError as error:
            if not is_of_a_row(error):
                raise
            examined = await self.unreadable.examine(key, error)
        else:
            self.unreadable.met.pop(key, None)
            return found
        hidden_by = await self.hidden_by() if confirming else frozenset[Hiding]()
        if examined is None:
            return Read([], 0, hidden_by=hidden_by)
        row, at = examined
        return Read([row], at, hidden_by=hidden_by)

    async def as_read(self, keys: Collection[Key]) -> dict[Key, Key]:
        """The keys with another text here than other sessions wrote (by TimeZone, bytea_output), and that text."""
        query = self.statements.as_read
        if query is None or not keys:
            return {}
        given, parts = _fitting(self.mapping, keys), len(self.mapping.key_columns)
        found = await unless_a_row_fails(self.pool.fetch(query, columns_of(given), self._doing))
        if found is None:
            given = await convertible(self.pool, given, self.mapping.key_types)
            found = await self.pool.fetch(query, columns_of(given), self._doing) if given else []
        return {tuple(row[:parts]): tuple(row[parts:]) for row in found if row[:parts] != row[parts:]}

    async def by_application(self, application_ids: Collection[str]) -> Read:
        """All rows that carry one of these ids, each id's in key order; confirming.

        Ids not in the column are looked for in status URLs, maybe with similar ones.
        """
        by_id, by_url, found = self.statements.id_is_given, self.statements.url_is_given, Read([], 0)
        if by_id is not None:
            found = await self._where(by_id, [(id_,) for id_ in application_ids], self.statements.id_type)
        missing = set(application_ids) - {row.application_id for row in found.rows}
        if by_url is not None and missing:
            spellings = {(spelling,) for id_ in missing for spelling in expressions.spellings_in_url(id_)}
            found = _whole([found, await self._where(by_url, sorted(spellings), TEXT)])
        return found

    async def _where(self, condition: sql.Composable, values: Sequence[Key], type_: sql.Composable) -> Read:
        """The rows for which a condition holds, and others if a statement fails on a row; confirming."""
        query = self.statements.where(condition)
        found = await unless_a_row_fails(self._confirmed(query, [None, *columns_of(values)]))
        if found is not None:
            return found[0]
        possible = await convertible(self.pool, values, [type_])
        keys = await self._keys_where(condition, possible) if possible else []
        read = await self.by_key(keys, confirming=True)
        return replace(read, hidden_by=read.hidden_by | await self.hidden_by())

    async def _keys_where(self, condition: sql.Composable, values: Sequence[Key]) -> list[Key]:
        """The keys of the rows for which a condition holds, or on which it may fail."""
        found = await unless_a_row_fails(self.unreadable.keys_where(condition, values))
        if found is not None:
            return found
        # Through the whole table, for its unreadable rows.
        page = await self.page(None, _WALKED)
        while page.last is not None:
            page = await self.page(page.last, _WALKED)
        return await self.unreadable.keys_where(condition, values)

    async def page(self, after: Key | None, size: int, shape: str | None = None) -> Page:
        """The next `size` rows in key order, or fewer large ones, without NULL keys."""
        size, behind = min(size, self.fit), after is not None
        parameters = [shape, *(after or ()), size]
        try:
            fetched = await self._read(self.statements.pages[behind], parameters, self.pool.turns)
            read, is_cut = self.interpreted(fetched)
        except SourceError as error:
            size = min(size, _AT_FIRST)
            found = await self.without_expressions(error, self.statements.keys[behind], [*(after or ()), size])
            keys = list(map(self.mapping.key, found))
            read = await self.by_key(keys, shape=shape)
            # Without rows they were deleted meanwhile.
            at = read.at or found[0][len(keys[0])]
            return Page(read.rows, at, keys[-1] if len(keys) == size else None)
        return Page(read.rows, read.at, read.rows[-1].key if is_cut or len(read.rows) == size else None)

    async def without_expressions(self, error: SourceError, query: str, parameters: Sequence[Any]) -> Rows:
        """A page's keys, after an error that may be a row's; without rows it is none's."""
        found = await self.fetch(query, parameters) if is_of_a_row(error) else []
        if not found:
            raise error
        return found

    async def digests(self, after: Key | None, size: int, shape: str) -> Digests | None:
        """The same rows' digests; None if an expression fails, so that they must be read."""
        places = [size] * len(self.mapping.key_columns)
        query, parameters = self.statements.digests[after is not None], [*places, shape, *(after or ()), size]
        found = await unless_a_row_fails(self._read(query, parameters, self.pool.turns))
        if found is None:
            return None
        ((text, rows, at, *last, _),) = found
        return Digests(text or "[]", rows, at, tuple(last) if rows == size else None)

    async def fetch(self, query: str, parameters: Sequence[Any], *, prepare: bool = False) -> Rows:
        """The rows of a statement `with_position`, maybe with expressions of the configuration.

        After a slow one it waits for its turn.
        """
        turn = self.pool.turns if self._is_slow else AT_ONCE
        return await self._read(query, parameters, turn, prepare=prepare)

    async def _read(self, query: str, parameters: Sequence[Any], turn: Turn, *, prepare: bool = False) -> Rows:
        asked = rows_of if self.mapping.is_plain else rows_on_own_path

        async def timed(connection: Connection) -> Rows:
            begun = time.monotonic()
            try:
                return await asked(connection, query, parameters, prepare=prepare)
            finally:
                self._is_slow = time.monotonic() - begun > _QUICK

        return await self.pool.read(self._doing, timed, turn)

    async def _confirmed(self, query: str, parameters: Sequence[Any]) -> tuple[Read, bool]:
        """A statement's rows, and whether their size ended it; confirming."""
        return self.interpreted(*await confirmed(self.pool, self._doing, query, parameters, idle=self._idle))


async def confirmed(
    pool: Pool, doing: str, query: str, parameters: Sequence[Any], *, idle: float = _IDLE
) -> tuple[Rows, frozenset[Hiding]]:
    """The rows of a statement `with_position`, and the policies that may have hidden others.

    Without an index of ids it reads the whole table, so it waits for its turn.
    """
    hidden_by = frozenset[Hiding]()

    async def read(connection: Connection) -> Rows:
        nonlocal hidden_by
        # The pool commits, or rolls back after an exception. Not in a pipeline, as `on_own_path` is: PostgreSQL 10 was
        # seen not to end the idle transaction then.
        await connection.execute(composed(_SQL["begin_confirming"], idle=round(idle * 1000)))
        await connection.execute(OWN_PATH)
        found = await rows_of(connection, query, parameters)
        await connection.execute(PINNED_PATH)
        hidden_by = frozenset(await row_security.hiding(connection))
        return found

    return await pool.read(doing, read, pool.turns), hidden_by


async def prepared(pool: Pool, watch: Watch) -> Mapping:
    """Fit a watch to its table; raises `SourceError` if anything does not fit."""

    async def prepare(connection: Connection) -> Mapping:
        return await Mapping.prepare(connection, watch, await table_facts(connection, watch.table))

    return await pool.ask(f"preparing to read {watch.table}", prepare)


def _fitting(mapping: Mapping, keys: Iterable[Key]) -> list[Key]:
    """The keys with the present columns: those from before an edit of `key` may have others, which no row has."""
    return [key for key in keys if len(key) == len(mapping.key_columns)]


def _whole(parts: Sequence[Read]) -> Read:
    """Parts as one answer; what one leaves unread is in another."""
    return Read(
        [row for part in parts for row in part.rows],
        max((part.at for part in parts), default=0),
        hidden_by=frozenset[Hiding]().union(*(part.hidden_by for part in parts)),
    )


class WatermarkReader:
    """Polls one watch's table. Methods raise as those of `Reader`.

    Attributes:
        kind: what a watermark depends on beside the fence.
    """

    def __init__(self, reader: Reader, watermark: str, lookback: timedelta) -> None:
        self._reader = reader
        self._mapping = mapping = reader.mapping
        self._lookback = lookback
        self._type = watermark_type(mapping, watermark)
        mark = expressions.column(watermark)
        self.kind = (self._type, mapping.watch.timezone, lookback)
        select, ends = reader.statements.select, (expressions.key_text(mark), CLOCK)
        keys, width = mapping.key_texts, len(mapping.key_texts)
        pages = walk(mapping, select(mapping.select, *ends), mark, self._type)
        self._pages = [bounded(page, mapping.width + 2) for page in pages]
        # If a row fails, its page's rows are read by key.
        self._keys = [with_position(page, width + 2) for page in walk(mapping, select(*keys, *ends), mark, self._type)]

    async def look(self) -> SnapshotReading:
        """Read the server's transactions; seldom, since on a primary it takes a transaction id."""
        pool = self._reader.pool
        ((instant, xmin, xmax, _),) = await pool.read("reading the server's snapshot", partial(rows_of, query=_LOOK))
        return SnapshotReading(instant, xmin, xmax)

    async def watermark_at(self, fence: int) -> str:
        """The watermark that a fence (microseconds since the epoch) allows: `lookback` before it, a whole second.

        Before clocks are set back, it stays behind the first local time that will repeat.
        """
        instant: sql.SQL | sql.Composed = sql.SQL(_SQL["watermark"])
        if self._type != "timestamptz":
            zone = sql.Literal(self._mapping.watch.timezone)
            instant = composed(_SQL["local_watermark"], instant, zone)
        query = composed("SELECT to_json({}::{}) #>> '{{}}'", instant, sql.SQL(self._type))
        parameters = {"fence": fence, "lookback": self._lookback, "jump": _LARGEST_BACKWARD_JUMP}
        ((watermark,),) = await self._reader.pool.fetch(query, parameters, "computing the watermark")
        return str(watermark)

    async def page(self, place: Key, size: int) -> Page:
        """The next `size` rows, or fewer large ones, from a watermark on, or behind a watermark and key."""
        reader, behind = self._reader, len(place) > 1
        size = min(size, reader.fit)
        try:
            found = await reader.fetch(self._pages[behind], [*place, size])
        except SourceError as error:
            size = min(size, _AT_FIRST)
            found = await reader.without_expressions(error, self._keys[behind], [*place, size])
            width, is_cut = len(self._mapping.key_columns), False
            rows = (await reader.by_key(list(map(self._mapping.key, found)))).rows
        else:
            width, is_cut = self._mapping.width, reader.are_large(found, self._mapping.width + 2)
            rows = list(map(self._mapping.row, found))
        if not found:
            return Page([], 0, None)
        mark, at, *_ = found[-1][width:]
        last = (mark, *self._mapping.key(found[-1])) if is_cut or len(found) == size else None
        return Page(rows, at, last)


def watermark_type(mapping: Mapping, watermark: str) -> str:
    """The watermark's type as a cast; raises `SourceError` if that is no instant."""
    columns, where = mapping.facts.columns, f"{mapping.facts.schema}.{mapping.facts.name}"
    found = columns.get(watermark)
    if found is None:
        raise source_error("watermark-missing", column=watermark, table=where, columns=", ".join(columns))
    type_ = _INSTANTS.get(re.sub(r"\(\d\)", "", found))
    if type_ is None:
        raise source_error("watermark-type", column=watermark, table=where, type=found)
    return type_

"""Reading rows: by key, by application, and in pages. Each statement is a short transaction of its own.

A read that is to prove that a row is gone is `doubting`: what may have hidden the row is part of its answer.
"""

import sys
import time
from collections import abc
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.rows import Key, Row
from cdc_sync.source import expressions, row_security
from cdc_sync.source.connection import Connection, asking, guarded, guarded_fetch, patiently, read_with_position
from cdc_sync.source.errors import unless_a_row_fails
from cdc_sync.source.mapping import Mapping
from cdc_sync.source.replica_guard import ReplicaGuard
from cdc_sync.source.row_security import Hiding
from cdc_sync.source.statements import LARGEST, Statements, bounded
from cdc_sync.source.unreadable import ReadKeys, UnreadableRows, columns_of, convertible

_AT_FIRST = 200
"""Rows to have in memory at once where the server does not bound them, until it is known how large they are."""

_UNKNOWN = sys.maxsize


@dataclass(frozen=True, slots=True)
class Read:
    """Rows, and the database's clock when they were read (milliseconds since the epoch).

    `hidden_by` is whose policies may have hidden rows from it, where the reader looked for that. `unread` are keys that
    were asked for and are not answered, since the rows before them were large.
    """

    rows: list[Row]
    at: int
    hidden_by: frozenset[Hiding] = field(default=frozenset(), kw_only=True)
    unread: frozenset[Key] = field(default=frozenset(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Page(Read):
    """A page of a walk in key order; `last` is where the next one begins, None when this was the last."""

    last: Key | None


@dataclass(frozen=True, slots=True)
class Digests:
    """A page of a walk in key order as digests: see `source.mapping`.

    Attributes:
        text: one JSON text, whose elements stand for the rows.
        rows: how many there are.
        at: the database's clock when they were read, in milliseconds since the epoch.
        last: as of a `Page`.
    """

    text: str
    rows: int
    at: int
    last: Key | None


class PageSize:
    """How many rows of a table fit into a page.

    Attributes:
        fit: so many, as far as is known.
    """

    def __init__(self) -> None:
        self.fit = _UNKNOWN

    def unbounded(self, wanted: int) -> int:
        """How many rows to ask for where no query bounds them, and so many are wanted at most."""
        return min(wanted, _AT_FIRST if self.fit == _UNKNOWN else self.fit)

    def taken(self, fetched: Sequence[Sequence[Any]], width: int) -> bool:
        """Learn from what a `bounded` query of so many columns gave; tells whether its rows are too large together."""
        if not fetched:
            return False
        size = int(max(row[width] for row in fetched))
        # One more fits, so that a page of such rows is ended by its size.
        self.fit = LARGEST * len(fetched) // max(size, 1) + 1
        return size >= LARGEST


class Reader:
    """Reads one watch's table through its mapping.

    Every method raises `SourceError` when the database cannot answer: a read that fails is never an empty answer. A
    row on which an expression of the configuration fails comes as one that is `unreadable`.

    Rows come with their digests where a `shape` is given. `guard` knows how far any of the servers was that were read.

    Args:
        pool: its connections.
        mapping: the watch's.
        guard: see above.
        clock: seconds that do not go back.
        idle: seconds for which the two statements of a doubting read may be apart: `begin_doubting` in `reading.sql`.

    Attributes:
        guard: see above.
        size: how many rows fit into a page.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        mapping: Mapping,
        guard: ReplicaGuard | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        idle: float = 10.0,
    ) -> None:
        self._begin_doubting = sql.SQL(expressions.sections("reading.sql")["begin_doubting"]).format(
            idle=sql.Literal(round(idle * 1000))
        )
        self.guard = guard or ReplicaGuard()
        self._pool = pool
        self._mapping = mapping
        self._statements = Statements(mapping)
        self.size = PageSize()
        self._doing = f"reading {mapping.watch.table}"
        self._unreadable = UnreadableRows(mapping, self._statements, self._fetch, clock)

    @property
    def estimate(self) -> int:
        """About how many rows the table has (the planner's figure at connection time; 0 if unknown)."""
        return self._mapping.facts.estimate

    @property
    def key_parts(self) -> int:
        """How many columns the key has."""
        return len(self._mapping.key_columns)

    @property
    def shape(self) -> str:
        """What a walk reads and in which order, as text: the same as long as table, mapping, key and types are."""
        return self._statements.next_page.as_string()

    def at_once(self, wanted: int) -> int:
        """How many of the table's rows to have in memory at once, where so many are wanted at most."""
        return self.size.unbounded(wanted)

    def expect_unreadable(self, skips: abc.Mapping[Key, str]) -> None:
        """Take up which rows an earlier run could not report, and why."""
        self._unreadable.expect(skips)

    async def hidden_by(self) -> frozenset[Hiding]:
        """Whose policies may hide rows of the table now; reads none."""
        read, _ = await self._read(self._statements.first_page, [0], doubting=True)
        return read.hidden_by

    @property
    def table(self) -> sql.Literal:
        """The table's name, as a text that PostgreSQL takes for it."""
        facts = self._mapping.facts
        return sql.Literal(expressions.name(facts.schema, facts.name).as_string())

    def beside(self, lists: Sequence[sql.Composable]) -> tuple[sql.Composed, int] | None:
        """A query of the rows of some keys, as a part of a statement that has the keys; and how many columns it has.

        None if such keys have to be looked at first (see `as_read`), or the rows are those of other tables: to find few
        in a partitioned table, PostgreSQL has to know the keys when it plans, or it looks into all partitions.

        Args:
            lists: the keys as SQL, an array of text for each part of the key.
        """
        if self._statements.as_read is not None or self._mapping.facts.kind not in {"r", "m"}:
            return None
        width = self._mapping.width + 1
        return bounded(self._statements.by_key_in(lists), width), width + 1

    def taken(self, fetched: Sequence[tuple[Any, ...]]) -> Read | None:
        """What `beside` gave, which may have further columns; None if it was ended, so that rows are missing."""
        width = self._mapping.width
        if self.size.taken(fetched, width + 1):
            return None
        # An empty result has no clock of its own; nobody dates anything by it.
        return Read(list(map(self._mapping.row, fetched)), int(fetched[0][width]) if fetched else 0)

    async def by_key(self, keys: Collection[Key], *, doubting: bool = False, shape: str | None = None) -> Read:
        """The rows of these keys that exist now. A key that none of the table's rows can have is one of no row.

        With `doubting` it looks for what may have hidden some; with a `shape` rows have digests.
        """
        return _whole([part async for part, _ in self.parts_by_key(keys, doubting=doubting, shape=shape)])

    async def parts_by_key(
        self, keys: Collection[Key], *, doubting: bool = False, shape: str | None = None
    ) -> AsyncIterator[tuple[Read, list[Key]]]:
        """As `by_key`, in parts that are not too large, each with the keys that it answers."""
        left = list(keys)
        while left:
            given, left = left[: self.size.fit], left[self.size.fit :]
            read = await self._some_by_key(given, doubting=doubting, shape=shape)
            yield read, [key for key in given if key not in read.unread]
            left = [*read.unread, *left]

    async def digested(self, keys: Collection[Key], shape: str) -> Read:
        """As `by_key`, with digests; of large rows it leaves some `unread`."""
        asked = list(keys)
        given, left = asked[: self.size.fit], asked[self.size.fit :]
        found = await self._some_by_key(given, shape=shape)
        return replace(found, unread=found.unread.union(left)) if left else found

    async def _some_by_key(self, keys: list[Key], *, doubting: bool = False, shape: str | None = None) -> Read:
        of = self._statements if shape is None else self._statements.digested

        async def read(some: Sequence[Key]) -> Read:
            found, is_cut = await self._read(of.by_key, columns_of(some), doubting=doubting, shape=shape)
            if not is_cut:
                return found
            # To ask for all of them again would go on for ever.
            unread = frozenset(some) - {row.key for row in found.rows}
            return replace(found, unread=unread if len(unread) < len(some) else frozenset())

        found = await unless_a_row_fails(read(keys))
        if found is not None:
            return found
        possible = await convertible(self._pool, keys, self._mapping.key_types)
        if possible:
            return await self._apart(possible, read)
        return Read([], 0, hidden_by=await self.hidden_by() if doubting else frozenset())

    async def as_read(self, keys: Collection[Key]) -> dict[Key, Key]:
        """Of keys as other sessions wrote them, those that are read otherwise here, and how.

        What such a session is set to (its TimeZone, its bytea_output) may show in the text of a key: it is another text
        then, of the same key.
        """
        query = self._statements.as_read
        if query is None or not keys:
            return {}
        given, parts = list(keys), len(self._mapping.key_columns)
        fetched = await unless_a_row_fails(fetch(self._pool, query, columns_of(given), self._doing))
        if fetched is None:
            given = await convertible(self._pool, given, self._mapping.key_types)
            fetched = await fetch(self._pool, query, columns_of(given), self._doing) if given else []
        return {tuple(row[:parts]): tuple(row[parts:]) for row in fetched if row[:parts] != row[parts:]}

    async def by_application(self, application_ids: Collection[str]) -> Read:
        """All rows that carry one of these applications' ids now, each id's in key order; doubting.

        An id may stand in its column or, where that is NULL or not mapped, in the status URL; by URL, rows of similar
        ids may come too. URLs have no index that could serve, so only those ids are looked for there that the column
        does not have.
        """
        statements, found = self._statements, Read([], 0)
        if statements.by_id is not None and statements.id_is_given is not None:
            ids = [(application_id,) for application_id in application_ids]
            found = await self._where(statements.by_id, statements.id_is_given, ids, statements.id_type)
        missing = set(application_ids) - {row.application_id for row in found.rows}
        if statements.by_url is not None and statements.url_is_given is not None and missing:
            spellings = {(spelling,) for id_ in missing for spelling in expressions.spellings_in_url(id_)}
            by_url = await self._where(statements.by_url, statements.url_is_given, sorted(spellings), sql.SQL("text"))
            found = _whole([found, by_url])
        return found

    async def _where(
        self, query: sql.Composed, condition: sql.Composable, values: Sequence[Key], type_: sql.Composable
    ) -> Read:
        """The rows for which a condition holds; where a statement fails on a row, maybe some others too; doubting."""
        if not values:
            return Read([], 0, hidden_by=await self.hidden_by())
        read = await unless_a_row_fails(self._read(query, columns_of(values), doubting=True))
        if read is not None:
            return read[0]
        possible = await convertible(self._pool, values, [type_])
        if len(possible) < len(values):
            return await self._where(query, condition, possible, type_)
        keys = await self._unreadable.keys_where(condition, columns_of(values))
        hidden = Read([], 0, hidden_by=await self.hidden_by())
        return _whole([hidden, await self.by_key(keys, doubting=True)])

    async def page(self, after: Key | None, size: int, shape: str | None = None) -> Page:
        """The next `size` rows in key order, or fewer that are large.

        A row whose key is NULL cannot be walked to and is left out.
        """
        of = self._statements if shape is None else self._statements.digested
        size = min(size, self.size.fit)
        place = [*(after or ()), size]
        query = of.first_page if after is None else of.next_page
        page = await unless_a_row_fails(self._read(query, place, shape=shape))
        if page is not None:
            read, is_cut = page
            return Page(read.rows, read.at, read.rows[-1].key if is_cut or len(read.rows) == size else None)
        found = await self._fetch(self._statements.keys_behind(after or ()), place, len(self._mapping.key_texts) + 1)
        keys = list(map(self._mapping.key, found))
        read = await self.by_key(keys, shape=shape)
        # Without keys, they were deleted meanwhile.
        return Page(read.rows, read.at or _clock_of(found), keys[-1] if keys and len(keys) == size else None)

    async def digests(self, after: Key | None, size: int, shape: str) -> Digests | None:
        """The same rows' digests; None if an expression fails on one of them, so that they are to be read."""
        of = self._statements.digested
        query = of.first_digests if after is None else of.next_digests
        places = [size] * len(self._mapping.key_columns)
        parameters = [*places, shape, *(after or ()), size]
        fetched = await unless_a_row_fails(self._fetch(query, parameters, 3 + len(places)))
        if fetched is None:
            return None
        ((text, rows, at, *last),) = fetched
        return Digests(text or "[]", rows, at, tuple(last) if rows == size else None)

    async def _read(
        self, query: sql.Composed, parameters: Sequence[Any], *, doubting: bool = False, shape: str | None = None
    ) -> tuple[Read, bool]:
        """Run a statement that gives rows; and whether it was ended, since they became too large together.

        Doubting, it is never ended.
        """
        hidden_by, is_cut = frozenset[Hiding](), False
        width = self._mapping.width + (1 if shape is None else 2)
        if shape is not None:
            parameters = [shape, *parameters]
        if doubting:
            fetched, hidden_by = await self._fetch_doubting(query, parameters, width)
        else:
            fetched = await self._fetch(bounded(query, width), parameters, width + 1)
            is_cut = self.size.taken(fetched, width)
            fetched = [row[:-1] for row in fetched]
        rows = [self._mapping.row(columns, None if shape is None else columns[-2]) for columns in fetched]
        return Read(rows, _clock_of(fetched), hidden_by=hidden_by), is_cut

    async def _fetch(self, query: sql.Composed, parameters: Sequence[Any], width: int) -> list[tuple[Any, ...]]:
        doing = self._doing
        return await guarded_fetch(self._pool, self.guard, query, parameters, width=width, doing=doing)

    async def _fetch_doubting(
        self, query: sql.Composed, parameters: Sequence[Any], width: int
    ) -> tuple[list[tuple[Any, ...]], frozenset[Hiding]]:
        """As `_fetch`, and whose policies may have hidden rows from it."""
        hidden_by = frozenset[Hiding]()

        async def read(connection: Connection) -> tuple[str, list[tuple[Any, ...]]]:
            nonlocal hidden_by
            # Leaving the pool's block commits, or rolls back if there is an exception.
            await connection.execute(self._begin_doubting)
            found = await read_with_position(connection, query, parameters, width=width)
            hidden_by = frozenset(await row_security.hiding(connection))
            return found

        return await guarded(self._pool, self.guard, self._doing, read), hidden_by

    async def _apart(self, keys: Collection[Key], read: ReadKeys) -> Read:
        """The rows of these keys, on one of which at least an expression fails."""
        reads, rows, at = await self._unreadable.apart(keys, read)
        if read_rows := [row for one in reads for row in one.rows]:
            texts = (text for row in read_rows for text in (row.source, *row.extra) if text)
            self.size.fit = LARGEST * len(read_rows) // max(sum(map(len, texts)), 1) + 1
        unread = frozenset[Key]().union(*(one.unread for one in reads))
        return replace(_whole([*reads, Read(rows, at)]), unread=unread)


def _clock_of(fetched: Sequence[tuple[Any, ...]]) -> int:
    # An empty result has no clock of its own; nobody dates anything by it.
    return int(fetched[0][-1]) if fetched else 0


def _whole(parts: Sequence[Read]) -> Read:
    """Parts as one answer; what one leaves unread, another has."""
    return Read(
        [row for part in parts for row in part.rows],
        max((part.at for part in parts), default=0),
        hidden_by=frozenset[Hiding]().union(*(part.hidden_by for part in parts)),
    )


async def fetch(
    pool: AsyncConnectionPool[Connection],
    query: sql.SQL | sql.Composed,
    parameters: Sequence[Any] | abc.Mapping[str, Any],
    doing: str,
) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of the pool.

    Raises:
        SourceError: it failed, or was not answered in time.
    """

    async def attempt() -> list[tuple[Any, ...]]:
        async with asking(doing), pool.connection() as connection:
            return await (await connection.execute(query, parameters)).fetchall()

    return await patiently(attempt)

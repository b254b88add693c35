"""Reading rows: by key, by application, and in pages. Each statement is a short transaction of its own.

A read that is to prove that a row is gone is `doubting`: what may have hidden the row is part of its answer.
"""

from collections import abc
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.config import PlainColumn
from cdc_sync.core.rows import Key, Row
from cdc_sync.source import expressions, row_security
from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.convertible import convertible
from cdc_sync.source.errors import SourceError
from cdc_sync.source.mapping import Mapping
from cdc_sync.source.row_security import Hiding

# The part of a status URL's path that holds the id, as `core.status_url.id_in` reads it. In lower case, since a
# percent-encoded byte may have digits of either; who asks tells apart what differs in more than that.
# `COLLATE "C"`: a nondeterministic collation takes no regular expressions before PostgreSQL 18.
_ID_IN_URL = """lower(substring({}::text COLLATE "C" from '/v1/applications/([^/]+)/status/?(?:[?].*)?$'))"""


@dataclass(frozen=True, slots=True)
class Read:
    """Rows, and the database's clock when they were read (milliseconds since the epoch).

    `hidden_by` is whose policies may have hidden rows from it, where the reader looked for that.
    """

    rows: list[Row]
    at: int
    hidden_by: frozenset[Hiding] = field(default=frozenset(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Page(Read):
    """A page of a walk in key order; `last` is where the next one begins, None when this was the last."""

    last: Key | None


class Reader:
    """Reads one watch's table through its mapping.

    Every method raises `SourceError` when the database cannot answer: a read that fails is never an empty answer.
    """

    def __init__(self, pool: AsyncConnectionPool[Connection], mapping: Mapping) -> None:
        self._pool = pool
        self._mapping = mapping
        select = sql.SQL("SELECT {}, {} FROM {}").format(mapping.select, _CLOCK, mapping.table)
        order = sql.SQL(", ").join(mapping.key_columns)
        not_null = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(key) for key in mapping.key_columns)
        after = sql.SQL("({}) > ({})").format(
            order, sql.SQL(", ").join(sql.SQL("%s::{}").format(type_) for type_ in mapping.key_types)
        )
        self._by_key = sql.SQL("{} WHERE {}").format(select, self._key_is_given())
        sorting = sql.SQL(", ").join(mapping.key_order)
        self._by_id = _where(select, self._id_is_given(), sorting)
        self._by_url = _where(select, self._url_is_given(), sorting)
        self._first_page = sql.SQL("{} WHERE {} ORDER BY {} LIMIT %s").format(select, not_null, sorting)
        self._next_page = sql.SQL("{} WHERE {} AND {} ORDER BY {} LIMIT %s").format(select, after, not_null, sorting)

    @property
    def estimate(self) -> int:
        """About how many rows the table has (the planner's figure at connection time; 0 if unknown)."""
        return self._mapping.facts.estimate

    @property
    def shape(self) -> str:
        """What a walk reads and in which order, as text: the same as long as table, mapping, key and types are."""
        return self._next_page.as_string()

    async def hidden_by(self) -> frozenset[Hiding]:
        """Whose policies may hide rows of the table now; reads none."""
        return (await self._read(self._first_page, [0], doubting=True)).hidden_by

    async def by_key(self, keys: Collection[Key], *, doubting: bool = False) -> Read:
        """The rows of these keys that exist now. A key that none of the table's rows can have is one of no row.

        With `doubting` it looks for what may have hidden some.
        """
        return await self._read_given(self._by_key, list(keys), self._mapping.key_types, doubting=doubting)

    async def by_application(self, application_ids: Collection[str]) -> Read:
        """All rows that carry one of these applications' ids now, each id's in key order; doubting.

        An id may stand in its column or, where that is NULL or not mapped, in the status URL; by URL, rows of similar
        ids may come too. URLs have no index that could serve, so only those ids are looked for there that the column
        does not have.
        """
        rows: list[Row] = []
        at, missing, hidden_by = 0, set(application_ids), frozenset[Hiding]()
        if self._by_id is not None:
            ids = [(application_id,) for application_id in application_ids]
            read = await self._read_given(self._by_id, ids, [self._id_type()], doubting=True)
            rows, at, hidden_by = read.rows, read.at, read.hidden_by
            missing -= {row.application_id for row in rows}
        if self._by_url is not None and missing:
            spellings = {spelling for id_ in missing for spelling in expressions.spellings_in_url(id_)}
            read = await self._read(self._by_url, [sorted(spellings)], doubting=True)
            rows, at, hidden_by = [*rows, *read.rows], max(at, read.at), hidden_by | read.hidden_by
        return Read(rows, at, hidden_by=hidden_by)

    async def page(self, after: Key | None, size: int) -> Page:
        """The next `size` rows in key order. A row whose key is NULL cannot be walked to and is left out."""
        if after is None:
            read = await self._read(self._first_page, [size])
        else:
            read = await self._read(self._next_page, [*after, size])
        return Page(read.rows, read.at, read.rows[-1].key if len(read.rows) == size else None)

    async def _read(self, query: sql.Composed, parameters: Sequence[Any], *, doubting: bool = False) -> Read:
        doing, hidden_by = f"reading {self._mapping.watch.table}", frozenset[Hiding]()
        if doubting:
            fetched, hidden_by = await _fetch_doubting(self._pool, query, parameters, doing)
        else:
            fetched = await fetch(self._pool, query, parameters, doing)
        # An empty result has no clock of its own; nobody dates anything by it.
        rows = [self._mapping.row(columns) for columns in fetched]
        return Read(rows, fetched[0][-1] if fetched else 0, hidden_by=hidden_by)

    async def _read_given(
        self, query: sql.Composed, given: Sequence[Key], types: Sequence[sql.Composable], *, doubting: bool
    ) -> Read:
        try:
            return await self._read(query, _columns_of(given), doubting=doubting)
        except SourceError as error:
            if not isinstance(error.__cause__, psycopg.DataError):
                raise
            possible = await convertible(self._pool, given, types)
            if len(possible) == len(given):
                # It was not what was given: an expression fails on a row.
                raise
        if possible:
            return await self._read(query, _columns_of(possible), doubting=doubting)
        return Read([], 0, hidden_by=await self.hidden_by() if doubting else frozenset())

    def _key_is_given(self) -> sql.Composable:
        keys, types = self._mapping.key_columns, self._mapping.key_types
        if len(keys) == 1:
            return sql.SQL("{} = ANY (%s::{}[])").format(keys[0], types[0])
        names = [sql.Identifier(f"k{number}") for number in range(len(keys))]
        return sql.SQL("({}) IN (SELECT {} FROM unnest({}) AS given ({}))").format(
            sql.SQL(", ").join(keys),
            sql.SQL(", ").join(sql.SQL("{}::{}").format(name, type_) for name, type_ in zip(names, types, strict=True)),
            sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in keys),
            sql.SQL(", ").join(names),
        )

    def _id_is_given(self) -> sql.Composable | None:
        mapped = self._mapping.watch.columns.application_id
        if mapped is None:
            return None
        # Compared in the column's own type, so that its index serves.
        value = sql.SQL("{}" if isinstance(mapped, PlainColumn) else "{}::text").format(expressions.expression(mapped))
        return sql.SQL("{} = ANY (%s::{}[])").format(value, self._id_type())

    def _id_type(self) -> sql.Composable:
        mapped = self._mapping.watch.columns.application_id
        if isinstance(mapped, PlainColumn):
            return expressions.fragment(self._mapping.facts.columns[mapped.name])
        return sql.SQL("text")

    def _url_is_given(self) -> sql.Composable | None:
        columns = self._mapping.watch.columns
        if columns.status_url is None:
            return None
        url = expressions.fragment(_ID_IN_URL).format(expressions.expression(columns.status_url))
        given = sql.SQL("""{} IN (SELECT lower(unnest(%s::text[]) COLLATE "C"))""").format(url)
        if columns.application_id is None:
            return given
        return sql.SQL("{} IS NULL AND {}").format(expressions.expression(columns.application_id), given)


def _columns_of(keys: Sequence[Key]) -> list[list[str]]:
    return [list(parts) for parts in zip(*keys, strict=True)]


def _where(select: sql.Composed, condition: sql.Composable | None, order: sql.Composed) -> sql.Composed | None:
    return None if condition is None else sql.SQL("{} WHERE {} ORDER BY {}").format(select, condition, order)


# statement_timestamp(): when the statement arrived, so before its snapshot. A row cannot have changed later than told.
_CLOCK = sql.SQL("(extract(epoch FROM statement_timestamp()) * 1000)::bigint")


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
    async with asking(doing), pool.connection() as connection:
        return await (await connection.execute(query, parameters)).fetchall()


async def _fetch_doubting(
    pool: AsyncConnectionPool[Connection], query: sql.Composed, parameters: Sequence[Any], doing: str
) -> tuple[list[tuple[Any, ...]], frozenset[Hiding]]:
    """As `fetch`, and whose policies may have hidden rows from it."""
    async with asking(doing), pool.connection() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        fetched = await (await connection.execute(query, parameters)).fetchall()
        return fetched, frozenset(await row_security.hiding(connection))

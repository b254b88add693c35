"""The statements that read a watch's table: by key, by application, and in pages.

`cdc-sync check` asks the planner about them. The server ends an answer with the row that makes it too large.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from psycopg import sql

from cdc_sync.config import Column, PlainColumn

from . import expressions
from .connection import with_position
from .expressions import POSTGRESQLS_OWN, SideTable, common_schema, composed, operator
from .mapping import APPLICATION_ID, Mapping

OfValue: TypeAlias = Callable[[sql.Composable], sql.Composable]
"""Makes SQL about a value."""

TEXT = sql.SQL("text")

LARGEST = 4_000_000
"""Bytes of a page, about, at the server; in memory some ten times as much until it is applied."""

_COMPARED = ("varchar", "bpchar", "uuid", "int2", "int4", "int8", "numeric")
"""Types in which ids are compared: with an equality of their own, and no length that would cut them."""

_SQL = expressions.sections("reading.sql")

CLOCK = sql.SQL(_SQL["clock"])


class Paging(NamedTuple):
    """Statements that read a page.

    Attributes:
        rows: the parameters are the shape, the place, and the most rows.
        keys: of the same rows the keys, without the configuration's expressions.

    Both end with the clock, the marks, and the bytes up to the row.
    """

    rows: str
    keys: str


class Walk(NamedTuple):
    """How a table is read page by page.

    Attributes:
        marks: how many columns precede the key in a place.
        first: a page from the marks on.
        following: a page behind the marks and a key.
    """

    marks: int
    first: Paging
    following: Paging


class Statements:
    """The statements for one watch's table.

    Texts have the server's position (`connection.with_position`). Behind the mapping's columns come the row's digest,
    the clock, and the bytes up to the row. The first parameter is the shape (NULL: no digest), the last one the most
    rows.

    Attributes:
        key_is_given: whether a row has a given key; a list for each part is a parameter.
        id_is_given: whether a row has a given application id, of `id_type`; None if none is mapped.
        url_is_given: the same by the status URL.
        by_keys: the walk in key order.
        first_digests: its first page's digests: one text, how many rows, the clock, and the last key.
        following_digests: those of a page behind a key.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._names = [sql.Identifier(f"k{number}") for number in range(len(mapping.key_columns))]
        self._width = mapping.width + 2
        self.id_type = self._id_type()
        parts = len(self._names)
        self.key_is_given = self._key_is_given()
        mapped = mapping.watch.columns.application_id
        self.id_is_given = None if mapped is None else self._where_value(mapped, self.is_given_id)
        self.url_is_given = self._url_is_given()

        rows = self.select(mapping.select, mapping.digest, CLOCK)
        self.by_key = _bounded(composed("{} WHERE {}", rows, self.key_is_given), self._width)
        self.by_keys = self.walk()
        keys = self.select(*mapping.key_texts, CLOCK)
        last = composed("{} WHERE {} ORDER BY {} LIMIT %s", keys, mapping.has_key, _key_order(mapping, ">"))
        self.last_keys = with_position(last, parts + 1)
        self.first_digests, self.following_digests = (with_position(page, 3 + parts) for page in self._digests())

    def walk(self, *marks: sql.Composable, type_: str = "") -> Walk:
        """The walk in the order of the key, or of a mark and the key; a mark comes behind the clock, as text."""
        texts = [expressions.key_text(mark) for mark in marks]
        rows = self.select(self._mapping.select, self._mapping.digest, CLOCK, *texts)
        keys = self.select(*self._mapping.key_texts, CLOCK, *texts)
        width, width_of_keys = self._width + len(marks), len(self._names) + 1 + len(marks)
        first, following = (
            Paging(
                rows=_bounded(composed("{} {}", rows, page), width),
                keys=_bounded(composed("{} {}", keys, page), width_of_keys),
            )
            for page in _pages(self._mapping, *marks, type_=type_)
        )
        return Walk(len(marks), first, following)

    def where(self, condition: sql.Composable) -> str:
        """The rows for which a condition holds, in key order, however large."""
        rows = self.select(self._mapping.select, self._mapping.digest, CLOCK, sql.NULL)
        query = composed("{} WHERE {} ORDER BY {}", rows, condition, _key_order(self._mapping))
        return with_position(query, self._width + 1)

    def keys_where(self, condition: sql.Composable) -> str:
        """The keys of the rows for which a condition holds."""
        keys = self.select(*self._mapping.key_texts)
        return with_position(composed("{} WHERE ({}) AND {}", keys, condition, self._mapping.has_key), len(self._names))

    def select(self, *items: sql.Composable) -> sql.Composed:
        """Items of all rows."""
        return composed("SELECT {} FROM {}", items, self._mapping.table)

    def _digests(self) -> list[sql.Composed]:
        keys = zip(self._mapping.key_texts, self._names, strict=True)
        element = composed("{} AS element", self._mapping.digests_element())
        elements = self.select(element, *(composed("{} AS {}", text, name) for text, name in keys))
        # Aggregates see a sorted subquery's rows in its order (PostgreSQL, "Aggregate Functions").
        last = [composed("(pg_catalog.array_agg(page.{}))[pg_catalog.count(*)]", name) for name in self._names]
        page = "SELECT pg_catalog.json_agg(page.element)::text, pg_catalog.count(*), {}, {} FROM ({} {}) AS page"
        return [composed(page, CLOCK, last, elements, each) for each in _pages(self._mapping)]

    def _key_is_given(self) -> sql.Composable:
        # In a SELECT, so that the planner does not see how many: then it makes one plan for any number, and keeps it.
        keys, types = self._mapping.key_columns, self._mapping.key_types
        equals = operator("=", self._mapping.key_operators)
        if len(keys) == 1:
            return composed("{} {} ANY (ARRAY(SELECT pg_catalog.unnest(%s::{}[])))", keys[0], equals, types[0])
        lists = [sql.SQL("pg_catalog.unnest((SELECT %s::text[]))")] * len(keys)
        values = [composed("{}::{}", name, type_) for name, type_ in zip(self._names, types, strict=True)]
        given = composed("ROWS FROM ({}) AS given ({})", lists, self._names)
        return composed("({}) {} ANY (SELECT {} FROM {})", keys, equals, values, given)

    def is_given_id(self, value: sql.Composable) -> sql.Composable:
        """Whether a value is one of the given ids, in its own type, so that its index serves."""
        mapped, columns = self._mapping.watch.columns.application_id, self._mapping.facts.columns
        schema = columns[mapped.name].operators if isinstance(mapped, PlainColumn) else POSTGRESQLS_OWN
        compared = composed("{}::text" if self.id_type == TEXT else "{}", value)
        return composed("{} {} ANY (%s::{}[])", compared, operator("=", schema), self.id_type)

    def _id_type(self) -> sql.Composable:
        mapped = self._mapping.watch.columns.application_id
        if isinstance(mapped, PlainColumn):
            return expressions.fragment(self._mapping.facts.columns[mapped.name].type)
        if expressions.side_table(self._mapping.watch, mapped) is not None:
            type_ = self._mapping.type_of(APPLICATION_ID)
            return sql.SQL(type_ if type_ in _COMPARED else "text")
        return TEXT

    def _url_is_given(self) -> sql.Composable | None:
        columns = self._mapping.watch.columns
        if columns.status_url is None:
            return None
        given = self._where_value(columns.status_url, is_given_url)
        if columns.application_id is None:
            return given
        return composed("{} AND {}", self._mapping.is_none(columns.application_id), given)

    def _where_value(self, mapped: Column, condition: OfValue) -> sql.Composable:
        """A condition on a mapped value; on a side table's in that table, where an index can serve."""
        side = expressions.side_table(self._mapping.watch, mapped)
        if side is None:
            return condition(expressions.expression(mapped))
        keys = [composed("s.{}", expressions.name(column)) for column in side.key]
        equals = operator("=", self._mapping.key_operators)
        return composed(
            "({}) {} ANY (SELECT {} {})", self._mapping.key_columns, equals, keys, in_side_table(side, condition)
        )


def in_side_table(side: SideTable, condition: OfValue) -> sql.Composed:
    """The rows of a side table with a value for which a condition holds, behind a SELECT list over `s`."""
    names = [side.table.name] if side.table.schema is None else [side.table.schema, side.table.name]
    value = composed("s.{}", expressions.name(side.column))
    return composed("FROM {} AS s WHERE {}", expressions.name(*names), condition(value))


def is_given_url(url: sql.Composable) -> sql.Composed:
    """Whether a status URL has one of the given ids.

    By DISTINCT the planner expects few, and uses an index; else PostgreSQL 10 and 11 read all of a table that was never
    analysed or has few URLs.
    """
    given = sql.SQL("""SELECT DISTINCT pg_catalog.lower(pg_catalog.unnest(%s::text[]) COLLATE "C")""")
    return composed("{} {} ANY ({})", id_in_url(url), operator("="), given)


def id_in_url(url: sql.Composable) -> sql.Composed:
    """The id in a status URL, as it is compared."""
    return expressions.fragment(_SQL["id_in_url"]).format(url)


def _pages(mapping: Mapping, *marks: sql.Composable, type_: str = "") -> tuple[sql.Composed, sql.Composed]:
    """What follows SELECT … FROM … for the first rows in key order, and for those behind a place.

    With a mark of a type, which precedes the key, the first ones are those from the mark on. The last parameter is how
    many.
    """
    types = [sql.SQL(type_) for _ in marks]
    # A comparison of rows has one operator: that of a mark's date, too.
    schema = common_schema([*mapping.operators, *(POSTGRESQLS_OWN for _ in marks)])
    given = [composed("%s::{}", each) for each in (*types, *mapping.key_types)]
    place = [*marks, *mapping.key_columns]
    behind = composed("({}) {} ({}) AND {}", place, operator(">", schema), given, mapping.has_key)
    from_mark = [composed("{} {} %s::{}", one, operator(">="), each) for one, each in zip(marks, types, strict=True)]
    first = sql.SQL(" AND ").join([*from_mark, mapping.has_key])
    sorting = [*marks, *_key_order(mapping)]
    page = "WHERE {} ORDER BY {} LIMIT %s"
    return composed(page, first, sorting), composed(page, behind, sorting)


def _key_order(mapping: Mapping, symbol: str = "<") -> list[sql.Composed]:
    """The order of the walk's `>`, ascending, or with `>` descending."""
    return [composed("{} USING {}", key, operator(symbol, mapping.key_operators)) for key in mapping.key_columns]


def _bounded(query: sql.Composable, width: int) -> str:
    """A query of so many columns, `with_position`, ended by the row that makes it too large."""
    columns = [sql.Identifier(f"c{number}") for number in range(width)]
    return with_position(composed(_SQL["bounded"], columns=columns, query=query, largest=LARGEST), width + 1)

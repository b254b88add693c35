"""From the watch's configuration to the statements that read its table: by key, by application, and in pages.

`cdc-sync check` asks the planner about them. The server ends an answer with the row that makes it too large.

Values are fetched as text, independent of DateStyle and TimeZone: dates as microseconds since the epoch, `source` and
extra fields as JSON. A naive timestamp is in the watch's time zone: in the hour that the end of summer time repeats it
means the second one; in the hour skipped in spring it moves forward.

By its digest a sweep finds a row unchanged (decision 15): 64 bits of all that its reading depends on, and of the
caller's `shape`, which stands for the rules. A page of digests is a JSON text, which goes to the store unchanged. Its
elements, in key order, are:

- sixteen hexadecimal digits and the row's key, as the store writes it (`store.encoding.key_text`): to be compared;
- `n`: no row of HelloWork's, for it has no id;
- `o` and a JSON array of the row's key and its application's id: out of scope;
- `?`: unknown, to be read.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeAlias

import psycopg
from psycopg.sql import NULL, SQL, Composable, Composed, Identifier

from cdc_sync.config import Column, PlainColumn, SqlColumn, Watch
from cdc_sync.core.rows import BLANKS, LONGEST_JSON, LONGEST_TEXT, Key

from . import expressions
from .connection import Connection, asking, on_own_path, with_position
from .errors import source_error
from .expressions import POSTGRESQLS_OWN, SideTable, common_schema, composed, operator
from .facts import READABLE, TableFacts, table_facts

# Types by their fixed OIDs (PostgreSQL, src/include/catalog/pg_type.dat).
_BOOL = 16
_DATE = 1082
_TIMESTAMP = 1114
_TIMESTAMPTZ = 1184
_DATES = {_DATE: "date", _TIMESTAMP: "timestamp", _TIMESTAMPTZ: "timestamptz"}
_TEXT = 25
_NEVER_BLANK = frozenset({"smallint", "integer", "bigint", "uuid"})
"""Types whose texts are never blank: whether one is NULL an index can answer."""

_SQL = expressions.sections("reading.sql")

WHERE, APPLICATION_ID, STATUS_URL = "where", "columns.application_id", "columns.status_url"
CREATED, DELETED = "columns.created", "columns.deleted"
"""Places in the watch's configuration: see `Mapping.expressions`."""

_FITTING = {CREATED: {*_DATES}, "columns.event_date": {*_DATES}, DELETED: {*_DATES, _BOOL}}

_TEXTS = (APPLICATION_ID, STATUS_URL, "columns.status", "columns.job_id", "columns.account")
_READ = (
    APPLICATION_ID,
    STATUS_URL,
    "columns.status",
    "columns.job_id",
    CREATED,
    "columns.event_date",
    "columns.source",
    DELETED,
    "columns.account",
)
"""The places behind the scope, in the order of `core.rows.Row`, the account last; the further fields follow."""

_UNDECISIVE = {WHERE, "columns.event_date"}
"""What does not count for a digest. Creation date, source and further fields do: they can make a row unreportable."""

DIGEST_LENGTH = 16
"""Characters of a digest: 64 bits as hexadecimal digits."""

_HASHES_SINCE = 110000
_NULL = SQL("NULL::text")
_JOIN = SQL("OPERATOR(pg_catalog.||)")


class Mapping:
    """A watch's SELECT list, for its expressions' types and the server's version.

    `expressions` are read behind the key, by their places in the configuration. `digest` has the shape as parameter.
    `key_operators` is the schema of the key's operators (None: they have several).
    """

    def __init__(self, watch: Watch, facts: TableFacts, types: dict[str, int], server: psycopg.ConnectionInfo) -> None:
        self.watch, self.facts = watch, facts
        self._types, self._mapped = types, expressions.by_place(watch)
        self.knows_its_encoding = server.parameter_status("server_encoding") != "SQL_ASCII"
        self.table, self.scope = _table(facts), _scope(watch)
        self.key_columns = [expressions.column(name) for name in watch.key]
        self.has_key = SQL(" AND ").join(composed("{} IS NOT NULL", key) for key in self.key_columns)
        key_types = [facts.columns[name].type for name in watch.key]
        self.key_types = list(map(expressions.fragment, key_types))
        self.key_texts = list(map(expressions.key_text, self.key_columns, key_types))
        self.key_operators = common_schema(facts.columns[name].operators for name in watch.key)
        places = [WHERE, *_READ, *(f"extra.{name}" for name in watch.extra)]
        self.expressions = {place: self._read(place) for place in places}
        self.selected = SQL(", ").join([*self.key_texts, *self.expressions.values()])
        self.width = len(self.key_texts) + len(self.expressions)
        decisive = [read for place, read in self.expressions.items() if place not in _UNDECISIVE]
        self.digest = composed(_SQL["hash" if server.server_version >= _HASHES_SINCE else "md5"], decisive)

    @property
    def is_plain(self) -> bool:
        """Whether reading needs no name that the login's own path leads to."""
        has_expression = any(isinstance(each, SqlColumn) for each in self._mapped.values())
        return not has_expression and self.key_operators == POSTGRESQLS_OWN

    @classmethod
    async def prepare(cls, connection: Connection, watch: Watch, facts: TableFacts | None = None) -> Self:
        """Fit a watch to its table, which is looked up unless known; raises `SourceError` if anything does not fit."""
        facts = facts or await table_facts(connection, watch.table)
        name = f"{facts.schema}.{facts.name}"
        if facts.kind not in READABLE:
            raise source_error("not-a-table", table=name)
        if missing := [column for column in watch.key if column not in facts.columns]:
            raise source_error("key-missing", column=missing[0], table=name, columns=", ".join(facts.columns))
        async with asking("looking up the time zone"):
            try:
                await connection.execute("SELECT timestamp 'epoch' AT TIME ZONE %s", (watch.timezone,))
            except psycopg.errors.InvalidParameterValue as error:
                raise source_error("time-zone-unknown", zone=watch.timezone) from error
        mapped = {place: each for place, each in expressions.by_place(watch).items() if place != WHERE}
        values = map(expressions.expression, mapped.values())
        query = composed("SELECT {} FROM {} WHERE {} LIMIT 0", values, _table(facts), _scope(watch))
        async with asking(f"preparing to read {name}"):
            cursor = await on_own_path(connection, query, ())
        types = {place: column.type_code for place, column in zip(mapped, cursor.description or [], strict=True)}
        _check_types(types)
        return cls(watch, facts, types, connection.info)

    def _read(self, place: str) -> Composable:
        mapped, oid = self._mapped.get(place), self._types.get(place)
        if place == WHERE:
            return composed("{}::int", self.scope)
        if place == DELETED:
            test = SQL("({} IS TRUE)::int") if oid == _BOOL else SQL("({} IS NOT NULL)::int")
            return SQL("0") if mapped is None else test.format(expressions.expression(mapped))
        if mapped is None:
            return _NULL
        value = expressions.expression(mapped)
        if place in _TEXTS:
            return _cut(composed("{}::text", value), LONGEST_TEXT)
        if place in {CREATED, "columns.event_date"}:
            # PostgreSQL's last years cannot be converted: one such row would fail every read.
            bounds, type_ = "least(greatest({0}, {1} '4000-01-01 BC'), {1} '20000-01-01')", _DATES[oid or 0]
            instant = composed(bounds, value, SQL(type_))
            if type_ != "timestamptz":
                instant = composed("{}::timestamp AT TIME ZONE {}", instant, self.watch.timezone)
            return composed(_SQL["instant"], value, instant)
        if oid == _TIMESTAMPTZ:
            # HelloWork's format, whatever the session's time zone.
            value = composed("""pg_catalog.to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""", value)
        elif oid == _TEXT:
            # A bare literal, text in a SELECT list, has no type inside a call.
            value = composed("{}::text", value)
        return _cut(composed("pg_catalog.to_json({})::text", value), LONGEST_JSON)

    def is_none(self, mapped: Column | None) -> Composable:
        """Whether a mapped id or URL is NULL or blank, as in `core.rows`."""
        if mapped is None:
            return SQL("true")
        value = expressions.expression(mapped)
        if isinstance(mapped, PlainColumn) and self.facts.columns[mapped.name].type in _NEVER_BLANK:
            return composed("({} IS NULL)", value)
        trimmed = composed("pg_catalog.btrim({}::text, {})", value, BLANKS)
        return composed("(coalesce({}, '') OPERATOR(pg_catalog.=) '')", trimmed)

    def digests_element(self) -> Composed:
        """A row's element in a page of digests; the parameter is the shape."""
        parts = [composed("pg_catalog.to_json({})::text", text) for text in self.key_texts]
        listed = SQL(" {join} ',' {join} ".format(join=_JOIN.as_string())).join(parts)
        key = composed("('[' {join} {} {join} ']')", listed, join=_JOIN)
        has_no_id, has_no_url = map(self.is_none, (self.watch.columns.application_id, self.watch.columns.status_url))
        digest = composed("{} {join} {}", self.digest, key, join=_JOIN)
        if self.watch.where:
            named = composed("pg_catalog.json_build_array({}, {})::text", key, self.expressions[APPLICATION_ID])
            out_of_scope = composed("CASE WHEN {} THEN '?' ELSE 'o' {join} {} END", has_no_id, named, join=_JOIN)
            digest = composed("CASE WHEN NOT {} THEN {} ELSE {} END", self.scope, out_of_scope, digest)
        # A key whose value has no text cannot be compared.
        return composed("coalesce(CASE WHEN {} AND {} THEN 'n' ELSE {} END, '?')", has_no_id, has_no_url, digest)

    def key(self, columns: Sequence[Any]) -> Key:
        """The key of a fetched row."""
        return tuple(columns[: len(self.key_columns)])


def keys_of(digests: str, places: list[int]) -> list[Key] | None:
    """The keys of some elements of a page of digests; None if one has none."""
    elements: list[str] = json.loads(digests)
    texts: list[str] = []
    for place in places:
        kind = elements[place][0]
        if kind in {"?", "n"}:
            return None
        texts.append(json.loads(elements[place][1:])[0] if kind == "o" else elements[place][DIGEST_LENGTH:])
    return [tuple(json.loads(text)) for text in texts]


def _table(facts: TableFacts) -> Composed:
    return composed("{} AS t", expressions.name(facts.schema, facts.name))


def _scope(watch: Watch) -> Composable:
    if watch.where is None:
        return SQL("true")
    return composed("({} IS TRUE)", expressions.expression(watch.where))


def _cut(text: Composed, longest: int) -> Composed:
    """Bound a row's size; one character more shows that the text is longer."""
    return composed("pg_catalog.left({}, {})", text, longest + 1)


def _check_types(types: dict[str, int]) -> None:
    """Raise `SourceError` for types that do not fit."""
    wrong = list[str]()
    for place, oid in types.items():
        if oid not in _FITTING.get(place, {oid}):
            known, also = psycopg.adapters.types.get(oid), "a boolean, " if place == DELETED else ""
            found = known.name if known else f"a type of the database's own (oid {oid})"
            wrong.append(f"{place} must be {also}a date or a timestamp, not {found}")
    if wrong:
        raise source_error("configuration-mismatch", wrong="; ".join(wrong))


OfValue: TypeAlias = Callable[[Composable], Composable]
"""Makes SQL about a value."""

TEXT = SQL("text")

LARGEST = 4_000_000
"""Bytes of a page, about, at the server; in memory some ten times as much until it is applied."""

_COMPARED = ("varchar", "bpchar", "uuid", "int2", "int4", "int8", "numeric")
"""Types in which ids are compared: with an equality of their own, and no length that would cut them."""

CLOCK = SQL(_SQL["clock"])


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


class Statements(Mapping):
    """A watch's mapping, and the statements by which its table is read.

    Texts are `positioned`: so none is believed that read another table, or was written for a column's former type,
    by which every row could seem deleted, dates be hours wrong, and ids be cut off. Behind the mapping's columns come
    the row's digest, the clock, and the bytes up to the row. The first parameter is the shape (NULL: no digest), the
    last one the most rows.

    Attributes:
        key_is_given: whether a row has a given key; a list for each part is a parameter.
        id_is_given: whether a row has a given application id, of `id_type`; None if none is mapped.
        url_is_given: the same by the status URL.
        by_keys: the walk in key order.
        first_digests: its first page's digests: one text, how many rows, the clock, and the last key.
        following_digests: those of a page behind a key.
    """

    def __init__(self, watch: Watch, facts: TableFacts, types: dict[str, int], server: psycopg.ConnectionInfo) -> None:
        super().__init__(watch, facts, types, server)
        self._names = [Identifier(f"k{number}") for number in range(len(self.key_columns))]
        self._width = self.width + 2
        self.id_type = self._id_type()
        parts = len(self._names)
        texts = {"schema": facts.schema, "name": facts.name, "types": json.dumps(facts.types)}
        known = {name: expressions.literal(text) for name, text in texts.items()}
        self._is_known = composed(_SQL["is_known"], oid=facts.oid, **known)
        self.key_is_given = self._key_is_given()
        mapped = self.watch.columns.application_id
        self.id_is_given = None if mapped is None else self._where_value(mapped, self.is_given_id)
        self.url_is_given = self._url_is_given()

        rows = self.select(self.selected, self.digest, CLOCK)
        self.by_key = self._bounded(composed("{} WHERE {}", rows, self.key_is_given), self._width)
        self.by_keys = self.walk()
        keys = self.select(*self.key_texts, CLOCK)
        last = composed("{} WHERE {} ORDER BY {} LIMIT %s", keys, self.has_key, _key_order(self, ">"))
        self.last_keys = self.positioned(last, parts + 1)
        self.first_digests, self.following_digests = (self.positioned(page, 3 + parts) for page in self._digests())

    def walk(self, *marks: Composable, type_: str = "") -> Walk:
        """The walk in the order of the key, or of a mark and the key; a mark comes behind the clock, as text."""
        texts = [expressions.key_text(mark) for mark in marks]
        rows = self.select(self.selected, self.digest, CLOCK, *texts)
        keys = self.select(*self.key_texts, CLOCK, *texts)
        width, width_of_keys = self._width + len(marks), len(self._names) + 1 + len(marks)
        first, following = (
            Paging(
                rows=self._bounded(composed("{} {}", rows, page), width),
                keys=self._bounded(composed("{} {}", keys, page), width_of_keys),
            )
            for page in _pages(self, *marks, type_=type_)
        )
        return Walk(len(marks), first, following)

    def where(self, condition: Composable) -> str:
        """The rows for which a condition holds, in key order, however large."""
        rows = self.select(self.selected, self.digest, CLOCK, NULL)
        query = composed("{} WHERE {} ORDER BY {}", rows, condition, _key_order(self))
        return self.positioned(query, self._width + 1)

    def keys_where(self, condition: Composable) -> str:
        """The keys of the rows for which a condition holds."""
        keys = self.select(*self.key_texts)
        return self.positioned(composed("{} WHERE ({}) AND {}", keys, condition, self.has_key), len(self._names))

    def positioned(self, query: Composable, width: int) -> str:
        """A query of so many columns, `with_position` if the table is as this mapping knows it."""
        return with_position(query, width, self._is_known)

    def _bounded(self, query: Composable, width: int) -> str:
        """A query of so many columns, `positioned`, ended by the row that makes it too large."""
        columns = [Identifier(f"c{number}") for number in range(width)]
        bounded = composed(_SQL["bounded"], columns=columns, query=query, largest=LARGEST)
        return self.positioned(bounded, width + 1)

    def select(self, *items: Composable) -> Composed:
        """Items of all rows."""
        return composed("SELECT {} FROM {}", items, self.table)

    def _digests(self) -> list[Composed]:
        keys = zip(self.key_texts, self._names, strict=True)
        element = composed("{} AS element", self.digests_element())
        elements = self.select(element, *(composed("{} AS {}", text, name) for text, name in keys))
        # Aggregates see a sorted subquery's rows in its order (PostgreSQL, "Aggregate Functions").
        last = [composed("(pg_catalog.array_agg(page.{}))[pg_catalog.count(*)]", name) for name in self._names]
        page = "SELECT pg_catalog.json_agg(page.element)::text, pg_catalog.count(*), {}, {} FROM ({} {}) AS page"
        return [composed(page, CLOCK, last, elements, each) for each in _pages(self)]

    def _key_is_given(self) -> Composable:
        # In a SELECT, so that the planner does not see how many: then it makes one plan for any number, and keeps it.
        keys, types = self.key_columns, self.key_types
        equals = operator("=", self.key_operators)
        if len(keys) == 1:
            return composed("{} {} ANY (ARRAY(SELECT pg_catalog.unnest(%s::{}[])))", keys[0], equals, types[0])
        lists = [SQL("pg_catalog.unnest((SELECT %s::text[]))")] * len(keys)
        values = [composed("{}::{}", name, type_) for name, type_ in zip(self._names, types, strict=True)]
        given = composed("ROWS FROM ({}) AS given ({})", lists, self._names)
        return composed("({}) {} ANY (SELECT {} FROM {})", keys, equals, values, given)

    def is_given_id(self, value: Composable) -> Composable:
        """Whether a value is one of the given ids, in its own type, so that its index serves."""
        mapped, columns = self.watch.columns.application_id, self.facts.columns
        schema = columns[mapped.name].operators if isinstance(mapped, PlainColumn) else POSTGRESQLS_OWN
        compared = composed("{}::text" if self.id_type == TEXT else "{}", value)
        return composed("{} {} ANY (%s::{}[])", compared, operator("=", schema), self.id_type)

    def _id_type(self) -> Composable:
        mapped = self.watch.columns.application_id
        if isinstance(mapped, PlainColumn):
            return expressions.fragment(self.facts.columns[mapped.name].type)
        if expressions.side_table(self.watch, mapped) is not None:
            known = psycopg.adapters.types.get(self._types[APPLICATION_ID])
            return SQL(known.name) if known is not None and known.name in _COMPARED else TEXT
        return TEXT

    def _url_is_given(self) -> Composable | None:
        columns = self.watch.columns
        if columns.status_url is None:
            return None
        given = self._where_value(columns.status_url, is_given_url)
        if columns.application_id is None:
            return given
        return composed("{} AND {}", self.is_none(columns.application_id), given)

    def _where_value(self, mapped: Column, condition: OfValue) -> Composable:
        """A condition on a mapped value; on a side table's in that table, where an index can serve."""
        side = expressions.side_table(self.watch, mapped)
        if side is None:
            return condition(expressions.expression(mapped))
        keys = [composed("s.{}", expressions.name(column)) for column in side.key]
        equals = operator("=", self.key_operators)
        return composed("({}) {} ANY (SELECT {} {})", self.key_columns, equals, keys, in_side_table(side, condition))


def in_side_table(side: SideTable, condition: OfValue) -> Composed:
    """The rows of a side table with a value for which a condition holds, behind a SELECT list over `s`."""
    value = composed("s.{}", expressions.name(side.column))
    return composed("FROM {} AS s WHERE {}", expressions.name(*filter(None, side.table)), condition(value))


def is_given_url(url: Composable) -> Composed:
    """Whether a status URL has one of the given ids.

    By DISTINCT the planner expects few, and uses an index; else PostgreSQL 10 and 11 read all of a table that was never
    analysed or has few URLs.
    """
    given = SQL("""SELECT DISTINCT pg_catalog.lower(pg_catalog.unnest(%s::text[]) COLLATE "C")""")
    return composed("{} {} ANY ({})", id_in_url(url), operator("="), given)


def id_in_url(url: Composable) -> Composed:
    """The id in a status URL, as it is compared."""
    return expressions.fragment(_SQL["id_in_url"]).format(url)


def _pages(mapping: Mapping, *marks: Composable, type_: str = "") -> tuple[Composed, Composed]:
    """What follows SELECT … FROM … for the first rows in key order, and for those behind a place.

    With a mark of a type, which precedes the key, the first ones are those from the mark on. The last parameter is how
    many.
    """
    types = [SQL(type_) for _ in marks]
    # A comparison of rows has one operator: that of a mark's date, too.
    schema = common_schema([mapping.key_operators, *(POSTGRESQLS_OWN for _ in marks)])
    given = [composed("%s::{}", each) for each in (*types, *mapping.key_types)]
    place = [*marks, *mapping.key_columns]
    behind = composed("({}) {} ({}) AND {}", place, operator(">", schema), given, mapping.has_key)
    from_mark = [composed("{} {} %s::{}", one, operator(">="), each) for one, each in zip(marks, types, strict=True)]
    first = SQL(" AND ").join([*from_mark, mapping.has_key])
    sorting = [*marks, *_key_order(mapping)]
    page = "WHERE {} ORDER BY {} LIMIT %s"
    return composed(page, first, sorting), composed(page, behind, sorting)


def _key_order(mapping: Mapping, symbol: str = "<") -> list[Composed]:
    """The order of the walk's `>`, ascending, or with `>` descending."""
    return [composed("{} USING {}", key, operator(symbol, mapping.key_operators)) for key in mapping.key_columns]

"""From the watch's configuration to the SELECT list of every read, and from its rows to the core's.

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
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from cdc_sync.config import Column, PlainColumn, SqlColumn, Watch
from cdc_sync.core.rows import BLANKS, LONGEST_JSON, LONGEST_TEXT, Key

from . import expressions
from .connection import Connection, asking, on_own_path
from .errors import source_error
from .expressions import composed
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
_NULL = sql.SQL("NULL::text")
_JOIN = sql.SQL("OPERATOR(pg_catalog.||)")


class Mapping:
    """A watch's SELECT list, for its expressions' types and the server's version.

    `expressions` are read behind the key, by their places in the configuration. `digest` has the shape as parameter.
    `operators` are the schemas of the key's operators, and `key_operators` is the only one (None: several).
    """

    def __init__(self, watch: Watch, facts: TableFacts, types: dict[str, int], server: psycopg.ConnectionInfo) -> None:
        self.watch, self.facts = watch, facts
        self._types, self._mapped = types, expressions.by_place(watch)
        self.knows_its_encoding = server.parameter_status("server_encoding") != "SQL_ASCII"
        self.table, self.scope = _table(facts), _scope(watch)
        self.key_columns = [expressions.column(name) for name in watch.key]
        self.has_key = sql.SQL(" AND ").join(composed("{} IS NOT NULL", key) for key in self.key_columns)
        key_types = [facts.columns[name].type for name in watch.key]
        self.key_types = list(map(expressions.fragment, key_types))
        self.key_texts = list(map(expressions.key_text, self.key_columns, key_types))
        self.operators = [facts.columns[name].operators for name in watch.key]
        self.key_operators = expressions.common_schema(self.operators)
        places = [WHERE, *_READ, *(f"extra.{name}" for name in watch.extra)]
        self.expressions = {place: self._read(place) for place in places}
        self.select = sql.SQL(", ").join([*self.key_texts, *self.expressions.values()])
        self.width = len(self.key_texts) + len(self.expressions)
        decisive = [read for place, read in self.expressions.items() if place not in _UNDECISIVE]
        self.digest = composed(_SQL["hash" if server.server_version >= _HASHES_SINCE else "md5"], decisive)

    @property
    def is_plain(self) -> bool:
        """Whether reading needs no name that the login's own path leads to."""
        has_expression = any(isinstance(each, SqlColumn) for each in self._mapped.values())
        return not (has_expression or self.watch.where) and {*self.operators} == {expressions.POSTGRESQLS_OWN}

    @classmethod
    async def prepare(cls, connection: Connection, watch: Watch, facts: TableFacts | None = None) -> "Mapping":
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

    def _read(self, place: str) -> sql.Composable:
        mapped, oid = self._mapped.get(place), self._types.get(place)
        if place == WHERE:
            return composed("{}::int", self.scope)
        if place == DELETED:
            test = sql.SQL("({} IS TRUE)::int") if oid == _BOOL else sql.SQL("({} IS NOT NULL)::int")
            return sql.SQL("0") if mapped is None else test.format(expressions.expression(mapped))
        if mapped is None:
            return _NULL
        value = expressions.expression(mapped)
        if place in _TEXTS:
            return _cut(composed("{}::text", value), LONGEST_TEXT)
        if place in {CREATED, "columns.event_date"}:
            # PostgreSQL's last years cannot be converted: one such row would fail every read.
            bounds, type_ = "least(greatest({0}, {1} '4000-01-01 BC'), {1} '20000-01-01')", _DATES[oid or 0]
            instant = composed(bounds, value, sql.SQL(type_))
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

    def type_of(self, place: str) -> str | None:
        """The type of what stands at a place as SQL writes it; None if it is none of PostgreSQL's own."""
        known = psycopg.adapters.types.get(self._types[place])
        return None if known is None else known.name

    def is_none(self, mapped: Column | None) -> sql.Composable:
        """Whether a mapped id or URL is NULL or blank, as in `core.rows`."""
        if mapped is None:
            return sql.SQL("true")
        value = expressions.expression(mapped)
        if isinstance(mapped, PlainColumn) and self.facts.columns[mapped.name].type in _NEVER_BLANK:
            return composed("({} IS NULL)", value)
        trimmed = composed("pg_catalog.btrim({}::text, {})", value, BLANKS)
        return composed("(coalesce({}, '') OPERATOR(pg_catalog.=) '')", trimmed)

    def digests_element(self) -> sql.Composed:
        """A row's element in a page of digests; the parameter is the shape."""
        parts = [composed("pg_catalog.to_json({})::text", text) for text in self.key_texts]
        listed = sql.SQL(" {join} ',' {join} ".format(join=_JOIN.as_string())).join(parts)
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


def _table(facts: TableFacts) -> sql.Composed:
    return composed("{} AS t", expressions.name(facts.schema, facts.name))


def _scope(watch: Watch) -> sql.Composable:
    if watch.where is None:
        return sql.SQL("true")
    return composed("({} IS TRUE)", expressions.expression(watch.where))


def _cut(text: sql.Composed, longest: int) -> sql.Composed:
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

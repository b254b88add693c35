"""From the watch's configuration to the one SELECT list that every reading uses, and from its rows to the core's.

Everything is fetched as text, in a form that does not depend on the session's DateStyle or TimeZone: dates as
microseconds since the epoch, `source` and extra fields as JSON. A naive timestamp is read in the watch's
time zone by PostgreSQL's own rules: in the hour that the end of summer time repeats it means the second, standard-time
one, and an instant in the hour that is skipped in spring is moved forward by that hour.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from cdc_sync.config import Column, PlainColumn, Watch
from cdc_sync.core.rows import BLANKS, LONGEST_JSON, LONGEST_TEXT, Key, Row
from cdc_sync.source import expressions
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.facts import TableFacts

# Types by their fixed OIDs (PostgreSQL, src/include/catalog/pg_type.dat).
_BOOL = 16
_DATE = 1082
_TIMESTAMP = 1114
_TIMESTAMPTZ = 1184
_DATES = {_DATE: "date", _TIMESTAMP: "timestamp", _TIMESTAMPTZ: "timestamptz"}
_TEXT = 25
_TEXTS = frozenset({_TEXT, 1043})  # and varchar

_NEVER_BLANK = frozenset({"smallint", "integer", "bigint", "uuid"})

_BYTES_OF_A_CHARACTER = 4  # at most, in every encoding of a server

# Relations by `pg_class.relkind`: tables, partitioned ones, views, materialized ones, foreign tables.
_READABLE = frozenset("rpvmf")

# Microseconds since 1970, from what the server sends for a timestamptz in binary: microseconds since 2000. `extract`
# gives a double precision before PostgreSQL 14, which is off by some microseconds from the year 2255 on: the last one
# of the year 9999, a common "never", would be in the year 10000.
_INSTANT = """CASE WHEN isfinite({0})
    THEN (('x' || encode(timestamptz_send({1}), 'hex'))::bit(64)::bigint + 946684800000000)::text ELSE {0}::text END"""

WHERE, APPLICATION_ID, STATUS_URL = "where", "columns.application_id", "columns.status_url"
"""Places in the watch's configuration: see `Mapping.expressions`."""

_FIELDS = ("application_id", "status_url", "status", "job_id", "created", "event_date", "source", "deleted")


class Mapping:
    """A watch's SELECT list, fitted to the types that its expressions really have, and to the server's version."""

    def __init__(
        self,
        watch: Watch,
        facts: TableFacts,
        types: dict[str, int],
        server_version: int,
        *,
        knows_its_encoding: bool = True,
    ) -> None:
        self.watch = watch
        self.knows_its_encoding = knows_its_encoding
        self.facts = facts
        self.server_version = server_version
        self.table = sql.SQL("{} AS t").format(expressions.name(facts.schema, facts.name))
        self.key_columns = [expressions.column(name) for name in watch.key]
        # By the operator that the walk compares with. A type's own order may be another one: for a type in a schema
        # that is not on the search_path (citext, say) `>` is found for text only.
        self.key_order = [sql.SQL("{} USING <").format(key) for key in self.key_columns]
        self.key_type_names = [facts.columns[name] for name in watch.key]
        self.key_types = list(map(expressions.fragment, self.key_type_names))
        self.key_texts = [
            expressions.key_text(key, type_) for key, type_ in zip(self.key_columns, self.key_type_names, strict=True)
        ]
        self.scope = (
            sql.SQL("(({}\n) IS TRUE)").format(expressions.fragment(watch.where)) if watch.where else sql.SQL("true")
        )
        self.application_id = _text(watch.columns.application_id)
        self.status_url = _text(watch.columns.status_url)
        self.expressions = self._expressions(types)
        self.select = sql.SQL(", ").join([*self.key_texts, *self.expressions.values()])
        self.width = len(self.key_texts) + len(self.expressions)
        self.decisive = self._decisive(types)

    @classmethod
    async def prepare(cls, connection: Connection, watch: Watch, facts: TableFacts) -> "Mapping":
        """Fit a watch to its table.

        Raises:
            SourceError: there are no rows to read, a column is missing, an expression does not parse, or a type is not
                what its use needs.
        """
        if facts.kind not in _READABLE:
            raise SourceError(
                "not-a-table",
                f"{facts.schema}.{facts.name} is no table, view or foreign table, so it has no rows to read. Correct "
                f"the watch's table.",
            )
        for name in watch.key:
            if name not in facts.columns:
                raise SourceError(
                    "key-missing",
                    f"The key column {name} does not exist in {facts.schema}.{facts.name}, which has "
                    f"{', '.join(facts.columns)}. Correct the watch's key.",
                )
        await check_time_zone(connection, watch.timezone)
        mapped = _mapped(watch)
        query = sql.SQL("SELECT {} FROM {} WHERE {} LIMIT 0").format(
            sql.SQL(", ").join(map(expressions.expression, mapped.values())),
            sql.SQL("{} AS t").format(expressions.name(facts.schema, facts.name)),
            sql.SQL("({}\n)").format(expressions.fragment(watch.where)) if watch.where else sql.SQL("true"),
        )
        try:
            cursor = await connection.execute(query, ())
        except psycopg.Error as error:
            raise translate(error, f"preparing to read {facts.schema}.{facts.name}") from error
        description = cursor.description or []
        types = {name: column.type_code for name, column in zip(mapped, description, strict=True)}
        _check(watch, types)
        encoding = connection.info.parameter_status("server_encoding")
        return cls(watch, facts, types, connection.info.server_version, knows_its_encoding=encoding != "SQL_ASCII")

    def _expressions(self, types: dict[str, int]) -> dict[str, sql.Composable]:
        """What is read of a row beside its key, in the order of `row`, by the places in the watch's configuration."""
        columns = self.watch.columns
        event_date = self._instant(columns.event_date, types["event_date"]) if columns.event_date else _NULL
        return {
            WHERE: sql.SQL("{}::int").format(self.scope),
            APPLICATION_ID: self.application_id,
            STATUS_URL: self.status_url,
            "columns.status": _text(columns.status),
            "columns.job_id": _text(columns.job_id),
            "columns.created": self._instant(columns.created, types["created"]),
            "columns.event_date": event_date,
            "columns.source": _json(columns.source, types.get("source")),
            "columns.deleted": _deleted(columns.deleted, types.get("deleted")),
        } | {f"extra.{name}": _json(extra.column, types[f"extra.{name}"]) for name, extra in self.watch.extra.items()}

    def _decisive(self, types: dict[str, int]) -> sql.Composable:
        """Of a row in scope, all that its reading depends on but the event's date, in forms as cheap as can be.

        Of the creation date, the source and further fields only what makes a row unreportable counts; they are taken as
        they are. None of these depends on the session.
        """
        columns = self.watch.columns
        texts = (columns.application_id, columns.status_url, columns.status, columns.job_id)
        items: list[sql.Composable] = [_raw_text(mapped) for mapped in texts if mapped is not None]
        items += [_raw_instant(columns.created, types["created"]), _deleted(columns.deleted, types.get("deleted"))]
        if columns.source is not None:
            items.append(_raw_json(columns.source, types["source"]))
        items += [_raw_json(extra.column, types[f"extra.{name}"]) for name, extra in self.watch.extra.items()]
        return sql.SQL(", ").join(items)

    def _instant(self, mapped: Column, oid: int) -> sql.Composed:
        value = expressions.expression(mapped)
        # PostgreSQL's last years cannot be converted: one such row would make the reading of all others fail.
        instant = sql.SQL("least(greatest({0}, {1} '4000-01-01 BC'), {1} '20000-01-01')").format(
            value, sql.SQL(_DATES[oid])
        )
        if oid != _TIMESTAMPTZ:
            instant = sql.SQL("{}::timestamp AT TIME ZONE {}").format(instant, sql.Literal(self.watch.timezone))
        return sql.SQL(_INSTANT).format(value, instant)

    def is_none(self, mapped: Column | None) -> sql.Composable:
        """Whether a mapped id or URL is no value: NULL or blank, as `core.rows` has it."""
        if mapped is None:
            return sql.SQL("true")
        value = expressions.expression(mapped)
        if isinstance(mapped, PlainColumn) and self.facts.columns[mapped.name] in _NEVER_BLANK:
            return sql.SQL("({} IS NULL)").format(value)
        return sql.SQL("(coalesce(btrim({}::text, {}), '') = '')").format(value, sql.Literal(BLANKS))

    def row(self, columns: Sequence[Any], digest: str | None = None) -> Row:
        """Turn a fetched row into the core's."""
        split = len(self.key_columns)
        in_scope, application_id, url, status, job, created, event_date, source, deleted = columns[split : split + 9]
        key, extra = tuple(columns[:split]), tuple(columns[split + 9 : self.width])
        return Row(  # by position: it is done for each row
            key,
            in_scope == 1,
            application_id,
            url,
            status,
            job,
            created,
            event_date,
            source,
            deleted == 1,
            extra,
            digest,
        )

    def key(self, columns: Sequence[Any]) -> Key:
        """The key of a fetched row."""
        return tuple(columns[: len(self.key_columns)])


_NULL = sql.SQL("NULL::text")


def _mapped(watch: Watch) -> dict[str, Column]:
    fields = {name: getattr(watch.columns, name) for name in _FIELDS}
    fields |= {f"extra.{name}": extra.column for name, extra in watch.extra.items()}
    return {name: mapped for name, mapped in fields.items() if mapped is not None}


def _text(mapped: Column | None) -> sql.Composable:
    if mapped is None:
        return _NULL
    return _cut(sql.SQL("{}::text").format(expressions.expression(mapped)), LONGEST_TEXT)


def _cut(text: sql.Composed, longest: int) -> sql.Composed:
    """Bound what one row can bring: a page is of thousands. One character more tells that it was longer."""
    return sql.SQL("left({}, {})").format(text, sql.Literal(longest + 1))


def _json(mapped: Column | None, oid: int | None) -> sql.Composable:
    if mapped is None:
        return _NULL
    value = expressions.expression(mapped)
    if oid == _TIMESTAMPTZ:
        # As HelloWork writes dates. By itself PostgreSQL would write it in the session's time zone.
        value = sql.SQL("""to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""").format(value)
    elif oid == _TEXT:
        # A bare literal is text in a SELECT list, but of no type yet inside a call.
        value = sql.SQL("{}::text").format(value)
    return _cut(sql.SQL("to_json({})::text").format(value), LONGEST_JSON)


def _raw_text(mapped: Column) -> sql.Composable:
    return _bounded(mapped, LONGEST_TEXT) if isinstance(mapped, PlainColumn) else _text(mapped)


def _bounded(mapped: PlainColumn, longest: int) -> sql.Composed:
    """A text that is cut as late as may be: to count characters costs more than to digest some too many."""
    text = sql.SQL("{}::text").format(expressions.expression(mapped))
    return sql.SQL("CASE WHEN octet_length({0}) > {1} THEN {2} ELSE {0} END").format(
        text, sql.Literal(_BYTES_OF_A_CHARACTER * longest), _cut(text, longest)
    )


def _raw_instant(mapped: Column, oid: int) -> sql.Composed:
    return sql.SQL("encode({}({}), 'hex')").format(sql.SQL(f"{_DATES[oid]}_send"), expressions.expression(mapped))


def _raw_json(mapped: Column, oid: int) -> sql.Composable:
    # What is too long as it is is too long as JSON.
    return _bounded(mapped, LONGEST_JSON) if isinstance(mapped, PlainColumn) and oid in _TEXTS else _json(mapped, oid)


def _deleted(mapped: Column | None, oid: int | None) -> sql.Composable:
    if mapped is None:
        return sql.SQL("0")
    test = sql.SQL("({} IS TRUE)::int") if oid == _BOOL else sql.SQL("({} IS NOT NULL)::int")
    return test.format(expressions.expression(mapped))


async def check_time_zone(connection: Connection, name: str) -> None:
    """The configuration knows that the zone exists; a server may be older than the zone's name, or newer.

    Raises:
        SourceError: the server does not know it.
    """
    try:
        await connection.execute("SELECT timestamp 'epoch' AT TIME ZONE %s", (name,))
    except psycopg.DataError as error:
        raise SourceError(
            "time-zone-unknown",
            f"The database does not know the time zone {name}. Set the watch's timezone to a name that stands in its "
            f"view pg_timezone_names: the zone may have an older name there.",
        ) from error
    except psycopg.Error as error:
        raise translate(error, "looking up the time zone") from error


def _check(watch: Watch, types: dict[str, int]) -> None:
    """Each use's type, all mistakes at once."""
    wrong = [
        f"columns.{name} must be a date or a timestamp, not {_type_name(types[name])}; for another representation use "
        f'{{sql: "to_timestamp(…)", depends_on: [{_named(watch, name)}]}}'
        for name in ("created", "event_date")
        if name in types and types[name] not in _DATES
    ]
    if "deleted" in types and types["deleted"] != _BOOL and types["deleted"] not in _DATES:
        wrong.append(
            f"columns.deleted must be a boolean, a date or a timestamp, not {_type_name(types['deleted'])}; for "
            f'another one use {{sql: "{_named(watch, "deleted")} = …", depends_on: [{_named(watch, "deleted")}]}}'
        )
    if wrong:
        raise SourceError(
            "configuration-mismatch", "The watch's configuration does not fit the table: " + "; ".join(wrong)
        )


def _named(watch: Watch, field: str) -> str:
    mapped = getattr(watch.columns, field)
    return mapped.name if isinstance(mapped, PlainColumn) else "…"


def _type_name(oid: int) -> str:
    known = psycopg.adapters.types.get(oid)
    return known.name if known else f"a type of the database's own (oid {oid})"

"""SQL from identifiers and the configuration's expressions, and the columns that these name in `depends_on`.

Names are always quoted. Expressions (`columns.*.sql`, `where`), the operator's own code, are put in as they are, in
brackets. Nothing from a row becomes part of a statement.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from psycopg.sql import NULL, SQL, Composable, Composed, Identifier, Literal

from cdc_sync import packaged
from cdc_sync.config import Column, PlainColumn, SqlColumn, Watch
from cdc_sync.core.identifiers import QualifiedName, requoted, unwritten, written
from cdc_sync.own_path import packaged_sql

Part: TypeAlias = Composable | Iterable[Composable] | str | int


def fragment(text: str) -> SQL:
    """SQL for a statement with parameters: `%` stands for itself."""
    return SQL(text.replace("%", "%%"))


def composed(text: str, *parts: Part, **named: Part) -> Composed:
    """SQL with its parts: a list with commas, a text or a number as a literal."""
    return SQL(text).format(*map(_whole, parts), **{name: _whole(part) for name, part in named.items()})


def render(text: str, *parts: Part, **named: Part) -> str:
    """As `composed`, for a script, whose dollar quotes no part can end."""
    whole, whole_named = [*map(_whole, parts)], {name: _whole(part) for name, part in named.items()}
    text = requoted(text, [part.as_string() for part in (*whole, *whole_named.values())])
    return SQL(text).format(*whole, **whole_named).as_string()


def _whole(part: Part) -> Composable:
    if isinstance(part, str | int):
        return Literal(part)
    return part if isinstance(part, Composable) else SQL(", ").join(part)


def among(values: Iterable[str]) -> Composed:
    """A condition, behind what it is about: one of these values."""
    return composed("IN ({})", [*map(Literal, values)] or [NULL])


def table(qualified: QualifiedName) -> Composable:
    """A table's name, quoted, for a script, where `%` needs no doubling."""
    return Identifier(*filter(None, qualified))


def name(*parts: str) -> Identifier:
    """A name, quoted, for a statement with parameters."""
    return Identifier(*(part.replace("%", "%%") for part in parts))


def literal(text: str) -> Literal:
    """A text, quoted, for a statement with parameters."""
    return Literal(text.replace("%", "%%"))


def column(column_name: str) -> Composed:
    """A column of the watch's table, which statements call `t`."""
    return composed("t.{}", name(column_name))


def template(file: str) -> str:
    """One of the .sql files."""
    return packaged_sql(f"ats/sql/{file}")


@cache
def sections(file: str) -> dict[str, str]:
    """The parts of a .sql file by name (`-- name: …`), without comment lines."""
    return packaged.sections(template(file))


def arrays(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows as parameters: an array for each column."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def catalog(name: str) -> str:
    """A statement of `sql/catalog.sql`."""
    return sections("catalog.sql")[name]


POSTGRESQLS_OWN = "pg_catalog"
"""The schema of PostgreSQL's own operators."""


def operator(symbol: str, schema: str | None = POSTGRESQLS_OWN) -> SQL:
    """An operator with its schema: without (None), it could be one that somebody put into the search_path."""
    return fragment(symbol if schema is None else f"OPERATOR({written(schema)}.{symbol})")


def common_schema(schemas: Iterable[str | None]) -> str | None:
    """The schema of all these operators; None if they have several, since a comparison of rows names one."""
    found = set(schemas)
    return found.pop() if len(found) == 1 else None


_SAME_IN_EVERY_SESSION = re.compile(r"smallint|integer|bigint|uuid|text|character varying(\(\d+\))?")


def key_text(value: Composable, type_: str = "") -> Composed:
    """A key column's value as text, the same in every session as far as possible.

    `::text` takes much less time, but follows DateStyle and its like.
    """
    if _SAME_IN_EVERY_SESSION.fullmatch(type_):
        return composed("{}::text", value)
    return composed("(pg_catalog.to_json({}) OPERATOR(pg_catalog.#>>) '{{}}')", value)


def expression(one: Column) -> Composed:
    """A mapped column or expression, over `t`."""
    if isinstance(one, PlainColumn):
        return column(one.name)
    # The line break ends a trailing comment.
    return composed("({}\n)", fragment(one.sql))


def spellings_in_url(application_id: str) -> set[str]:
    """An id's spellings in a status URL: as it is, and percent-encoded in two ways."""
    return {application_id, quote(application_id, safe=""), quote(application_id, safe="!$&'()*+,;=:@")}


Columns: TypeAlias = tuple[str, ...] | None
"""Column names in order; None: maybe all of the table, as an expression has no `depends_on`."""


class SideTable(NamedTuple):
    """A table with the watched rows' HelloWork ids or URLs; `key` are its columns with their key, in its order."""

    table: QualifiedName
    column: str
    key: tuple[str, ...]


def side_table(watch: Watch, one: Column | None) -> SideTable | None:
    """The side table of an expression in the form that `cdc-sync sql id-table` prints; None for any other.

    It is one under `related`, so that its columns with the key are known.
    """
    if not isinstance(one, SqlColumn):
        return None
    for related in watch.related:
        pairs = zip(related.key, watch.key, strict=False)
        on = " AND ".join(rf"(?P=s)\.{_spelled(own)} = t\.{_spelled(key)}" for own, key in pairs)
        table = r"\.".join(map(_spelled, filter(None, related.table)))
        form = rf'\(SELECT (?P<s>\w+)\.(\w+|"[^"]+") FROM {table} (?P=s) WHERE {on}\)'  # noqa: S608 - no SQL
        found = re.fullmatch(form, one.sql.strip())
        if found is not None and found["s"].lower() != "t" and len(related.key) == len(watch.key):
            return SideTable(related.table, unwritten(found[2]), related.key)
    return None


def _spelled(one: str) -> str:
    """A pattern of a name: as `sql id-table` writes it, or in double quotes, as `{schema}` is put in."""
    return f"(?:{re.escape(written(one))}|{re.escape(Identifier(one).as_string())})"


_METADATA = ("columns.event_date", "columns.source", "columns.created", "extra.")
"""Places of what is sent and not compared."""


def by_place(watch: Watch) -> dict[str, Column]:
    """All columns and expressions, by their place in the watch: `columns.…`, `extra.…` or `where`."""
    found = {f"columns.{name}": getattr(watch.columns, name) for name in type(watch.columns).model_fields}
    found |= {f"extra.{name}": extra.mapped for name, extra in watch.extra.items()}
    return {place: column for place, column in {**found, "where": watch.where}.items() if column is not None}


def compared_by_place(watch: Watch) -> dict[str, Column]:
    """Those without metadata, which most updates touch."""
    return {place: column for place, column in by_place(watch).items() if not place.startswith(_METADATA)}


def undeclared(watch: Watch) -> list[str]:
    """The places of compared expressions without `depends_on`."""
    return [place for place, column in compared_by_place(watch).items() if columns_of(column) is None]


def watched(watch: Watch) -> Columns:
    """The columns of the key, `columns`, `extra` and `where`."""
    return _used(watch, by_place(watch).values())


def compared(watch: Watch) -> Columns:
    """The same without metadata: what the UPDATE trigger compares."""
    return _used(watch, compared_by_place(watch).values())


def columns_of(one: Column) -> Columns:
    """The columns that a value is made of."""
    return (one.name,) if isinstance(one, PlainColumn) else one.depends_on


def _used(watch: Watch, columns: Iterable[Column]) -> Columns:
    names = dict.fromkeys(watch.key)
    for used in map(columns_of, columns):
        if used is None:
            return None
        names |= dict.fromkeys(used)
    return tuple(names)

"""SQL from identifiers and the configuration's expressions, and the columns that these use.

Names are always quoted. Expressions (`columns.*.sql`, `where`), the operator's own code, are put in as they are, in
brackets. Nothing from a row becomes part of a statement.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from psycopg import sql

from cdc_sync.config import Column, PlainColumn, SqlColumn, Watch
from cdc_sync.core.identifiers import QualifiedName, requoted, unwritten, written
from cdc_sync.own_path import packaged_sql

Part: TypeAlias = sql.Composable | Iterable[sql.Composable] | str | int


def fragment(text: str) -> sql.SQL:
    """SQL for a statement with parameters: `%` stands for itself."""
    return sql.SQL(text.replace("%", "%%"))


def composed(text: str, *parts: Part, **named: Part) -> sql.Composed:
    """SQL with its parts: a list with commas, a text or a number as a literal."""
    return sql.SQL(text).format(*map(_whole, parts), **{name: _whole(part) for name, part in named.items()})


def render(text: str, *parts: Part, **named: Part) -> str:
    """As `composed`, for a script, whose dollar quotes no part can end."""
    whole, whole_named = [*map(_whole, parts)], {name: _whole(part) for name, part in named.items()}
    text = requoted(text, [part.as_string() for part in (*whole, *whole_named.values())])
    return sql.SQL(text).format(*whole, **whole_named).as_string()


def _whole(part: Part) -> sql.Composable:
    if isinstance(part, str | int):
        return sql.Literal(part)
    return part if isinstance(part, sql.Composable) else sql.SQL(", ").join(part)


def table(qualified: QualifiedName) -> sql.Composable:
    """A table's name, quoted, for a script, where `%` needs no doubling."""
    return sql.Identifier(*([] if qualified.schema is None else [qualified.schema]), qualified.name)


def name(*parts: str) -> sql.Identifier:
    """A name, quoted, for a statement with parameters."""
    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def literal(text: str) -> sql.Literal:
    """A text, quoted, for a statement with parameters."""
    return sql.Literal(text.replace("%", "%%"))


def column(column_name: str) -> sql.Composed:
    """A column of the watch's table, which statements call `t`."""
    return composed("t.{}", name(column_name))


def template(file: str) -> str:
    """One of the .sql files."""
    return packaged_sql(f"source/sql/{file}")


@cache
def sections(file: str) -> dict[str, str]:
    """The parts of a .sql file by name (`-- name: …`), without comment lines."""
    _, *parts = re.split(r"^-- name: (\w+)\n", template(file), flags=re.MULTILINE)
    bodies = (re.sub(r"^--.*\n", "", body, flags=re.MULTILINE).strip("\n") for body in parts[1::2])
    return dict(zip(parts[::2], bodies, strict=True))


def arrays(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows as parameters: an array for each column."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def catalog(name: str) -> str:
    """A statement of `sql/catalog.sql`, with those that it has in braces."""
    found = sections("catalog.sql")
    return re.sub(r"\{(\w+)\}", lambda other: found.get(other[1], other[0]), found[name])


POSTGRESQLS_OWN = "pg_catalog"
"""The schema of PostgreSQL's own operators."""


def operator(symbol: str, schema: str | None = POSTGRESQLS_OWN) -> sql.SQL:
    """An operator with its schema: without (None), it could be one that somebody put into the search_path."""
    return fragment(symbol if schema is None else f"OPERATOR({written(schema)}.{symbol})")


def common_schema(schemas: Iterable[str]) -> str | None:
    """The schema of all these operators; None if they have several, since a comparison of rows names one."""
    found = set(schemas)
    return found.pop() if len(found) == 1 else None


_SAME_IN_EVERY_SESSION = re.compile(r"smallint|integer|bigint|uuid|text|character varying(\(\d+\))?")
_SAME_AS_JSON = re.compile(
    r"numeric(\(\d+,-?\d+\))?|character(\(\d+\))?|boolean|date|timestamp(\(\d\))? without time zone"
)


def key_text(value: sql.Composable, type_: str = "") -> sql.Composed:
    """A key column's value as text, the same in every session as far as possible.

    `::text` takes much less time, but follows DateStyle and its like.
    """
    if _SAME_IN_EVERY_SESSION.fullmatch(type_):
        return composed("{}::text", value)
    return composed("(pg_catalog.to_json({}) OPERATOR(pg_catalog.#>>) '{{}}')", value)


def may_depend_on_session(type_: str) -> bool:
    """Whether a setting, as TimeZone, may change this type's `key_text`."""
    return not (_SAME_IN_EVERY_SESSION.fullmatch(type_) or _SAME_AS_JSON.fullmatch(type_))


def expression(one: Column) -> sql.Composed:
    """A mapped column or expression, over `t`."""
    if isinstance(one, PlainColumn):
        return column(one.name)
    # The line break ends a trailing comment.
    return composed("({}\n)", fragment(one.sql))


def spellings_in_url(application_id: str) -> set[str]:
    """An id's spellings in a status URL: as it is, and percent-encoded in two ways."""
    return {application_id, quote(application_id, safe=""), quote(application_id, safe="!$&'()*+,;=:@")}


# Reserved words, which name no column, of conditions and sub-selects. Others (`date`, `between`) may name one: `_TOKEN`
# skips them as parts of phrases only.
# fmt: off
_WORDS = frozenset({
    "and", "or", "not", "is", "null", "true", "false", "in", "like", "ilike", "similar",
    "any", "all", "some", "array", "distinct", "from", "cast", "as", "case", "when", "then", "else", "end",
    "collate", "symmetric",
})
_WORDS_OF_SELECT = _WORDS | {
    "select", "where", "on", "join", "left", "right", "inner", "full", "outer", "cross", "lateral",
    "order", "asc", "desc", "limit", "offset", "group", "having",
}
# fmt: on
_TIMES = r"(?:date|time|timestamp|timestamptz|interval)"
# What stands behind a column named `between`, and begins no operand of BETWEEN.
_BEHIND = "|".join(
    {"at", "between", "isnull", "notnull", "operator", "overlaps", "nulls", "union", "except", "intersect", "fetch"}
    | _WORDS_OF_SELECT - {"null", "true", "false", "array", "case", "cast", "left", "right", "symmetric"}
)
_LETTER = r"[^\0-#%-/:-@\[-^`{-\x7f]"  # [\w$\x80-\U0010ffff] takes 50 ms to compile
_NAME = rf'(?:(?![0-9$]){_LETTER}+|"(?:[^"]|"")+")'
_FROM = re.compile(
    rf"\b(?:FROM|JOIN)\s+(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})\s+(?:AS\s+)?(?P<alias>{_NAME})",
    re.IGNORECASE,
)
_LOOKUP = re.compile(
    rf"\(?\s*SELECT\s+(?P<owner>{_NAME})\s*\.\s*(?P<column>{_NAME})\s+{_FROM.pattern}\s+WHERE\s+(?P<on>.+?)\s*\)?",
    re.IGNORECASE | re.DOTALL,
)
_EQUAL = re.compile(rf"\s*({_NAME})\s*\.\s*({_NAME})\s*=\s*({_NAME})\s*\.\s*({_NAME})\s*")
_TOKEN = re.compile(
    rf"""
      (?P<skip> \s+ | --[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | [0-9][\w.]* | ::\s*[\w. \[\]"]+? (?=\W|$)
        | \b(?i: between \s+ (?! (?:{_BEHIND}) \b ) (?= [\w'"(] | -\s*[\w.]+ \s+ and \b )
          | {_TIMES} \s* (?=') | as \s+ {_TIMES} \b | at \s+ time \s+ zone \b | is \s+ (?:not \s+)? unknown \b
          | nulls \s+ (?:first|last) \b | (?P<sorts> (?:group|order) \s+ by \b ) ) )
    | (?P<owner> {_NAME} ) \s*\.\s* (?P<column> {_NAME} | \* ) (?! {_LETTER} | \s* [.(] )
    | (?P<call> (?:(?P<schema>{_NAME})\s*\.\s*)? {_NAME} \s* (?=\() )
    | (?P<name> {_NAME} )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def same(one: QualifiedName, other: QualifiedName) -> bool:
    """Whether two names may be one table's; a missing schema fits any."""
    return one.name == other.name and (one.schema or other.schema) == (other.schema or one.schema)


class Dependencies(NamedTuple):
    """Column names in order; not `complete` if an expression may use others."""

    columns: tuple[str, ...]
    complete: bool


class SideTable(NamedTuple):
    """A table with the watched rows' HelloWork ids or URLs; `key` are its columns with their key, in its order."""

    table: QualifiedName
    column: str
    key: tuple[str, ...]


def side_table(watch: Watch, one: Column | None) -> SideTable | None:
    """The side table of an expression `SELECT s.value FROM table s WHERE s.key = t.key`; None for any other."""
    match = _LOOKUP.fullmatch(one.sql.strip()) if isinstance(one, SqlColumn) else None
    if match is None or (alias := unwritten(match["alias"])) == "t" or unwritten(match["owner"]) != alias:
        return None
    if match["table"].lower() in ("only", "lateral"):  # the table looks like the alias then
        return None
    key: dict[str, str] = {}
    for pair in re.split(r"\bAND\b", match["on"], flags=re.IGNORECASE):
        equal = _EQUAL.fullmatch(pair)
        owner, column, other, of_other = map(unwritten, equal.groups()) if equal else [""] * 4
        sides = {owner: column, other: of_other}
        if sides.keys() != {alias, "t"} or sides["t"] in key:
            return None
        key[sides["t"]] = sides[alias]
    if key.keys() != set(watch.key):
        return None
    return SideTable(_table(match), unwritten(match["column"]), tuple(key[column] for column in watch.key))


def mapped(watch: Watch) -> dict[str, Column]:
    """The payload's columns and expressions, by their place in `columns`, or as `extra.…`."""
    found = {name: getattr(watch.columns, name) for name in type(watch.columns).model_fields}
    found |= {f"extra.{name}": extra.mapped for name, extra in watch.extra.items()}
    return {name: column for name, column in found.items() if column is not None}


def watched(watch: Watch) -> Dependencies:
    """The columns of the key, `columns`, `extra` and `where`."""
    return _used(watch, mapped(watch).values())


def compared(watch: Watch) -> Dependencies:
    """The same without metadata, which most updates touch: what the UPDATE trigger compares."""
    metadata = {"event_date", "source", "created", *(f"extra.{name}" for name in watch.extra)}
    return _used(watch, [column for name, column in mapped(watch).items() if name not in metadata])


def _used(watch: Watch, columns: Iterable[Column]) -> Dependencies:
    parts = [Dependencies(watch.key, complete=True), *map(columns_of, columns), columns_in(watch.where or "")]
    return _together(parts)


def columns_of(one: Column) -> Dependencies:
    """The columns of a mapped column or expression."""
    if isinstance(one, PlainColumn):
        return Dependencies((one.name,), complete=True)
    return columns_in(one.sql) if one.depends_on is None else Dependencies(one.depends_on, complete=True)


def columns_in(text: str) -> Dependencies:
    """The columns that an expression names as `t.column`; complete if nothing else in it could be one.

    What sorts or groups may read other rows.
    """
    found = list(_TOKEN.finditer(text))
    others = any(match["schema"] or match["sorts"] or match["owner"] not in {None, "t"} for match in found)
    named = _columns(found, {"t"}, _WORDS)
    return Dependencies(named.columns, named.complete and not others)


def columns_of_related(watch: Watch, related: QualifiedName) -> Dependencies:
    """The same of a related table, as `alias.column` behind `FROM table alias`; complete only if there are some."""
    parts: list[Dependencies] = []
    texts = [one.sql for one in mapped(watch).values() if isinstance(one, SqlColumn)]
    for text in (*texts, watch.where or ""):
        aliases = {unwritten(found["alias"]) for found in _FROM.finditer(text) if same(related, _table(found))}
        if aliases:
            named = _columns(_TOKEN.finditer(_FROM.sub(" ", text)), aliases, _WORDS_OF_SELECT)
            has_alias = not aliases & _WORDS_OF_SELECT  # FROM table WHERE …: no alias
            parts.append(Dependencies(named.columns, named.complete and has_alias))
        elif re.search(rf"\b{re.escape(related.name)}\b", text):
            parts.append(Dependencies((), complete=False))
    found = _together(parts)
    return Dependencies(found.columns, found.complete and bool(found.columns))


def _columns(tokens: Iterable[re.Match[str]], owners: Collection[str], words: Collection[str]) -> Dependencies:
    tokens = list(tokens)
    own = [each["column"] for each in tokens if each["owner"] and unwritten(each["owner"]) in owners]
    others = any(each["name"] and each["name"].lower() not in words for each in tokens)
    # A single-byte database folds other letters than ASCII too.
    others = others or any(name[0] != '"' and unwritten(name) != name.lower() for name in own if name != "*")
    names = dict.fromkeys(unwritten(name) for name in own if name != "*")
    return Dependencies(tuple(names), not others and "*" not in own)


def _together(parts: list[Dependencies]) -> Dependencies:
    names = dict.fromkeys(name for part in parts for name in part.columns)
    return Dependencies(tuple(names), all(part.complete for part in parts))


def _table(found: re.Match[str]) -> QualifiedName:
    return QualifiedName(unwritten(found["schema"]) if found["schema"] else None, unwritten(found["table"]))

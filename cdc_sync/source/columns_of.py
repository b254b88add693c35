"""Which columns of its table, and of related ones, a watch depends on: for the triggers' comparison and for grants.

Grants are by column, for the tables hold personal data.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cdc_sync.config import Column, PlainColumn, SqlColumn, Watch
from cdc_sync.core.identifiers import QualifiedName

# What may stand in a simple condition, and in a sub-select, without naming a column.
# fmt: off
_WORDS = frozenset({
    "and", "or", "not", "is", "null", "true", "false", "unknown", "in", "like", "ilike", "similar", "between",
    "any", "all", "some", "array", "distinct", "from", "cast", "as", "case", "when", "then", "else", "end",
    "interval", "date", "timestamp", "timestamptz", "time", "collate", "at", "zone", "symmetric",
})
_WORDS_OF_SELECT = _WORDS | {
    "select", "exists", "where", "on", "join", "left", "right", "inner", "full", "outer", "cross", "lateral",
    "order", "by", "asc", "desc", "nulls", "first", "last", "limit", "offset", "group", "having",
}
# fmt: on
_TOKEN = re.compile(
    r"""
      (?P<skip> \s+ | --[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \d[\w.]* | ::\s*[\w. \[\]"]+? (?=\W|$) )
    | (?P<column> \bt\s*\.\s*(?: "(?P<quoted>(?:[^"]|"")+)" | (?P<plain>[A-Za-z_]\w*) ) )
    | (?P<call> [A-Za-z_]\w* \s* (?=\() )
    | (?P<name> [A-Za-z_]\w* | "(?:[^"]|"")+" )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)

_NAME = r'(?:[A-Za-z_]\w*|"(?:[^"]|"")+")'
_FROM = re.compile(
    rf"\b(?:FROM|JOIN)\s+(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})\s+(?:AS\s+)?(?P<alias>{_NAME})",
    re.IGNORECASE,
)
_TOKEN_OF_SELECT = re.compile(
    rf"""
      (?P<skip> \s+ | --[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \d[\w.]* | ::\s*[\w. \[\]"]+? (?=\W|$) )
    | (?P<owner> {_NAME} ) \s*\.\s* (?P<column> {_NAME} | \* ) (?! \s* [.(] )
    | (?P<call> (?:{_NAME}\s*\.\s*)? {_NAME} \s* (?=\() )
    | (?P<name> {_NAME} )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Column names in order; `complete` is false if an expression may use others that cannot be told."""

    columns: tuple[str, ...]
    complete: bool


def watched(watch: Watch) -> Dependencies:
    """What a change of must be noticed: the key, every mapped column, and what `where` and expressions use."""
    names: dict[str, None] = dict.fromkeys(watch.key)
    complete = True
    for column in _mapped(watch):
        if isinstance(column, PlainColumn):
            names[column.name] = None
        elif column.depends_on is not None:
            names |= dict.fromkeys(column.depends_on)
        else:
            found = columns_in(column.sql)
            names |= dict.fromkeys(found.columns)
            complete = complete and found.complete
    if watch.where is not None:
        found = columns_in(watch.where)
        names |= dict.fromkeys(found.columns)
        complete = complete and found.complete
    return Dependencies(tuple(names), complete)


def compared(watch: Watch) -> Dependencies:
    """What the UPDATE trigger compares: as `watched`, without what only rides along in a call.

    `event_date` usually names the column that every update touches; comparing it would log every cosmetic one.
    """
    reduced = watch.model_copy(
        update={
            "columns": watch.columns.model_copy(update={"event_date": None, "source": None, "created": None}),
            "extra": {},
        }
    )
    return watched(reduced)


def columns_in(expression: str) -> Dependencies:
    """The columns that an SQL expression over `t` names as `t.column`.

    Complete only if nothing else in it could be a column: an unqualified name could, so it makes the answer incomplete,
    and the caller assumes that every column matters.
    """
    names: dict[str, None] = {}
    complete = True
    for match in _TOKEN.finditer(expression):
        if match["quoted"]:
            names[match["quoted"].replace('""', '"')] = None
        elif match["plain"]:
            names[_folded(match["plain"])] = None
        elif match["name"] and match["name"].lower() not in _WORDS:
            complete = False
    return Dependencies(tuple(names), complete)


def columns_of_related(watch: Watch, table: QualifiedName) -> Dependencies:
    """The columns that expressions name as `alias.column`, where the alias was given as `FROM table alias`.

    Complete only if the table is read in this way somewhere, and nothing else could be a column of it.
    """
    names: dict[str, None] = {}
    complete, read = True, False
    texts = [column.sql for column in _mapped(watch) if isinstance(column, SqlColumn)]
    for text in filter(None, (*texts, watch.where)):
        aliases = {
            _plain(found["alias"]) for found in _FROM.finditer(text) if _is(table, found["schema"], found["table"])
        }
        mentioned = re.search(rf"\b{re.escape(table.name)}\b", text) is not None
        if not aliases:
            complete = complete and not mentioned
            continue
        read = True
        complete = complete and not aliases & _WORDS_OF_SELECT  # FROM table WHERE …: no alias at all
        for match in _TOKEN_OF_SELECT.finditer(_FROM.sub(" ", text)):
            if match["owner"] and _plain(match["owner"]) in aliases:
                complete = complete and match["column"] != "*"
                names[_plain(match["column"])] = None
            elif match["name"] and match["name"].lower() not in _WORDS_OF_SELECT:
                complete = False
    return Dependencies(tuple(names), complete and read and bool(names))


def _mapped(watch: Watch) -> Iterator[Column]:
    """Every column and expression that the payload is made of."""
    for name in type(watch.columns).model_fields:
        if (column := getattr(watch.columns, name)) is not None:
            yield column
    for extra in watch.extra.values():
        yield extra.column


def _is(table: QualifiedName, schema: str | None, name: str) -> bool:
    return _plain(name) == table.name and (schema is None or table.schema is None or _plain(schema) == table.schema)


def _plain(name: str) -> str:
    """A name as the catalog has it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else _folded(name)


def _folded(name: str) -> str:
    """An unquoted name as the catalog has it: in a UTF-8 database PostgreSQL folds ASCII letters alone."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)

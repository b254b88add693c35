"""Which columns of another table a watch's expressions read, for column-level grants: it may hold personal data."""

import re
from collections.abc import Iterator

from cdc_sync.config import SqlColumn, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.columns_of import WORDS, Dependencies, folded

# What may stand in a sub-select without naming a column.
# fmt: off
_WORDS = WORDS | {
    "select", "exists", "where", "on", "join", "left", "right", "inner", "full", "outer", "cross", "lateral",
    "order", "by", "asc", "desc", "nulls", "first", "last", "limit", "offset", "group", "having",
}
# fmt: on
_NAME = r'(?:[A-Za-z_]\w*|"(?:[^"]|"")+")'
_FROM = re.compile(
    rf"\b(?:FROM|JOIN)\s+(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})\s+(?:AS\s+)?(?P<alias>{_NAME})",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    rf"""
      (?P<skip> \s+ | --[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \d[\w.]* | ::\s*[\w. \[\]"]+? (?=\W|$) )
    | (?P<owner> {_NAME} ) \s*\.\s* (?P<column> {_NAME} | \* ) (?! \s* [.(] )
    | (?P<call> (?:{_NAME}\s*\.\s*)? {_NAME} \s* (?=\() )
    | (?P<name> {_NAME} )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def columns_of_related(watch: Watch, table: QualifiedName) -> Dependencies:
    """The columns that expressions name as `alias.column`, where the alias was given as `FROM table alias`.

    Complete only if the table is read in this way somewhere, and nothing else could be a column of it.
    """
    names: dict[str, None] = {}
    complete, read = True, False
    for text in _expressions(watch):
        aliases = {
            _plain(found["alias"]) for found in _FROM.finditer(text) if _is(table, found["schema"], found["table"])
        }
        mentioned = re.search(rf"\b{re.escape(table.name)}\b", text) is not None
        if not aliases:
            complete = complete and not mentioned
            continue
        read = True
        complete = complete and not aliases & _WORDS  # FROM table WHERE …: no alias at all
        for match in _TOKEN.finditer(_FROM.sub(" ", text)):
            if match["owner"] and _plain(match["owner"]) in aliases:
                complete = complete and match["column"] != "*"
                names[_plain(match["column"])] = None
            elif match["name"] and match["name"].lower() not in _WORDS:
                complete = False
    return Dependencies(tuple(names), complete and read and bool(names))


def _expressions(watch: Watch) -> Iterator[str]:
    for mapped in (
        *(getattr(watch.columns, name) for name in type(watch.columns).model_fields),
        *(extra.column for extra in watch.extra.values()),
    ):
        if isinstance(mapped, SqlColumn):
            yield mapped.sql
    if watch.where is not None:
        yield watch.where


def _is(table: QualifiedName, schema: str | None, name: str) -> bool:
    return _plain(name) == table.name and (schema is None or table.schema is None or _plain(schema) == table.schema)


def _plain(name: str) -> str:
    """A name as the catalog has it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else folded(name)

"""Which columns of its table a watch depends on: for the triggers' comparison and for column-level grants."""

import re
from dataclasses import dataclass

from cdc_sync.config import Column, PlainColumn, Watch

# What may stand in a simple condition without naming a column.
# fmt: off
WORDS = frozenset({
    "and", "or", "not", "is", "null", "true", "false", "unknown", "in", "like", "ilike", "similar", "between",
    "any", "all", "some", "array", "distinct", "from", "cast", "as", "case", "when", "then", "else", "end",
    "interval", "date", "timestamp", "timestamptz", "time", "collate", "at", "zone", "symmetric",
})
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


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Column names in order; `complete` is false if an expression may use others that cannot be told."""

    columns: tuple[str, ...]
    complete: bool


def watched(watch: Watch) -> Dependencies:
    """What a change of must be noticed: the key, every mapped column, and what `where` and expressions use."""
    names: dict[str, None] = dict.fromkeys(watch.key)
    complete = True
    mapped: list[Column | None] = [
        watch.columns.application_id,
        watch.columns.status_url,
        watch.columns.status,
        watch.columns.job_id,
        watch.columns.created,
        watch.columns.event_date,
        watch.columns.source,
        watch.columns.deleted,
        *(extra.column for extra in watch.extra.values()),
    ]
    for column in mapped:
        if isinstance(column, PlainColumn):
            names[column.name] = None
        elif column is not None and column.depends_on is not None:
            names |= dict.fromkeys(column.depends_on)
        elif column is not None:
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
            names[folded(match["plain"])] = None
        elif match["name"] and match["name"].lower() not in WORDS:
            complete = False
    return Dependencies(tuple(names), complete)


def folded(name: str) -> str:
    """An unquoted name as the catalog has it: in a UTF-8 database PostgreSQL folds ASCII letters alone."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)

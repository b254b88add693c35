"""The store's statements: written once in `sql/statements.sql`, with a token where the two databases differ.

| token                | SQLite                                 | PostgreSQL                                         |
|----------------------|----------------------------------------|----------------------------------------------------|
| `:name`              | a named parameter                      | `%(name)s`                                         |
| `@snapshot`          | the table                              | `cdc_sync.snapshot`                                |
| `@in(ids)`           | `IN` the values of a JSON list         | `= ANY` of a text array                            |
| `@pairs(keys)`       | `IN` the pairs of a JSON list          | `IN` the rows of two arrays                        |
| `FROM @rows`, `x.id` | nothing; a parameter. Run for each row | all rows, as `x`: unnested arrays. Run once        |
| `SELECT … FROM @rows` | `VALUES (…)` in an `INSERT`           | as above                                           |
| `@lock`, `@lock(o)`  | nothing: one writes at a time          | `FOR UPDATE`, `FOR UPDATE OF o`                    |

A statement for many rows names its columns and their types: `-- name: claim(watch text, application_id text)`. What one
database says in another way stands in `sql/DATABASE/own.sql` by the same name; no text at all: there is nothing to do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Database = Literal["sqlite", "postgres"]

_HEAD = re.compile(r"^-- name: (\w+)(?:\((.*)\))?\s*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_FROM_ROWS = re.compile(r"\s+FROM @rows\b")
_INSERTED_ROWS = re.compile(r"\bSELECT (.*?)\s+FROM @rows(?: WHERE TRUE)?", re.DOTALL)
_ROW_COLUMN = re.compile(r"\bx\.(\w+)")
_IN = re.compile(r"@in\((\w+)\)")
_PAIRS = re.compile(r"@pairs\((\w+)\)")
_LOCK = re.compile(r"\s*@lock\b(?:\((\w+)\))?")
_TABLE = re.compile(r"@([a-z_]+)")
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of one database; `columns` are those of the rows that it takes, with their types."""

    text: str
    columns: tuple[tuple[str, str], ...] = ()


@cache
def statements(database: Database) -> Mapping[str, Statement]:
    """All statements by name, as this database says them."""
    return {
        name: Statement(_rendered(body, columns, database), columns)
        for file in ("statements.sql", f"{database}/own.sql")
        for name, columns, body in _parts(text(file))
    }


@cache
def text(file: str) -> str:
    """The text of a file below `sql/`."""
    return files("cdc_sync.store").joinpath("sql", file).read_text(encoding="utf-8")


def migrations(database: Database) -> list[str]:
    """The names of a database's migrations, `NNN_what.sql`, in order; the position in the list + 1 is the version."""
    names = sorted(entry.name for entry in files("cdc_sync.store").joinpath("sql", database).iterdir())
    return [f"{database}/{name}" for name in names if name[:3].isdigit()]


def _parts(source: str) -> list[tuple[str, tuple[tuple[str, str], ...], str]]:
    parts = _HEAD.split(source)
    found = []
    for name, columns, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pairs = (column.split() for column in (columns or "").split(",") if column)
        found.append((name, tuple((pair[0], pair[1]) for pair in pairs), _COMMENT.sub("", body).strip().rstrip(";")))
    return found


def _rendered(body: str, columns: tuple[tuple[str, str], ...], database: Database) -> str:
    names = [name for name, _ in columns]
    if database == "sqlite":
        # The row's values stand where its columns are named: SQLite has nothing to unnest. An INSERT of a SELECT could
        # be of many rows: SQLite would copy each page that it changes, to be able to undo one when the next fails.
        if body.startswith("INSERT"):
            body = _INSERTED_ROWS.sub(r"VALUES (\1)", body)
        body = _ROW_COLUMN.sub(lambda column: f"?{names.index(column[1]) + 1}", _FROM_ROWS.sub("", body))
        body = _IN.sub(r"IN (SELECT value FROM json_each(:\1))", body)
        pair = r"IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:\1))"
        return _TABLE.sub(r"\1", _LOCK.sub("", _PAIRS.sub(pair, body)))
    arrays = ", ".join(f":{name}::{kind}[]" for name, kind in columns)
    body = body.replace("@rows", f"unnest({arrays}) AS x ({', '.join(names)})")
    body = _IN.sub(r"= ANY (:\1::text[])", body)
    body = _PAIRS.sub(r"IN (SELECT * FROM unnest(:\1_first::text[], :\1_second::text[]))", body)
    return _PARAMETER.sub(r"%(\1)s", _TABLE.sub(r"cdc_sync.\1", _LOCK.sub(_for_update, body)))


def _for_update(token: re.Match[str]) -> str:
    return "\n   FOR UPDATE" + (f" OF {token[1]}" if token[1] else "")

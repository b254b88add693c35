"""The store's statements: written once in `sql/statements.sql`, with a token where the two databases differ.

| token               | SQLite                               | PostgreSQL                      |
|---------------------|--------------------------------------|---------------------------------|
| `:name`             | a named parameter                    | `%(name)s`                      |
| `@snapshot`         | the table                            | `cdc_sync.snapshot`             |
| `@transition`       | the text of `sql/transition.sql`     | the same                        |
| `@clock`            | the machine's time in milliseconds   | the server's                    |
| `@in(ids)`          | `IN` the values of a JSON list       | `= ANY` of a text array         |
| `@pairs(keys)`      | `IN` the pairs of a JSON list        | `IN` the rows of two arrays     |
| `FROM @rows`, `x.id` | `FROM x`, after `WITH x AS (VALUES …)` | the same, of unnested arrays |
| `SELECT … FROM @rows` in an `INSERT` | `VALUES …`          | as above                        |

A statement with many result rows declares their width, `-- name: due -> 16`: SQLite returns them as one JSON text
(decision 18).

A statement for many rows names its columns and their types: `-- name: remove(watch text, application_id text)`.
`sql/DATABASE/own.sql` overrides a statement by its name; an empty text does nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from cdc_sync import packaged

Database = Literal["sqlite", "postgres"]

_Columns = tuple[tuple[str, str], ...]
"""Names and types."""

_HEAD = re.compile(r"^-- name: (\w+)(?:\((.*)\))?(?: -> (\d+))?\s*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_INSERTED = re.compile(r"SELECT (.*?)\s+FROM @rows(?: WHERE TRUE)?", re.DOTALL)
_COLUMN = re.compile(r"\bx\.\w+")
_IN = re.compile(r"@in\((\w+)\)")
_PAIRS = re.compile(r"@pairs\((\w+)\)")
_TABLE = re.compile(r"@([a-z_]+)")
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)

_CLOCK: dict[Database, str] = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgres": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of one database.

    Attributes:
        text: the SQL. In SQLite's, `@rows` stands for the `row`s of one run.
        columns: of its parameter rows, with their types.

    SQLite only:
        row: one row's parameters, in the order of its columns.
        as_json: whether all result rows come as one JSON text.
    """

    text: str
    columns: _Columns = ()
    row: str = ""
    as_json: bool = False


@cache
def statements(database: Database) -> Mapping[str, Statement]:
    """A database's statements by name."""
    found = {}
    for file in ("statements.sql", f"{database}/own.sql"):
        parts = _HEAD.split(text(file))
        for name, columns, width, body in zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4], strict=True):
            pairs = [(pair.split()[0], pair.split()[1]) for pair in columns.split(",")] if columns else []
            statement = _COMMENT.sub("", body).strip().rstrip(";")
            found[name] = _rendered(statement, tuple(pairs), int(width or 0), database)
    return found


def text(file: str) -> str:
    """The text of a file below `sql/`."""
    return packaged.text(f"store/sql/{file}")


def migrations(database: Database) -> list[str]:
    """A database's migrations, `NNN_what.sql`, in order; the position in the list + 1 is the version."""
    names = sorted(entry.name for entry in files("cdc_sync.store").joinpath("sql", database).iterdir())
    return [f"{database}/{name}" for name in names if name[:3].isdigit()]


def _rendered(body: str, columns: _Columns, width: int, database: Database) -> Statement:
    body = body.replace("@transition", _COMMENT.sub("", text("transition.sql")).strip())
    body = body.replace("@clock", _CLOCK[database])
    return _for_sqlite(body, columns, width) if database == "sqlite" else _for_postgres(body, columns)


def _for_sqlite(body: str, columns: _Columns, width: int) -> Statement:
    row = f"({', '.join('?' * len(columns))})"
    if inserted := _INSERTED.search(body):
        # No SELECT: SQLite would copy each page before changing it, even for a single row.
        row = f"({_COLUMN.sub('?', inserted[1])})"
        body = _INSERTED.sub("VALUES @rows", body)
    elif columns:
        body = f"WITH x ({', '.join(name for name, _ in columns)}) AS (VALUES @rows)\n" + body.replace("@rows", "x")
    body = _IN.sub(r"IN (SELECT value FROM json_each(:\1))", body)
    body = _PAIRS.sub(r"IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:\1))", body)
    body = _TABLE.sub(lambda token: token[0] if token[1] == "rows" else token[1], body)
    if width:
        each = ", ".join(f"c{number}" for number in range(width))
        body = f"WITH r ({each}) AS (\n{body})\nSELECT json_group_array(json_array({each})) FROM r"
    return Statement(body, columns, row, as_json=bool(width))


def _for_postgres(body: str, columns: _Columns) -> Statement:
    arrays = ", ".join(f":{name}::{kind}[]" for name, kind in columns)
    body = body.replace("@rows", f"unnest({arrays}) AS x ({', '.join(name for name, _ in columns)})")
    body = _IN.sub(r"= ANY (:\1::text[])", body)
    body = _PAIRS.sub(r"IN (SELECT * FROM unnest(:\1_first::text[], :\1_second::text[]))", body)
    body = _PARAMETER.sub(r"%(\1)s", _TABLE.sub(r"cdc_sync.\1", body.replace("%", "%%")))
    return Statement(body, columns)

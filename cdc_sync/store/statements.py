"""The store's statements: written once in `sql/statements.sql`, with a token where the two databases differ.

| token               | SQLite                               | PostgreSQL                      |
|---------------------|--------------------------------------|---------------------------------|
| `:name`             | a named parameter                    | `%(name)s`                      |
| `@snapshot`         | the table                            | `cdc_sync.snapshot`             |
| `@transition`       | the text of `sql/transition.sql`     | the same                        |
| `@clock`            | the machine's time in milliseconds   | the server's                    |
| `@lock`             | the number of the leader's lock      | the same                        |
| `@in(ids)`          | `IN` the values of a JSON list       | `= ANY` of a text array         |
| `@each(ids) i`, `i.value` | `json_each`                 | `unnest`                        |
| `@each_pair(keys) k`, `k.first`, `k.second` | pairs of a JSON list | the rows of two arrays |
| `JOIN @found t a WHERE …`, on one line | `JOIN t AS a ON …` | `LATERAL`: see decision 18 |
| `@pairs(keys)`      | `IN` the pairs of a JSON list        | `IN` the rows of two arrays     |
| `FROM @rows`, `x.id` | nothing, and a parameter: one row is written at a time | unnested arrays |
| `SELECT … FROM @rows` | `VALUES (…)`: see decision 18       | as above                        |

A statement for many rows names its columns and their types: `-- name: remove(watch text, application_id text)`.
`sql/DATABASE/own.sql` has what differs, and overrides a statement by its name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from cdc_sync import packaged

Database = Literal["sqlite", "postgres"]

SCHEMA = 12
"""The number of the present schema in both databases. 0.1.0 has 4 or less, 0.2.0 has 8; others were never released."""

LOCK = int.from_bytes(b"cdcs", "big")
"""The first number of the leader's advisory lock, which no other application would choose."""

_Columns = tuple[tuple[str, str], ...]
"""Names and types."""

_HEAD = re.compile(r"^-- name: (\w+)(?:\((.*)\))?\s*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_VALUES = re.compile(r"SELECT ([^()]*?)\s+FROM @rows(?: WHERE TRUE)?")
_ROWS = re.compile(r",\s*@rows\b|@rows,|\bFROM @rows\b(?!,)")
_COLUMN = re.compile(r"\bx\.(\w+)")
_IN = re.compile(r"@in\((\w+)\)")
_FOUND = re.compile(r"(CROSS|LEFT) JOIN @found (\w+) (\w+) WHERE (.*)")
_EACH = re.compile(r"@each\((\w+)\) (\w+)")
_EACH_PAIR = re.compile(r"@each_pair\((\w+)\) (\w+)")
_PAIRS = re.compile(r"@pairs\((\w+)\)")
_TABLE = re.compile(r"@([a-z_]+)")
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)

_CLOCK: dict[Database, str] = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgres": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of one database: its SQL, and the names and types of the columns of its rows."""

    text: str
    columns: _Columns = ()


@cache
def statements(database: Database) -> Mapping[str, Statement]:
    """A database's statements by name."""
    found = {}
    for file in ("statements.sql", f"{database}/own.sql"):
        parts = _HEAD.split(text(file))
        for name, columns, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            pairs = [(pair.split()[0], pair.split()[1]) for pair in columns.split(",")] if columns else []
            statement = _COMMENT.sub("", body).strip().rstrip(";")
            found[name] = _rendered(statement, tuple(pairs), database)
    return found


def text(file: str) -> str:
    """The text of a file below `sql/`."""
    return packaged.text(f"store/sql/{file}")


def _rendered(body: str, columns: _Columns, database: Database) -> Statement:
    body = body.replace("@transition", _COMMENT.sub("", text("transition.sql")).strip())
    body = body.replace("@clock", _CLOCK[database]).replace("@lock", str(LOCK))
    rendered = _for_sqlite(body, columns) if database == "sqlite" else _for_postgres(body, columns)
    return Statement(rendered, columns)


def _for_sqlite(body: str, columns: _Columns) -> str:
    places = {name: f"?{place}" for place, (name, _) in enumerate(columns, start=1)}
    body = _ROWS.sub("", _VALUES.sub(r"VALUES (\1)", body))
    body = _COLUMN.sub(lambda column: places[column[1]], body)
    body = _IN.sub(r"IN (SELECT value FROM json_each(:\1))", body)
    pairs = r"(SELECT json_extract(value, '$[0]') AS first, json_extract(value, '$[1]') AS second FROM json_each(:\1))"
    body = _FOUND.sub(r"\1 JOIN \2 AS \3 ON \4", body)
    body = _EACH.sub(r"json_each(:\1) AS \2", body)
    body = _EACH_PAIR.sub(pairs + r" AS \2", body)
    body = _PAIRS.sub(f"IN {pairs}", body)
    return _TABLE.sub(r"\1", body)


def _for_postgres(body: str, columns: _Columns) -> str:
    arrays = ", ".join(f":{name}::{kind}[]" for name, kind in columns)
    body = body.replace("@rows", f"unnest({arrays}) AS x ({', '.join(name for name, _ in columns)})")
    body = _IN.sub(r"= ANY (:\1::text[])", body)
    pairs = r"unnest(:\1_first::text[], :\1_second::text[])"
    found = r"JOIN LATERAL (SELECT * FROM @\2 \3 WHERE \4 OFFSET 0) AS \3 ON TRUE"
    body = _FOUND.sub(lambda each: each.expand(found if each[1] == "CROSS" else f"LEFT {found}"), body)
    body = _EACH.sub(r"unnest(:\1::text[]) AS \2 (value)", body)
    body = _EACH_PAIR.sub(pairs + r" AS \2 (first, second)", body)
    body = _PAIRS.sub(f"IN (SELECT * FROM {pairs})", body)  # noqa: S608 - of our own statements
    return _PARAMETER.sub(r"%(\1)s", _TABLE.sub(r"cdc_sync.\1", body.replace("%", "%%")))

"""The store's statements: written once in `sql/statements.sql`, with a token where the two databases differ.

| token               | SQLite                               | PostgreSQL                      |
|---------------------|--------------------------------------|---------------------------------|
| `:name`             | a named parameter                    | `%(name)s`                      |
| `@snapshot`         | the table                            | `cdc_sync.snapshot`             |
| `@entry`            | the text of the part `-- name: @entry` | the same                      |
| `@clock`            | the machine's time in milliseconds   | the server's                    |
| `@unlocked`         | nothing                              | `FOR UPDATE SKIP LOCKED`        |
| `@lock`             | the number of the leader's lock      | the same                        |
| `@in(ids)`          | `IN` the values of a JSON list       | `= ANY` of a text array         |
| `@each(ids) i`, `i.value` | `json_each`                 | `unnest`                        |
| `@each_pair(keys) k`, `k.first`, `k.second` | pairs of a JSON list | the rows of two arrays |
| `JOIN @found t a WHERE …`, on one line | `JOIN t AS a ON …` | `LATERAL`: see decision 18 |
| `FROM @rows`, `x.id` | the rows of a JSON list             | unnested arrays                 |
| `INSERT INTO @t @given` | the columns of its head, and their values | the same                |

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

SCHEMA = 13
"""The number of the present schema in both databases."""

MIGRATIONS = dict.fromkeys(range(1, 5), "from_0_1") | {8: "from_0_2"}
"""The scripts that bring released schemas to it: 0.1.0 had 4 or less, 0.2.0 had 8. Others were never released."""

LOCK = int.from_bytes(b"cdcs", "big")
"""The first number of the leader's advisory lock, which no other application would choose."""

_Columns = tuple[tuple[str, str], ...]
"""Names and types."""

_HEAD = re.compile(r"^-- name: (@?\w+)(?:\((.*)\))?\s*$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)

_REWRITES: dict[Database, Mapping[str, str]] = {
    "sqlite": {
        " @unlocked": "",
        "@clock": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
        r"@in\((\w+)\)": r"IN (SELECT value FROM json_each(:\1))",
        r"JOIN @found (\w+) (\w+) WHERE (.*)": r"JOIN \1 AS \2 ON \3",
        r"@each\((\w+)\) (\w+)": r"json_each(:\1) AS \2",
        r"@each_pair\((\w+)\) (\w+)": (
            r"(SELECT json_extract(value, '$[0]') AS first, json_extract(value, '$[1]') AS second"
            r" FROM json_each(:\1)) AS \2"
        ),
        r"@([a-z_]+)": r"\1",
    },
    "postgres": {
        "%": "%%",
        "@unlocked": "FOR UPDATE SKIP LOCKED",
        "@clock": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
        "@lock": str(LOCK),
        "CROSS JOIN @found": "JOIN @found",
        r"@in\((\w+)\)": r"= ANY (:\1::text[])",
        r"JOIN @found (\w+) (\w+) WHERE (.*)": r"JOIN LATERAL (SELECT * FROM @\1 \2 WHERE \3 OFFSET 0) AS \2 ON TRUE",
        r"@each\((\w+)\) (\w+)": r"unnest(:\1::text[]) AS \2 (value)",
        r"@each_pair\((\w+)\) (\w+)": r"unnest(:\1_first::text[], :\1_second::text[]) AS \2 (first, second)",
        r"@([a-z_]+)": r"cdc_sync.\1",
        r"(?<!:):([a-z_]+)": r"%(\1)s",
    },
}
"""Patterns and what takes their place, in this order."""


_TYPES: dict[Database, Mapping[str, str]] = {
    "sqlite": {
        "@number": "INTEGER PRIMARY KEY",
        "@keyed": " WITHOUT ROWID",
        r"\b(bigint|integer|boolean)\b": "INTEGER",
        r"@name\b|\btext\b": "TEXT",
        "float8": "REAL",
        "DEFAULT true": "DEFAULT 1",
        "DEFAULT false": "DEFAULT 0",
        r"@(\w+)": r"\1",
    },
    "postgres": {
        "@number": "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "@keyed": "",
        r"@name\b": 'text COLLATE "C"',
        r"@(\w+)": r"cdc_sync.\1",
    },
}
"""The same of the schema."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of one database: its SQL, and the names and types of the columns of its rows."""

    text: str
    columns: _Columns = ()


@cache
def statements(database: Database) -> Mapping[str, Statement]:
    """A database's statements by name."""
    found, shared = dict[str, Statement](), dict[str, str]()
    for file in ("statements.sql", f"{database}/own.sql"):
        parts = _HEAD.split(text(file))
        for name, columns, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            plain = _COMMENT.sub("", body).strip().rstrip(";")
            for part, its_text in shared.items():
                plain = re.sub(rf"{part}\b", its_text, plain)
            if name.startswith("@"):
                shared[name] = plain
            else:
                pairs = tuple((pair.split()[0], pair.split()[1]) for pair in columns.split(",")) if columns else ()
                found[name] = _rendered(plain, pairs, database)
    return found


@cache
def schema(database: Database) -> str:
    """The script that makes what is missing of the present schema."""
    script = text("schema.sql")
    for pattern, replacement in _TYPES[database].items():
        script = re.sub(pattern, replacement, script)
    return script


def text(file: str) -> str:
    """The text of a file below `sql/`."""
    return packaged.text(f"store/sql/{file}")


def _rendered(body: str, columns: _Columns, database: Database) -> Statement:
    names, values = ", ".join(name for name, _ in columns), ", ".join(f"x.{name}" for name, _ in columns)
    body = body.replace("@given", f"({names}) SELECT {values} FROM @rows WHERE TRUE")  # noqa: S608 - our own
    if database == "sqlite":
        given = ", ".join(f"json_extract(value, '$[{place}]') AS {name}" for place, (name, _) in enumerate(columns))
        rows = f"(SELECT {given} FROM json_each(?1)) AS x"  # noqa: S608 - our own
    else:
        arrays = ", ".join(f":{name}::{kind}[]" for name, kind in columns)
        rows = f"unnest({arrays}) AS x ({names})"
    body = body.replace("@rows", rows)
    for pattern, replacement in _REWRITES[database].items():
        body = re.sub(pattern, replacement, body)
    return Statement(body, columns)

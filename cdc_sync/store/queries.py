"""Named statements from the .sql files beside this module."""

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """Read a file of statements, each introduced by a line `-- name: NAME`."""
    parts = _NAME.split(text(file))
    return dict(zip(parts[1::2], (part.strip().rstrip(";") for part in parts[2::2]), strict=True))


def statements(file: str) -> dict[str, bytes]:
    """The same for psycopg, which takes bytes for SQL that no user's text is part of."""
    return {name: statement.encode() for name, statement in load(file).items()}


@cache
def text(file: str) -> str:
    """The text of a file below `sql/`."""
    return files("cdc_sync.store").joinpath("sql", file).read_text(encoding="utf-8")


def migrations(folder: str) -> list[str]:
    """The names of a folder's migrations, `NNN_what.sql`, in order; the position in the list + 1 is the version."""
    names = sorted(entry.name for entry in files("cdc_sync.store").joinpath("sql", folder).iterdir())
    return [f"{folder}/{name}" for name in names if name[:3].isdigit()]

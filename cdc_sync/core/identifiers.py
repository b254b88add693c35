"""PostgreSQL identifiers as people write them: `applications`, `ats.applications`, `"ATS"."Candidatures"`.

The rules are PostgreSQL's ("Lexical Structure"), with three differences. A name of more than 63 bytes is an error,
where PostgreSQL cuts it off. A name with a control character or a mark of writing direction is refused, since scripts
and terminals would show another name. Key words need no quotes: statements quote every name.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from .visible import UNSAFE

LONGEST = 63
"""Bytes of a name that PostgreSQL keeps (NAMEDATALEN - 1)."""

# Followed by an even number of double quotes, so outside them.
_DOT = re.compile(r'\.(?=(?:[^"]*"[^"]*")*[^"]*\Z)')
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_BARE = re.compile(r"[a-z_][a-z0-9_]*")
# Words that PostgreSQL 10 to 18 does not read as a column's name.
_RESERVED = (
    "all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation "
    "column concurrently constraint create cross current_catalog current_date current_role current_schema current_time "
    "current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze "
    "from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like "
    "limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary "
    "references returning right select session_user similar some symmetric system_user table tablesample then to "
    "trailing true union unique user using variadic verbose when where window with"
)
_KEY_WORDS = frozenset(_RESERVED.split())
_UNQUOTED = re.compile(r"(?![0-9$])[^\0-#%-/:-@\[-^`{-\x7f]+")
_TAG = "$cdc_sync"


class IdentifierError(ValueError):
    """Text that is no identifier; the message explains why, without quoting it as a whole."""


class QualifiedName(NamedTuple):
    """A table's name as the catalog has it; without a schema `search_path` decides."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        """The name in SQL, quoted where needed; `parse_qualified` reads it back."""
        return written(self.name) if self.schema is None else f"{written(self.schema)}.{written(self.name)}"


def parse_qualified(text: str) -> QualifiedName:
    """Read a table's name: `table` or `schema.table`, each part quoted or not.

    Raises:
        IdentifierError: it is not one.
    """
    *above, name = _parts(text, 2, "only a schema and a table may be named (the connection says which database)")
    return QualifiedName(above[0] if above else None, name)


def parse_column(text: str) -> str:
    """Read a column's name, quoted or not.

    Raises:
        IdentifierError: it is not one.
    """
    (name,) = _parts(text, 1, "a column is named alone, without its table")
    return name


def written(name: str) -> str:
    """A name in SQL: quoted if it would change without quotes, or is a key word."""
    return name if _BARE.fullmatch(name) and name not in _KEY_WORDS else '"' + name.replace('"', '""') + '"'


def usable(name: str) -> bool:
    """Whether a name of the catalog can be configured."""
    try:
        _checked(name)
    except IdentifierError:
        return False
    return True


def _parts(text: str, most: int, expected: str) -> list[str]:
    """The parts between the dots: at least one, at most so many."""
    parts = _DOT.split(text)
    if len(parts) > most:
        raise IdentifierError(
            f"it has {len(parts)} parts, but {expected}; a dot that belongs to a name needs double quotes around it"
        )
    return [_checked(unwritten(part)) for part in parts]


def unwritten(part: str) -> str:
    """A name as the catalog has it.

    Raises:
        IdentifierError: it is no identifier.
    """
    if quoted := _QUOTED.fullmatch(part):
        return quoted[1].replace('""', '"')
    if part and not _UNQUOTED.fullmatch(part):
        raise IdentifierError(
            "a name without double quotes begins with a letter or _, and has letters, digits, _ and $ alone; put "
            "double quotes around it if it is really so, and write one inside it twice"
        )
    # In a UTF-8 database PostgreSQL folds ASCII letters alone.
    return "".join(letter.lower() if letter.isascii() else letter for letter in part)


def _checked(name: str) -> str:
    if not name:
        raise IdentifierError("a name is empty")
    if unsafe := UNSAFE.search(name):
        raise IdentifierError(
            f"a name with the control character U+{ord(unsafe[0]):04X} is not taken; let the database have another "
            "name for it, or a view"
        )
    length = len(name.encode("utf-8", errors="surrogatepass"))
    if length > LONGEST:
        raise IdentifierError(f"a name of {length} bytes is longer than the {LONGEST} that PostgreSQL keeps")
    return name


def requoted(template: str, parts: Collection[str]) -> str:
    """A script's template with other dollar quotes than `$cdc_sync$` if an inserted part contains these."""
    tag, number = _TAG, 0
    while any(tag in part for part in parts):
        number += 1
        tag = f"{_TAG}_{number}x"
    return template.replace(f"{_TAG}$", f"{tag}$")

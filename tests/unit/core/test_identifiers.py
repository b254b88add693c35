"""Identifiers as PostgreSQL reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.identifiers import (
    LONGEST,
    IdentifierError,
    QualifiedName,
    parse_column,
    parse_qualified,
    usable,
    written,
)
from cdc_sync.core.visible import UNSAFE

NAMES = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda name: len(name.encode()) <= LONGEST and not UNSAFE.search(name)
)


REFUSED = "a name with the control character U+{} is not taken; let the database have another name for it, or a view"
UNQUOTED = (
    "a name without double quotes begins with a letter or _, and has letters, digits, _ and $ alone; put double quotes "
    "around it if it is really so, and write one inside it twice"
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('ATS."Candidatures"', QualifiedName("ats", "Candidatures")),
        ('"ATS".Candidatures', QualifiedName("ATS", "candidatures")),
        ('"a.b"', QualifiedName(None, "a.b")),
        ('"say ""no"""', QualifiedName(None, 'say "no"')),
        ("_a$1", QualifiedName(None, "_a$1")),
        # Folded by ASCII alone, as PostgreSQL does in UTF-8.
        ("ÉTAPE", QualifiedName(None, "Étape")),
    ],
)
def test_a_table_is_named_as_in_sql(text: str, name: QualifiedName) -> None:
    assert parse_qualified(text) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a name is empty"),
        ('""', "a name is empty"),
        ('"a"b', UNQUOTED),
        ("$a", UNQUOTED),
        ('"a\0"', REFUSED.format("0000")),
        ('"a\n-- b"', REFUSED.format("000A")),
        ('"\u202ea"', REFUSED.format("202E")),
        ("é" * 32, "a name of 64 bytes is longer than the 63 that PostgreSQL keeps"),
    ],
)
def test_what_is_no_name_is_told_why(text: str, reason: str) -> None:
    with pytest.raises(IdentifierError) as raised:
        parse_qualified(text)
    assert str(raised.value) == reason
    with pytest.raises(IdentifierError):
        parse_column(text)


@given(NAMES)
def test_a_written_name_comes_back(name: str) -> None:
    assert parse_column(written(name)) == name
    quoted = '"' + name.replace('"', '""') + '"'
    assert parse_column(quoted) == name


@pytest.mark.parametrize("name", ["user", "order", "current_date", "end", "left"])
def test_a_key_word_is_written_with_quotes(name: str) -> None:
    assert written(name) == f'"{name}"'
    assert parse_column(written(name)) == name


@pytest.mark.parametrize("name", ["a\n", "\x1b", "\u2066", "", "a" * 64])
def test_a_name_that_cannot_be_configured(name: str) -> None:
    assert not usable(name)
    assert usable(name.strip("\n\x1b\u2066")[:63] or "a")

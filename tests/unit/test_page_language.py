"""The page's languages: every text has its French, and numbers and times are said as people say them."""

import re
from pathlib import Path

import pytest

from cdc_sync.admin import page
from cdc_sync.admin.page import ENGLISH_PAGE, FRENCH, FRENCH_PAGE, TEXTS, Language
from cdc_sync.admin.server import TOO_MANY_GUESSES

_ADMIN = Path(page.__file__).parent
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PLACE = re.compile(r"\{(\w+)\}")


def texts() -> set[str]:
    """Every English text of the templates and of the modules."""
    found: set[str] = set()
    for template in (_ADMIN / "templates").glob("*.html"):
        for call in re.finditer(r"\b[tn]\((?=[\"{])", template.read_text()):
            rest = template.read_text()[call.end() :]
            literals = re.match(r'(?:\{.*?\}\[|"(?:[^"\\]|\\.)*"(?:, )?)+', rest, re.DOTALL)
            assert literals is not None, rest[:60]
            found |= set(_LITERAL.findall(literals[0])) - {"healthy", "throttled", "open", "paused"}
    return found | TEXTS | {TOO_MANY_GUESSES}


def test_every_text_has_its_french_and_every_french_its_text() -> None:
    assert texts() == set(FRENCH)


@pytest.mark.parametrize("shown", [ENGLISH_PAGE, FRENCH_PAGE])
def test_a_text_without_french_is_shown_in_no_language(shown: Language) -> None:
    with pytest.raises(KeyError):
        shown.text("The tide has turned")


@pytest.mark.parametrize(("english", "french_text"), FRENCH.items(), ids=str)
def test_the_french_has_the_same_places(english: str, french_text: str) -> None:
    assert set(_PLACE.findall(english)) == set(_PLACE.findall(french_text))


@pytest.mark.parametrize(
    ("seconds", "english", "in_french"),
    [
        (0, "0 s", "0 s"),
        (-3, "0 s", "0 s"),
        (59, "59 s", "59 s"),
        (60, "1 min", "1 min"),
        (3600, "1 h", "1 h"),
        (47 * 3600, "47 h", "47 h"),
        (10 * 86400, "10 d", "10 j"),
    ],
)
def test_lengths_of_time(seconds: float, english: str, in_french: str) -> None:
    assert ENGLISH_PAGE.length(seconds) == english
    assert FRENCH_PAGE.length(seconds) == in_french
    assert ENGLISH_PAGE.ago(0, round(max(seconds, 0) * 1000)) == f"{english} ago"
    assert FRENCH_PAGE.ago(0, round(max(seconds, 0) * 1000)) == f"il y a {in_french}"


def test_instants_ahead() -> None:
    assert ENGLISH_PAGE.ago(90_000, 0) == "in 2 min"
    assert FRENCH_PAGE.ago(30_000, 0) == "dans 30 s"


def test_numbers() -> None:
    assert ENGLISH_PAGE.number(1_234_567) == "1,234,567"
    assert FRENCH_PAGE.number(1_234_567) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"
    one, many = "{number} attempt", "{number} attempts"
    assert [ENGLISH_PAGE.counted(one, many, number) for number in (0, 1, 2)] == [
        "0 attempts",
        "1 attempt",
        "2 attempts",
    ]
    assert FRENCH_PAGE.counted(one, many, 0) == "0 tentative"
    assert FRENCH_PAGE.counted(one, many, 1000) == "1\N{NARROW NO-BREAK SPACE}000 tentatives"

"""How names are split into words, the words by which columns are recognised, and HelloWork's own statuses.

Words and statuses are in `meanings.yaml`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator

from cdc_sync.packaged import data

Kind = Literal["text", "number", "uuid", "enum", "json", "boolean", "timestamptz", "timestamp", "date", "other"]
"""The kind of a column's values."""


def _pairs(text: str) -> dict[str, str]:
    return dict(each.split(":") for each in text.split())


Words: TypeAlias = Annotated[frozenset[str], BeforeValidator(str.split)]
Weights: TypeAlias = Annotated[dict[str, int], BeforeValidator(_pairs)]

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SHORTEST_GLUED = 4
"""Letters of a word that is recognised inside another; shorter ones are everywhere."""

_CLOSE = 0.85
"""Similarity from which a status counts as a misspelt code."""

_GLUED = 1
"""How much less a word weighs as a part of another."""


class Meaning(BaseModel):
    """How a column is recognised."""

    words: Weights
    never: Words
    kinds: Annotated[frozenset[Kind], BeforeValidator(str.split)]
    evidence: dict[str, int] = {}
    required: str | None = None
    least: int = 4
    sure: int = 7


class Vocabulary(BaseModel):
    """The content of `meanings.yaml`, which explains each."""

    types: dict[str, Kind]
    columns: dict[str, Meaning]
    no_id: tuple[str, str]
    labels: Weights
    applications: Weights
    about_them: Words
    yes: Words
    no: Words
    of_lookups: Words
    numbers: Words
    personal: Words
    personal_alone: Words
    names: Words
    of_people: Words
    decisions: Annotated[dict[str, str], BeforeValidator(_pairs)]
    undecided: Words
    hellowork: dict[str, str]
    own_side: Words


@cache
def known() -> Vocabulary:
    """The vocabulary, loaded at its first use."""
    return Vocabulary.model_validate(data("config/meanings.yaml"))


def decision(name: str) -> str | None:
    """The status that a name mentions; None if none."""
    own, stems = words(name), known().decisions.items()
    found = (status for stem, status in stems if any(word.startswith(stem) for word in own))
    return None if own & known().undecided else next(found, None)


def is_personal(name: str) -> bool:
    """Whether a column's name suggests personal data: a telephone, a mail, an address, a person's name."""
    own, they = words(name), known()
    is_name = own & they.names and own <= they.of_people
    return mentions(own, they.personal) or bool(own & they.personal_alone or is_name)


def words(name: str) -> frozenset[str]:
    """The words of a name, in lower case without accents; for a plural the singular too."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = {part.lower() for part in _PARTS.findall(plain)}
    return frozenset(found | {word[:-1] for word in found if word.endswith("s")})


def weight(name: frozenset[str], known: Mapping[str, int]) -> int:
    """The sum of a name's known words' weights, each once.

    A word inside another (`codestatut`, `IDOFFRE`) counts a little less.
    """
    exact = name & known.keys()
    total = sum(known[word] for word in exact)
    # The singular of a known word is no word of its own (`status`).
    for word in name - exact - {known_word[:-1] for known_word in exact}:
        inside = [known[part] - _GLUED for part in known if _is_glued(part, word) and part not in exact]
        total += max(inside, default=0)
    return total


def mentions(name: frozenset[str], forbidden: Iterable[str]) -> bool:
    """Whether a name has one of these words, alone or inside another."""
    return any(part in name or any(_is_glued(part, word) for word in name) for part in forbidden)


def _is_glued(part: str, word: str) -> bool:
    return len(part) >= _SHORTEST_GLUED and part != word and (word.startswith(part) or word.endswith(part))


def code_meant(status: str) -> str | None:
    """HelloWork's code that a status misspells; None if it is a code, or like none."""
    codes = known().hellowork
    if status in codes:
        return None
    simplified = "_".join(status.casefold().replace("-", " ").replace("_", " ").split())
    for_an_ats = [code for code in codes if code not in known().own_side]
    return next(iter(get_close_matches(simplified, for_an_ats, n=1, cutoff=_CLOSE)), None)


def is_bare_number(label: str) -> bool:
    """Whether a label is a mere number, which means nothing to HelloWork."""
    return label.strip().lstrip("-").replace(".", "", 1).isdecimal()

"""How names are split into words, and what a name suggests. `meanings.yaml` has the words."""

import re
import unicodedata
from functools import cache

from cdc_sync.packaged import data

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SHORTEST_GLUED = 4
"""Letters of a word that is recognised inside another; shorter ones are everywhere."""


@cache
def known(name: str) -> tuple[str, ...]:
    """The words of a list in `meanings.yaml`, in its order."""
    return tuple(data("config/meanings.yaml")[name].split())


def words(name: str) -> frozenset[str]:
    """The words of a name, in lower case without accents; for a plural the singular too."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = {part.lower() for part in _PARTS.findall(plain)}
    return frozenset(found | {word[:-1] for word in found if word.endswith("s")})


def mentions(name: str, *lists: str) -> bool:
    """Whether a name has a word of one of these lists."""
    return any(place_among(name, listed) is not None for listed in lists)


def place_among(name: str, listed: str) -> int | None:
    """The place of the first word of a list that a name has; None if it has none.

    It has a word alone or at an end of another (`codestatut`, `IDOFFRE`).
    """
    own = words(name)
    return next((place for place, part in enumerate(known(listed)) if any(_is_in(part, word) for word in own)), None)


def _is_in(part: str, word: str) -> bool:
    return part == word or (len(part) >= _SHORTEST_GLUED and (word.startswith(part) or word.endswith(part)))


def is_personal(name: str) -> bool:
    """Whether a column's name suggests personal data: a telephone, a mail, an address, a person's name."""
    own = words(name)
    is_name = bool(own & {"name", "nom"}) and own <= set(known("of_people"))
    return is_name or bool(own & set(known("personal_alone"))) or mentions(name, "personal")


def is_bare_number(label: str) -> bool:
    """Whether a label is a mere number, which means nothing to HelloWork."""
    return label.strip().lstrip("-").replace(".", "", 1).isdecimal()

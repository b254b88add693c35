"""A name taken apart into words: `date_création`, `DateCreation`, `DATECREATION` and `x_hellowork_id`."""

import re
import unicodedata
from collections.abc import Iterable, Mapping

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SHORTEST_GLUED = 4
"""Letters of a word that is recognised inside another one; shorter ones are everywhere."""

_GLUED = 1
"""What a word weighs less if it is only part of another."""


def words(name: str) -> frozenset[str]:
    """The words of a name, in lower case without accents; of a plural the singular too."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = {part.lower() for part in _PARTS.findall(plain)}
    return frozenset(found | {word[:-1] for word in found if word.endswith("s")})


def weight(name: frozenset[str], known: Mapping[str, int]) -> int:
    """How much a name says: the sum of its known words' weights, each once.

    A word that is glued to another (`codestatut`, `IDOFFRE`) counts a little less.
    """
    exact = name & known.keys()
    total = sum(known[word] for word in exact)
    # The singular of a known word is no word of its own: `status` has none.
    for word in name - exact - {known_word[:-1] for known_word in exact}:
        inside = [known[part] - _GLUED for part in known if _is_glued(part, word) and part not in exact]
        total += max(inside, default=0)
    return total


def says(name: frozenset[str], forbidden: Iterable[str]) -> bool:
    """Whether a name has one of these words, alone or glued to another."""
    return any(part in name or any(_is_glued(part, word) for word in name) for part in forbidden)


def _is_glued(part: str, word: str) -> bool:
    return len(part) >= _SHORTEST_GLUED and part != word and (word.startswith(part) or word.endswith(part))

"""Names of watches, of which there may be a thousand: matched by patterns, and listed for people."""

import re
from collections.abc import Collection
from itertools import islice

MOST_LISTED = 10

SEPARATOR = "@"
"""Between a template's name and a tenant's in a watch's name."""


def matches(pattern: str, name: str) -> bool:
    """Whether a name is the pattern, or matches it: `%` and `*` stand for any characters.

    Unlike in LIKE, `_` is an ordinary character.
    """
    return name == pattern or _has_parts(name, re.split("[%*]+", pattern))


def _has_parts(name: str, parts: list[str]) -> bool:
    """Whether a name consists of these parts, in their order, with any characters between them.

    Each part takes its first place, which leaves most for the next one. Nothing is compiled, so no cache grows.
    """
    first, *others = parts
    if not others or not name.startswith(first):
        return False
    *between, last = others
    at = len(first)
    for part in between:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return name[at:].endswith(last)


def listed(names: Collection[str], mark: str = ", ") -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"{mark.join(islice(names, MOST_LISTED))}{more}"

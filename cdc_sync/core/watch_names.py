"""Names of watches, of which there may be a thousand: matched by patterns, and listed for people."""

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from itertools import islice

MOST_LISTED = 10

SEPARATOR = "@"
"""Between a template's name and a tenant's in a watch's name."""


def template_of(name: str) -> str:
    """The template of a tenant's watch; the name itself of any other."""
    return name.partition(SEPARATOR)[0]


def matches(pattern: str, name: str) -> bool:
    """Whether a name is the pattern, or matches it: `%` and `*` stand for any characters.

    Unlike in LIKE, `_` is an ordinary character.
    """
    glob = re.sub(r"[?[]", r"[\g<0>]", pattern).replace("%", "*")
    return name == pattern or fnmatchcase(name, glob)


def first_of(lines: Sequence[str]) -> list[str]:
    """The first ten lines, and how many more there are."""
    more = [f"and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []
    return [*lines[:MOST_LISTED], *more]


def listed(names: Collection[str], mark: str = ", ") -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"{mark.join(islice(names, MOST_LISTED))}{more}"

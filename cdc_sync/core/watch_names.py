"""Names of watches, of which there may be a thousand, for people: which ones a pattern means, and a few of many."""

import glob
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from itertools import islice

MOST_LISTED = 10
"""How many of many are named in one line."""


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means a name: it is the name, or has `%` or `*` where the name may have any characters.

    `_` is one of a name's own characters, unlike in LIKE.
    """
    # `?` and `[` stand for themselves. However many wildcards there are, fnmatch goes through the name once.
    return name == pattern or fnmatchcase(name, "*".join(map(glob.escape, re.split("[%*]+", pattern))))


def listed(names: Collection[str], mark: str = ", ") -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"{mark.join(islice(names, MOST_LISTED))}{more}"

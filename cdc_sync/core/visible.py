"""Text from outside, made safe to show to people.

Escaped are control characters (some terminals take U+009B as an escape sequence's start), Unicode's line and paragraph
separators, marks of writing direction (UAX #9) and halves of surrogate pairs.

Our own credentials are hidden: a refusing server may repeat them plain, in a JSON string, a URL or a page, or decoded
from Basic. Other forms (a hash, another encoding) are not recognised.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from urllib.parse import quote, quote_plus

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""One line: an ESC is shown as `\x1b`, a line break as `\n`."""
    return text if text.isprintable() else UNSAFE.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """As `visible`, but line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def visible_json(text: str) -> str:
    r"""JSON with unsafe characters as `\u` escapes, which mean the same; JSON itself escapes C0."""
    if text.isprintable():  # several times faster than a search
        return text
    return UNSAFE.sub(lambda found: found[0] if found[0] < " " else f"\\u{ord(found[0]):04x}", text)


# Our own credentials.

HIDDEN = "(hidden)"

_SHORTEST_WORD = 8
"""Shorter words of a header (`Bearer`, a version) are no secrets."""

_SHORTEST_PASSWORD = 4
"""The text behind Basic's colon is always a secret, but hiding one letter would spoil every text."""

_SEPARATORS = re.compile(r'[\s,;="]+')
_BASIC = re.compile(r"\s*basic\s+(\S+)\s*", re.IGNORECASE)


def hiding(headers: Mapping[str, str]) -> Callable[[str], str]:
    """A function that hides the values of these headers in a text."""
    words = {word for value in headers.values() for word in _words(value)}
    spelled = {spelling for word in words for spelling in _spellings(word)}
    # A word may be part of another.
    longest_first = sorted(spelled, key=len, reverse=True)
    # In any case of letters: `%2f` and `\u00e9` mean what `%2F` and `\u00E9` do.
    pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
    return partial(pattern.sub, HIDDEN) if spelled else str


def _words(value: str) -> Iterator[str]:
    """A header's value, its words, and the decoded form of Basic's second word."""
    split = (value.strip(), *value.split(), *_SEPARATORS.split(value))
    yield from (word for word in split if len(word) >= _SHORTEST_WORD)
    if basic := _BASIC.fullmatch(value):
        with suppress(ValueError):
            decoded = base64.b64decode(basic[1], validate=True).decode()
            _, _, password = decoded.partition(":")
            yield from (word for word in (decoded, password) if len(word) >= _SHORTEST_PASSWORD)


def _spellings(word: str) -> Iterator[str]:
    """A word as it is, in JSON, in JSON within JSON, in a URL, and in a page."""
    for text in (word, json.dumps(word)[1:-1], json.dumps(word, ensure_ascii=False)[1:-1]):
        yield from (text, text.replace("/", r"\/"), json.dumps(text)[1:-1])
    yield from (quote(word), quote(word, safe=""), quote_plus(word), html.escape(word))

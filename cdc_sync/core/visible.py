"""Text from outside, made safe to show to people.

Escaped are control characters (some terminals take U+009B as an escape sequence's start), Unicode's line and paragraph
separators, marks of writing direction (UAX #9) and halves of surrogate pairs.

Our own credentials are hidden: a refusing server may repeat them plain, in a JSON string, a query or a page, or decoded
from Basic. Other forms (a hash, another encoding) are not recognised.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""One line: an ESC is shown as `\x1b`, a line break as `\n`."""
    if text.isprintable():  # several times faster than a search
        return text
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_lines(text: str) -> str:
    """As `visible`, but line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def visible_json(text: str) -> str:
    r"""JSON with unsafe characters as `\u` escapes, which mean the same; JSON itself escapes C0."""
    if text.isprintable():
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
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}

# Bounded everywhere, against quadratic time.
_BACKSLASHES = r"\\{1,8}"


def hiding(headers: Mapping[str, str]) -> Callable[[str], str]:
    """A function that hides the values of these headers in a text."""
    words = {word for value in headers.values() for word in _words(value)}
    # A word may be part of another.
    patterns = [_pattern(word) for word in sorted(words, key=lambda word: (-len(word), word))]
    return partial(re.compile("|".join(patterns)).sub, HIDDEN) if patterns else str


def _words(value: str) -> Iterator[str]:
    """A header's value, its words, and the decoded form of Basic's second word."""
    split: Iterable[str] = (value.strip(), *value.split(), *_SEPARATORS.split(value))
    yield from (word for word in split if len(word) >= _SHORTEST_WORD)
    if basic := _BASIC.fullmatch(value):
        try:
            decoded = base64.b64decode(basic[1], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        _, _, password = decoded.partition(":")
        yield from (word for word in (decoded, password) if len(word) >= _SHORTEST_PASSWORD)


def _pattern(word: str) -> str:
    return "".join(f"(?:{'|'.join(_ways(character))})" for character in word)


def _ways(character: str) -> Iterator[str]:
    """Spellings of a character; the plain one last, since others begin with it (`%25`, `&amp;`)."""
    # JSON, also within a JSON string; beyond 16 bits as a pair of surrogates.
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    yield "".join(rf"{_BACKSLASHES}u(?i:{pair})" for pair in pairs)
    # A query, also within another query's value.
    yield "".join(rf"%(?:25){{0,4}}(?i:{byte:02x})" for byte in character.encode("utf-8", "surrogatepass"))
    if character == " ":
        yield r"\+"
    # A page.
    yield rf"&#0{{0,6}}{ord(character)};"
    yield rf"&#[xX]0{{0,6}}(?i:{ord(character):x});"
    if character in _NAMED:
        yield _NAMED[character]
    if character == "\\":
        yield _BACKSLASHES
    elif character in "\"'/":
        yield rf"\\{{0,8}}{character}"
    else:
        yield re.escape(character)

"""Text from outside, for people: what a terminal or a reader would obey instead of showing it is written as an escape.

These are the control characters (C0 with ESC and the line breaks, DEL, C1, of which some terminals take U+009B for an
escape sequence's start), Unicode's line and paragraph separators, the marks that turn the direction of writing
(UAX #9, by which a text may look like another), and halves of surrogate pairs, which no encoding takes.
"""

import re

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""One character that is not shown as it is."""


def visible(text: str) -> str:
    r"""One line, whatever it holds: an ESC is shown as `\x1b`, a line break as `\n`."""
    return text if text.isprintable() else UNSAFE.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """As `visible`, for a text of ours that has lines: these stay."""
    return "\n".join(map(visible, text.split("\n")))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def visible_json(text: str) -> str:
    r"""JSON in which strings have such characters as `\u` escapes, which mean the same; C0 JSON escapes itself."""
    if text.isprintable():  # several times faster than to look for each of them, and no unsafe character is
        return text
    return UNSAFE.sub(lambda found: found[0] if found[0] < " " else f"\\u{ord(found[0]):04x}", text)

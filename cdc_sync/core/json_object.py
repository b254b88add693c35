"""JSON text where reading it into objects, or making it from them, would change or cost too much.

Fields are cut out of an object without touching what stays: reading a number and writing it could change it.
"""

import json
import re
from collections.abc import Collection
from json.encoder import encode_basestring

quoted = encode_basestring
"""A text as a JSON string."""

_decode = json.JSONDecoder().raw_decode

_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|[^\s",:\[\]{}]+', re.DOTALL)
"""A string, a bracket, or a number or word. What is between is white space, commas and colons."""


def only_fields(text: str, names: Collection[str]) -> str | None:
    """The object with only these fields, each as it was written; None if none is left.

    `text` is an object as `core.rows` composes it: one separator after each value.
    """
    kept: list[str] = []
    place = 1
    while place < len(text) - 1:
        name, after_name = _decode(text, place)
        end = _end_of_value(text, after_name + len(": "))
        if name in names:
            kept.append(text[place:end])
        place = len(text) - len(text[end:].lstrip().removeprefix(",").lstrip())
    return f"{{{', '.join(kept)}}}" if kept else None


def _end_of_value(text: str, start: int) -> int:
    """Where the value ends that begins at, or after white space at, `start`.

    Not by a parser: PostgreSQL takes json that is nested deeper than Python's can follow.
    """
    depth, parts = 0, _PART.finditer(text, start)
    while True:
        part = next(parts)
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(part[0], 0)
        if depth == 0:
            return part.end()

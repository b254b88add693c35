"""Cutting fields out of a JSON object without touching what stays: reading a number and writing it could change it."""

import json
from collections.abc import Collection

_decode = json.JSONDecoder().raw_decode


def only_fields(text: str, names: Collection[str]) -> str | None:
    """The object with only these fields, each as it was written; None if none is left.

    `text` is an object as `core.rows` composes it: one separator after each value.
    """
    kept: list[str] = []
    place = 1
    while place < len(text) - 1:
        name, after_name = _decode(text, place)
        start = after_name + len(": ")
        # Leading white space of a json value is its writer's; raw_decode does not skip it.
        blank = len(text) - start - len(text[start:].lstrip())
        _, end = _decode(text, start + blank)
        if name in names:
            kept.append(text[place:end])
        place = len(text) - len(text[end:].lstrip().removeprefix(",").lstrip())
    return f"{{{', '.join(kept)}}}" if kept else None

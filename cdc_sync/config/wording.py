"""From the validator's errors to troubles in our words."""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cdc_sync.config import outline
from cdc_sync.config.disclosure import is_like_a_key, path_text
from cdc_sync.config.document import Path, Trouble
from cdc_sync.config.mistakes import Mistake

_A_SECTION = "expected a section: `key: value` lines beneath this key"
_A_LIST = "expected a list, such as [first, second]"

_MESSAGES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "model_type": lambda _: _A_SECTION,
    "dict_type": lambda _: _A_SECTION,
    "mapping_type": lambda _: _A_SECTION,
    "tuple_type": lambda _: _A_LIST,
    "string_type": lambda _: "expected text",
    "bool_type": lambda _: "expected true or false",
    "bool_parsing": lambda _: "expected true or false",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "literal_error": lambda context: f"expected {context['expected'].replace(chr(39), '')}",
}
"""Every type of error that the models bring about, beside those that have a case of their own below."""

OTHERWISE = "is not what is expected here"
"""For a type that a later version of the validator may bring: vague, and better than none."""


def troubles(error: ValidationError, value_at: Callable[[Path], object]) -> Iterator[Trouble]:
    """Say what a validation found wrong.

    Args:
        error: what the validation raised.
        value_at: the value that was validated at a path; only compared, never shown.
    """
    for details in error.errors(include_url=False, include_input=False):
        yield _trouble(details, value_at)


def _trouble(details: ErrorDetails, value_at: Callable[[Path], object]) -> Trouble:
    path: Path = details["loc"]
    context = details.get("ctx", {})
    about_key = bool(path) and path[-1] == "[key]"
    if about_key:
        path = path[:-1]
    mistake = context.get("error")
    if isinstance(mistake, Mistake):
        path = path[:-1] if mistake.about_section else path
        return Trouble(path, mistake.message, mistake.suggestion, about_key=about_key or mistake.about_section)
    match details["type"]:
        case "missing":
            return Trouble(path, f"required key is missing{_meaning(path)}", about_key=True)
        case "extra_forbidden":
            return Trouble(path, "unknown key", _likely(path), about_key=True)
        case "too_short":
            return Trouble(path, "expected at least one entry", about_key=True)
        case "literal_error":
            options = re.findall(r"'([^']*)'", context["expected"])
            close = get_close_matches(str(value_at(path)), options, n=1)
            suggestion = f'did you mean "{close[0]}"?' if close else None
        case "string_type" if isinstance(value_at(path), bool):
            suggestion = "put it in quotes to make it text"
        case _:
            suggestion = None
    message = _MESSAGES[details["type"]](context) if details["type"] in _MESSAGES else OTHERWISE
    return Trouble(path, message, suggestion)


def _meaning(path: Path) -> str:
    for section in outline.at(path[:-1]).sections:
        # A key that is required has no alias: only `for` has one.
        text = re.split(r"[.:] ", outline.descriptions_of(section).get(str(path[-1]), ""))[0].rstrip(".")
        if text:
            return f" ({text[0].lower()}{text[1:]})"
    return ""


def _likely(path: Path) -> str | None:
    """Which key was meant: one of another section that is spelled just so, else one of this section nearly so."""
    key = str(path[-1])
    if not is_like_a_key(key):
        return "write `key: value`, with a blank after the colon"
    here = tuple(outline.ANY_NAME if name_is_free else str(name) for name, name_is_free in _freedom(path[:-1]))
    elsewhere = [
        place for place, section in outline.all_sections() if key in outline.fields_of(section) and place != here
    ]
    if elsewhere:
        nearest = max(elsewhere, key=lambda place: _in_common(place, here))
        shared = _in_common(nearest, here)
        rest = tuple("NAME" if name == outline.ANY_NAME else name for name in nearest[shared:])
        if not nearest:
            return "it belongs at the top of the file, without indentation"
        return f"it belongs in {'.'.join(rest) if shared == len(here) else path_text((*path[:shared], *rest))}"
    known_keys = [name for section in outline.at(path[:-1]).sections for name in outline.fields_of(section)]
    close = get_close_matches(key, known_keys, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known here: {', '.join(known_keys)}" if known_keys else None


def _freedom(path: Path) -> Iterator[tuple[str | int, bool]]:
    spot = outline.at(())
    for key in path:
        yield key, spot.names_are_free
        spot = spot.below(key)


def _in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

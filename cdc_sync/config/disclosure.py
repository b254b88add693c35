"""From mistakes to problems: where each stands in the file, and how much of the file may be shown.

One place decides, and it decides by the schema: a value is shown only where that expects a scalar that is no secret.
Everything else, such as a password under a misspelt key, is hidden or told by its kind.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from json import dumps

from cdc_sync.config.document import Part, is_reference_alone
from cdc_sync.config.problems import Mistake, Path, Problem, printable
from cdc_sync.config.schema import Schema, written_out
from cdc_sync.core.visible import HIDDEN

_SIMPLE = re.compile(r"[A-Za-z0-9_-]+")
_LIKE_A_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_CREDENTIALS = re.compile(r":.*@", re.DOTALL)

ANY_NAME = "*"
"""In a path of `all_sections`: a key that people choose, such as a watch's name."""


class Spot:
    """What the schema allows at one path: sections, mappings, lists and scalars.

    Attributes:
        kinds: their schemas.
        keys: the keys of the sections that may stand here, with their schemas.
        has_scalars: whether anything but a section, a mapping or a list may stand here.
        names_are_free: whether people choose the keys below.
        is_secret: whether a value here is a secret.
        may_be_shown: whether a scalar found here is surely no secret: one is expected, and none is secret.
    """

    def __init__(self, kinds: Iterable[Schema]) -> None:
        self.kinds = tuple(kinds)
        self.keys: Schema = {key: below for kind in self.kinds for key, below in kind.get("properties", {}).items()}
        # Not a set: a type may be a list of types.
        self.has_scalars = any(kind.get("type") not in ("object", "array") for kind in self.kinds)
        self.names_are_free = any(kind.get("type") == "object" and "properties" not in kind for kind in self.kinds)
        self.is_secret = any(kind.get("writeOnly") for kind in self.kinds)
        self.may_be_shown = self.has_scalars and not self.is_secret

    def below(self, key: str | int) -> "Spot":
        """What may stand at a key, or at a position in a list."""
        found = [kind["items"] for kind in self.kinds if "items" in kind]
        for kind in self.kinds:
            found += kind.get("patternProperties", {}).values()
            found += [further] if (further := kind.get("additionalProperties")) else []
        found += [below for name, below in self.keys.items() if name == key]
        return Spot(kind for schema in found for kind in schema.get("anyOf", [schema]))


@cache
def at(path: Path) -> Spot:
    """What may stand at a path."""
    return at(path[:-1]).below(path[-1]) if path else Spot([{"type": "object", "properties": written_out()}])


@cache
def all_sections() -> tuple[tuple[tuple[str, ...], Schema], ...]:
    """Every section that stands at a fixed place or under a name of people's choice: its path and its keys, in order.

    A section that is only the long form of a scalar (`{sql: …}` for a column's name) is none of them.
    """
    return tuple(_sections_from(at(()), ()))


def _sections_from(spot: Spot, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    keys = {} if spot.has_scalars else spot.keys
    if keys:
        yield path, keys
    for key in (*keys, *([ANY_NAME] if spot.names_are_free else [])):
        yield from _sections_from(spot.below(key), (*path, key))


def disclose(mistake: Mistake, parts: Mapping[Path, Part]) -> Problem:
    """Make the problem that people see."""
    path, found = mistake.path, None
    reached, part = _locate(path, parts)
    place = mistake.place or (part and part.key)
    # A column's name is short for a section: what is wrong with the section's key is wrong with the name.
    if reached == path or (part and part.text is not None and part.value is not None):
        path = reached
        if part is not None and not mistake.about_key:
            found = _found(part, at(path))
            place = mistake.place or (part.key if part.text is None else part.place)
    line, column = place or (None, None)
    return Problem(path_text(path, parts), line, column, found, mistake.message, mistake.suggestion)


def path_text(path: Path, parts: Mapping[Path, Part]) -> str:
    """Write a path: `watches.applications.related[0].table`, odd keys in quotes, what may be a secret hidden."""
    text = ""
    for depth, key in enumerate(path):
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = _name(key, at(path[:depth]), _locate(path[: depth + 1], parts)[1])
            text += f".{name}" if text else name
    return text


def is_like_a_key(name: str) -> bool:
    """Whether an unknown key can be told: `token:SECRET` without its blank is a key as well."""
    return _LIKE_A_KEY.fullmatch(name) is not None


def _name(key: str, spot: Spot, part: Part | None) -> str:
    below = spot.below(key)
    if _CREDENTIALS.search(key):
        return HIDDEN
    if not spot.names_are_free or not (below.may_be_shown or below.keys):
        # {SECRET}, {token=SECRET} and the end of {token: SEC,RET} are keys as well, without a value.
        known = [] if part is None or part.value is not None else [name for _, keys in all_sections() for name in keys]
        if not is_like_a_key(key) or (known and not get_close_matches(key, [*spot.keys, *known], n=1)):
            return HIDDEN
    return key if _SIMPLE.fullmatch(key) else dumps(printable(key), ensure_ascii=False)


def _locate(path: Path, parts: Mapping[Path, Part]) -> tuple[Path, Part | None]:
    """How far a path leads into the document, and what stands there."""
    reached = next((path[:length] for length in range(len(path), 0, -1) if path[:length] in parts), ())
    return reached, parts.get(reached)


def _found(part: Part, spot: Spot) -> str:
    if part.text is None:
        return "a list" if isinstance(part.value, list) else "a section"
    if not part.text.strip():
        return "nothing"
    if part.value is None or isinstance(part.value, bool) or is_reference_alone(part.text):
        return part.text
    if not spot.may_be_shown:
        return HIDDEN if spot.has_scalars or not spot.kinds else "text"
    # A URL or a DSN in the wrong place brings its password along.
    return HIDDEN if _CREDENTIALS.search(part.text) else part.text

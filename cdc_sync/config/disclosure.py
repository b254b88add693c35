"""From troubles to problems: where each stands in the file, and how much of the file may be shown.

One place decides, and it decides by the models: a value is shown only where they expect a scalar that is no secret.
Everything else, such as a password under a misspelt key, is hidden or told by its kind.
"""

import re
from dataclasses import dataclass
from json import dumps

from cdc_sync.config import outline
from cdc_sync.config.addresses import is_header_name
from cdc_sync.config.document import Entries, Items, Node, Path, Place, Scalar, Trouble
from cdc_sync.config.dsn import HIDDEN
from cdc_sync.config.outline import Spot
from cdc_sync.config.problems import Problem, printable
from cdc_sync.config.substitution import is_reference_alone

_SIMPLE = re.compile(r"[A-Za-z0-9_-]+")
_LIKE_A_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_CREDENTIALS = re.compile(r":.*@", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a path leads into the document: the part it ends at, and whether that is its end."""

    node: Node | None
    place: Place | None
    path: Path
    is_reached: bool


def disclose(trouble: Trouble, root: Node | None) -> Problem:
    """Make the problem that people see."""
    position = _locate(trouble.path, root)
    place = trouble.place or position.place
    found = None
    if position.is_reached and not trouble.about_key:
        found = _found(position)
        if isinstance(position.node, Scalar) and trouble.place is None:
            place = position.node.place
    return Problem(
        path=path_text(position.path if position.is_reached else trouble.path, root),
        line=place.line if place else None,
        column=place.column if place else None,
        found=found,
        message=trouble.message,
        suggestion=trouble.suggestion,
    )


def path_text(path: Path, root: Node | None = None) -> str:
    """Write a path: `watches.applications.related[0].table`, odd keys in quotes, what may be a secret hidden."""
    text = ""
    spot = outline.at(())
    for depth, key in enumerate(path):
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = _name(key, spot, _locate(path[: depth + 1], root).node)
            text += f".{name}" if text else name
        spot = spot.below(key)
    return text


def is_like_a_key(name: str) -> bool:
    """Whether an unknown key can be told: `token:SECRET` without its blank is a key as well."""
    return _LIKE_A_KEY.fullmatch(name) is not None


def _name(key: str, spot: Spot, node: Node | None) -> str:
    if _CREDENTIALS.search(key):
        return HIDDEN
    # {SECRET}, {token=SECRET} and the end of {token: SEC,RET} are keys as well, without a value.
    has_value = not (isinstance(node, Scalar) and node.value is None)
    if spot.names_are_free:
        value_is_secret = not spot.below(key).may_be_shown and not spot.below(key).sections
        if value_is_secret and not (is_header_name(key) and has_value):
            return HIDDEN
    elif not is_like_a_key(key) or not (has_value or spot.nearly_knows(key)):
        return HIDDEN
    return key if _SIMPLE.fullmatch(key) else dumps(printable(key), ensure_ascii=False)


def _locate(path: Path, root: Node | None) -> _Position:
    node, place = root, root.place if root else None
    reached: Path = ()
    for key in path:
        if isinstance(node, Entries) and isinstance(key, str) and key in node.entries:
            place, node = node.entries[key].place, node.entries[key].node
        elif isinstance(node, Items) and isinstance(key, int) and key < len(node.items):
            node = node.items[key]
            place = node.place
        else:
            # A column's name is short for a section: what is wrong with the section's key is wrong with the name.
            is_shorthand = isinstance(node, Scalar) and node.value is not None
            return _Position(node, place, reached, is_reached=is_shorthand)
        reached = (*reached, key)
    return _Position(node, place, reached, is_reached=True)


def _found(position: _Position) -> str | None:
    match position.node:
        case Scalar() as scalar:
            return _scalar(scalar, outline.at(position.path))
        case Items():
            return "a list"
        case Entries():
            return "a section"
    return None


def _scalar(scalar: Scalar, spot: Spot) -> str:
    if not scalar.text.strip():
        return "nothing"
    if scalar.value is None or isinstance(scalar.value, bool) or is_reference_alone(scalar.text):
        return scalar.text
    if not spot.may_be_shown:
        return HIDDEN if spot.scalars or not spot.kinds else "text"
    # A URL or a DSN in the wrong place brings its password along.
    return HIDDEN if _CREDENTIALS.search(scalar.text) else scalar.text

"""Events of every kind, in each of their shapes."""

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cdc_sync.core import events
from support.builders import ENDPOINT, WATCH

_NAMED = {"watch": WATCH, "endpoint": ENDPOINT, "mode": "notify", "action": "release", "since": "2026-01-01T00:00:00Z"}
"""Texts that are not any text, by the field's name."""


def _kinds(of: type[events.Event] = events.Event) -> Iterator[type[events.Event]]:
    """The classes of events that are made."""
    below = [each for each in of.__subclasses__() if each.__module__ == events.__name__]
    for each in below:
        yield from _kinds(each)
    if not below:
        yield of


def _values(name: str, of: Any) -> list[Any]:
    """What a field of a type may be, the usual first."""
    if isinstance(of, UnionType):
        return [value for each in get_args(of) for value in _values(name, each)]
    if get_origin(of) is Literal:
        return list(get_args(of))
    known: dict[Any, list[Any]] = {
        str: [_NAMED.get(name, f"a {name}")],
        int: [7, 0],
        float: [1.5, 0.0],
        bool: [True, False],
        NoneType: [None],
        tuple: [("one",)],
        Mapping: [{"missed": 2}, {}],
    }
    return known[get_origin(of) or of]


def _shapes(kind: type[events.Event]) -> Iterator[events.Event]:
    """The usual one, and those with one field that is something else."""
    values = {name: _values(name, of) for name, of in get_type_hints(kind).items()}
    usual = {name: first for name, (first, *_) in values.items()}
    yield kind(**usual)
    for name, (_, *others) in values.items():
        yield from (kind(**{**usual, name: other}) for other in others)


EXAMPLES = tuple(shape for kind in _kinds() for shape in _shapes(kind))
"""At least one of each kind, and each of its shapes."""

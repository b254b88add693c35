"""The shape of the configuration, as the models have it: which keys stand where, and what may be shown of a value."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import PlainValidator, SecretStr

from cdc_sync.config.document import Path
from cdc_sync.config.models import Config
from cdc_sync.config.section import Section

ANY_NAME = "*"
"""In a path of `all_sections`: a key that people choose, such as a watch's name."""


@dataclass(frozen=True, slots=True)
class Spot:
    """What the models allow at one path: `kinds` are sections, mappings, lists and scalars."""

    kinds: tuple[Any, ...]

    @property
    def sections(self) -> list[type[Section]]:
        """The sections that may stand here."""
        return [kind for kind in self.kinds if isinstance(kind, type) and issubclass(kind, Section)]

    @property
    def scalars(self) -> list[Any]:
        """The kinds other than sections, mappings and lists."""
        sections = self.sections
        return [kind for kind in self.kinds if kind not in sections and get_origin(kind) not in {Mapping, tuple}]

    @property
    def names_are_free(self) -> bool:
        """Whether people choose the keys below."""
        return any(get_origin(kind) is Mapping for kind in self.kinds)

    @property
    def may_be_shown(self) -> bool:
        """Whether a scalar found here is surely no secret: one is expected, or a list of them, and none is secret."""
        if not self.scalars:
            return any(get_origin(kind) is tuple for kind in self.kinds) and self.below(0).may_be_shown
        return SecretStr not in self.kinds

    @property
    def is_secret(self) -> bool:
        """Whether a value here is a secret."""
        return SecretStr in self.kinds

    def nearly_knows(self, key: str) -> bool:
        """Whether a key is one of the sections here or elsewhere, or nearly so."""
        sections = [*self.sections, *(section for _, section in all_sections())]
        return bool(get_close_matches(key, {name for section in sections for name in fields_of(section)}, n=1))

    def below(self, key: str | int) -> "Spot":
        """What may stand at a key, or at a position in a list."""
        kinds: list[Any] = []
        for kind in self.kinds:
            if get_origin(kind) is Mapping:
                kinds += _kinds(get_args(kind)[1])
            elif get_origin(kind) is tuple:
                kinds += _kinds(get_args(kind)[0])
        for section in self.sections:
            kinds += fields_of(section).get(str(key), ())
        return Spot(tuple(kinds))


def at(path: Path) -> Spot:
    """What may stand at a path."""
    spot = Spot((Config,))
    for key in path:
        spot = spot.below(key)
    return spot


@cache
def fields_of(section: type[Section]) -> Mapping[str, list[Any]]:
    """A section's keys, as they stand in a file, with the kinds of their values."""
    return {
        field.alias or name: _kinds(
            Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        )
        for name, field in section.model_fields.items()
    }


@cache
def descriptions_of(section: type[Section]) -> Mapping[str, str]:
    """What is told of each of a section's keys, by its field's name: the docstring below the field.

    Read from the source by whoever needs it, as pydantic would at each start, for every command.
    """
    (of_class,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(of_class, ast.ClassDef)  # noqa: S101 - a section is a class; this tells the type checker
    return {
        ast.unparse(field.target): " ".join(ast.literal_eval(below.value).split())
        for field, below in pairwise(of_class.body)
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


@cache
def all_sections() -> tuple[tuple[tuple[str, ...], type[Section]], ...]:
    """Every section that stands at a fixed place or under a name of people's choice, with its path, in order.

    A section that is only the long form of a scalar (`{sql: …}` for a column's name) is none of them.
    """
    return tuple(_sections_from(at(()), ()))


def _sections_from(spot: Spot, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    for section in spot.sections if not spot.scalars else ():
        yield path, section
        for key in fields_of(section):
            yield from _sections_from(spot.below(key), (*path, key))
    if spot.names_are_free:
        yield from _sections_from(spot.below(ANY_NAME), (*path, ANY_NAME))


def _kinds(annotation: Any) -> list[Any]:
    """Take an annotation apart: what stands in the *file*, which for a `PlainValidator` is its input type."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for mark in metadata:
            if isinstance(mark, PlainValidator) and mark.json_schema_input_type is not Any:
                inner = mark.json_schema_input_type
        return _kinds(inner)
    if get_origin(annotation) in {Union, UnionType}:
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation]

"""Every key of the configuration, by its section."""

from collections.abc import Iterator

from configuration_reference import Schema, written_out

ANY_NAME = "*"
"""In a path: a key that people choose, such as a watch's name."""


def all_sections() -> list[tuple[tuple[str, ...], Schema]]:
    """Every section: its path and its keys, in order; without long forms of a scalar (`{sql: …}` for a column)."""
    return list(_sections([{"type": "object", "properties": written_out()}], ()))


def _sections(kinds: list[Schema], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    if any(kind.get("type") not in ("object", "array") for kind in kinds):
        return
    keys = {key: below for kind in kinds for key, below in kind.get("properties", {}).items()}
    if keys:
        yield path, keys
    for key, below in keys.items():
        yield from _sections(_kinds(below), (*path, key))
    for kind in kinds:
        chosen = [kind.get("additionalProperties"), *kind.get("patternProperties", {}).values()]
        for below in filter(None, chosen if "properties" not in kind else ()):
            yield from _sections(_kinds(below), (*path, ANY_NAME))


def _kinds(schema: Schema) -> list[Schema]:
    found: list[Schema] = schema.get("anyOf", [schema])
    return [kind for kind in found if kind.get("type") != "null"]

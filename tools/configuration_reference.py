"""docs/configuration.md, from the schema: `python tools/configuration_reference.py > docs/configuration.md`."""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from cdc_sync.config import Config

Schema: TypeAlias = dict[str, Any]

_HEADER = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
_WIDTH = 120


def written_out() -> Schema:
    """The keys of the whole file, with each section in its place instead of a reference."""
    schema = Config.model_json_schema()

    def out(node: Any) -> Any:
        if isinstance(node, list):
            return [out(part) for part in node]
        if not isinstance(node, dict):
            return node
        section = schema["$defs"][node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else {}
        return {name: out(part) for name, part in (section | node).items()}

    return {name: out(key) for name, key in schema["properties"].items()}


def reference() -> str:
    return "\n".join([_HEADER, *_section("", written_out(), {})])


def _section(path: str, keys: Schema, placed: dict[str, str]) -> Iterator[str]:
    """A section and those below it; `placed` has the path of the section in which each item stood first."""
    below = {name: _below(key) for name, key in keys.items()}
    items = {name: _item(name, key) for name, key in keys.items() if below[name] is None}
    first = {name: placed.setdefault(item, path) for name, item in items.items()}
    yield from (item for name, item in items.items() if first[name] == path)
    for earlier in dict.fromkeys(first.values()):
        if earlier != path:
            names = ", ".join(f"**`{name}`**" for name in items if first[name] == earlier)
            yield f"- {names}: as in `{earlier}`."
    yield from [""] if items else []
    for name, section in below.items():
        if section is not None:
            ending, inner = section
            here = f"{path}.{name}{ending}" if path else f"{name}{ending}"
            yield f"## `{here}`\n"
            yield textwrap.fill(keys[name]["description"], _WIDTH) + "\n"
            yield from _section(here, inner, placed)


def _below(key: Schema) -> tuple[str, Schema] | None:
    """The section at a key: its path's continuation (a chosen name, a list's item), and its keys."""
    forms = [("", key), ("[]", key.get("items", {}))]
    forms += [("", form) for form in key.get("anyOf", [])]
    forms += [(".NAME", value) for value in key.get("patternProperties", {}).values()]
    forms += [(".NAME", key.get("additionalProperties") or {})]
    return next(((ending, form["properties"]) for ending, form in forms if "properties" in form), None)


def _item(name: str, key: Schema) -> str:
    default = f" (`{_plain(key['default'])}`)" if key.get("default", "") != "" else ""
    text = f"- **`{name}`**{default}: {key['description']}"
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(reference())

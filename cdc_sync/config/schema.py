"""What is made from the models, so that it tells what is so: the JSON Schema and the annotated example."""

import inspect
import math
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from typing import Any, TypeAlias

import yaml
from pydantic.json_schema import GenerateJsonSchema

from cdc_sync.config.models import Config
from cdc_sync.config.values import HostPort, Section, format_duration

_WATCH = "applications"
_WIDTH = 120
_WIDEST_BEFORE_A_COMMENT = 48
_INDENT = "  "
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)

Schema: TypeAlias = dict[str, Any]

COMMENT = "$comment"
"""The keyword that has a key's short comment, which the annotated example shows."""


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a configuration file; every key has its description."""
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **Config.model_json_schema(schema_generator=_Generator)}
    for section in Section.__subclasses__():
        own = schema if section is Config else schema["$defs"][section.__name__]
        documentation = inspect.getdoc(section) or ""
        own["description"] = documentation.partition("\n")[0]
        for name, text in _ATTRIBUTE.findall(documentation):
            key = own["properties"][name]
            description, *comment = text.split("\n        # ")
            key["description"] = " ".join(description.split())
            if comment:
                key[COMMENT] = comment[0]
    return schema


def written_out() -> Schema:
    """The keys of the whole file, with each section where it belongs, and not referred to."""
    schema = json_schema()

    def out(node: Any) -> Any:
        if isinstance(node, list):
            return [out(part) for part in node]
        if not isinstance(node, dict):
            return node
        section = schema["$defs"][node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else {}
        return {name: out(part) for name, part in (section | node).items()}

    return {name: out(key) for name, key in schema["properties"].items()}


def example() -> str:
    """The text of `config/cdc-sync.example.yaml`; a valid configuration where HELLOWORK_API_KEY is set.

    A section whose keys have no comments fits on its own line, any other is a block.
    """
    blocks = [files("cdc_sync.config").joinpath("example_head.yaml").read_text("utf-8")]
    for name, key in written_out().items():
        heading = f"# {key.pop(COMMENT)}\n" if _is_block(key) else ""
        blocks.append(heading + "\n".join(_lines({name: key}, "")) + "\n")
    return "\n".join(blocks)


class _Generator(GenerateJsonSchema):
    """Writes defaults as the file has them, and makes no titles of the keys' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature is pydantic's
        return False

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, HostPort):
            return str(dft)
        return super().encode_default(dft)


def _is_block(key: Schema) -> bool:
    return any(COMMENT in below or _is_block(below) for below in _keys(key).values())


def _lines(keys: Schema, indent: str) -> Iterator[str]:
    """Keys that stand one below the other, their comments in a column."""
    heads = {
        name: f"{indent}{name}:" + ("" if _is_block(key) else f" {flow(_value(key))}") for name, key in keys.items()
    }
    column = max((len(head) for head in heads.values() if len(head) <= _WIDEST_BEFORE_A_COMMENT), default=0)
    for name, key in keys.items():
        comment = key.get(COMMENT)
        line = f"{heads[name].ljust(column)}  # {comment}" if comment else heads[name]
        if len(line) > _WIDTH:
            yield f"{indent}# {comment}"
            line = heads[name]
        yield line
        if _is_block(key):
            yield from _lines(_keys(key), indent + _INDENT)


def _keys(key: Schema) -> Schema:
    """The keys below a key whose value is a section; of the mapping of watches, one watch."""
    watches = [value for value in key.get("patternProperties", {}).values() if "properties" in value]
    return {_WATCH: watches[0]} if watches else key.get("properties", {})


def _value(key: Schema) -> Any:
    below = _keys(key)
    if below:
        return {name: _value(inner) for name, inner in below.items()}
    return key["examples"][0] if "examples" in key else key.get("default", [] if key.get("type") == "array" else {})


def flow(value: Any, style: str | None = None) -> str:
    """A value as YAML writes it on one line; its texts in a kind of quotes, if one is given."""
    text: str = yaml.safe_dump(
        value, default_style=style, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.removesuffix("...\n").rstrip()

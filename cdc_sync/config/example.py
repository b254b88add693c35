"""The annotated example configuration, made from the schema so that it tells what is so."""

import json
import re
from collections.abc import Iterator
from typing import Any

from cdc_sync.config.schema import COMMENT, json_schema

_HEADER = """\
# The configuration of cdc-sync: every key, in most cases with its default. The connection, the header, the table and
# its columns are examples. Required are a watch's table, key and columns; any other key can be left out.
#
# Durations: 500ms, 30s, 5m, 2h, 7d. Sizes: 256MB, 64KiB. An unknown key is an error.
# Inside a value ${NAME} is replaced from the environment, ${file:PATH} by the file's content; $${ is a literal ${.
# A credential of systemd (LoadCredential=NAME:…): ${file:${CREDENTIALS_DIRECTORY}/NAME}
# After a change: cdc-sync config validate
"""
_WATCH = "applications"
_WIDTH = 120
_WIDEST_BEFORE_A_COMMENT = 48
_INDENT = "  "
_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./:@-]*")

_Schema = dict[str, Any]


def example() -> str:
    """The text of `config/cdc-sync.example.yaml`; a valid configuration where HELLOWORK_API_KEY is set."""
    schema = json_schema()
    layout = _Layout(schema["$defs"])
    blocks = [_HEADER]
    for name, key in schema["properties"].items():
        heading = f"# {key[COMMENT]}\n" if layout.is_block(key) else ""
        blocks.append(heading + "\n".join(layout.lines({name: {**key, COMMENT: ""} if heading else key}, "")) + "\n")
    return "\n".join(blocks)


class _Layout:
    """Lays keys out: a section whose keys have no comments fits on its own line, any other is a block."""

    def __init__(self, sections: dict[str, _Schema]) -> None:
        self._sections = sections

    def is_block(self, key: _Schema) -> bool:
        return any(COMMENT in below or self.is_block(below) for below in self._keys(key).values())

    def lines(self, keys: dict[str, _Schema], indent: str) -> Iterator[str]:
        """Keys that stand one below the other, their comments in a column."""
        heads = {name: f"{indent}{name}:{self._value_of(key)}" for name, key in keys.items()}
        column = max((len(head) for head in heads.values() if len(head) <= _WIDEST_BEFORE_A_COMMENT), default=0) + 2
        for name, key in keys.items():
            comment = key.get(COMMENT)
            line = f"{heads[name].ljust(column - 2)}  # {comment}" if comment else heads[name]
            if len(line) > _WIDTH:
                yield f"{indent}# {comment}"
                line = heads[name]
            yield line
            if self.is_block(key):
                yield from self.lines(self._keys(key), indent + _INDENT)

    def _value_of(self, key: _Schema) -> str:
        return "" if self.is_block(key) else f" {_flow(self._value(key))}"

    def _value(self, key: _Schema) -> Any:
        below = self._keys(key)
        if below:
            return {name: self._value(inner) for name, inner in below.items()}
        return key["examples"][0] if "examples" in key else key.get("default", [] if key.get("type") == "array" else {})

    def _keys(self, key: _Schema) -> dict[str, _Schema]:
        """The keys below a key whose value is a section; of the mapping of watches, one watch."""
        if "$ref" in key:
            keys: dict[str, _Schema] = self._sections[key["$ref"].removeprefix("#/$defs/")]["properties"]
            return keys
        watch = next((value for value in key.get("patternProperties", {}).values() if "$ref" in value), None)
        return {} if watch is None else {_WATCH: watch}


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_flow(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value)
    return json.dumps(value)

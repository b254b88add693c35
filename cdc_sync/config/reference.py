"""The page docs/configuration.md, made from the schema so that it tells every key and nothing else.

`python -m cdc_sync.config.reference > docs/configuration.md` writes it anew.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from cdc_sync.config.schema import json_schema

_HEADER = """\
# Every key of the configuration

Made from the models that read the file, by `python -m cdc_sync.config.reference`. `cdc-sync config schema` prints the
same as a JSON Schema for editors, and `cdc-sync config example` [an annotated
example](../config/cdc-sync.example.yaml). [How the common shapes of a schema are mapped](configuring-columns.md) has a
page of its own.

The file is `--config`, else `$CDC_SYNC_CONFIG`, else `/etc/cdc-sync/config.yaml`. It is YAML, and an unknown key is an
error. `cdc-sync config validate` tells every mistake at once.

| in a value | means |
|---|---|
| `500ms`, `30s`, `5m`, `2h`, `7d` | a duration |
| `64KiB`, `256MB` | a size |
| `${NAME}` | the environment variable of that name; an undefined one is an error |
| `${file:PATH}` | the content of a file, without the line's end |
| `${file:${CREDENTIALS_DIRECTORY}/NAME}` | the same: here a credential of systemd (`LoadCredential=NAME:…`) |
| `$${` | a literal `${` |
"""
_WIDTH = 120

_Schema = dict[str, Any]


def reference() -> str:
    """The text of docs/configuration.md."""
    schema = json_schema()
    return "\n".join([_HEADER, *_Page(schema["$defs"]).section("", schema)])


class _Page:
    def __init__(self, sections: dict[str, _Schema]) -> None:
        self._sections = sections

    def section(self, path: str, schema: _Schema) -> Iterator[str]:
        """A section's keys, and then the sections below it."""
        plain = {name: key for name, key in schema["properties"].items() if self._below(key) is None}
        yield from (self._item(name, key) for name, key in plain.items())
        if plain:
            yield ""
        for name, key in schema["properties"].items():
            below = self._below(key)
            if below is None:
                continue
            ending, inner = below
            here = f"{path}.{name}{ending}" if path else f"{name}{ending}"
            yield f"## `{here}`\n"
            yield textwrap.fill(key["description"], _WIDTH) + "\n"
            yield from self.section(here, inner)

    def _below(self, key: _Schema) -> tuple[str, _Schema] | None:
        """The section at a key, and how its path goes on: by a name of people's choice, or as one of a list."""
        forms = [("", key), ("[]", key.get("items", {}))]
        forms += [(".NAME", value) for value in key.get("patternProperties", {}).values()]
        for ending, form in forms:
            if "$ref" in form:
                return ending, self._sections[form["$ref"].removeprefix("#/$defs/")]
        return None

    def _item(self, name: str, key: _Schema) -> str:
        default = f" (`{_plain(key['default'])}`)" if key.get("default", "") != "" else ""
        text = f"- **`{name}`**{default}: {key['description']}"
        return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(reference())

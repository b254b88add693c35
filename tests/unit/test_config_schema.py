"""The JSON Schema and what is made of it: the annotated example."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from support.keys import all_sections

from cdc_sync.config import Config, parse
from cdc_sync.packaged import text

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "cdc-sync.example.yaml"


def keys_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, section in {"Config": schema, **schema["$defs"]}.items():
        for key, value in section["properties"].items():
            yield f"{name}.{key}", value


def test_every_key_has_its_meaning_and_its_default() -> None:
    schema = Config.model_json_schema()
    keys = dict(keys_of(schema))
    assert len(keys) > 50
    for name, key in keys.items():
        section, _, own_name = name.partition(".")
        required = {"Config": schema, **schema["$defs"]}[section].get("required", [])
        assert len(key["description"]) > 20, name
        assert own_name in required or "default" in key or "$ref" in key or key["type"] == "object", name


def test_the_annotated_example_is_fresh() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == text("config/example.yaml"), (
        "write it anew: cdc-sync config example > config/…"
    )


def test_the_example_has_every_key_of_every_section() -> None:
    document = yaml.safe_load(text("config/example.yaml"))
    for path, keys in all_sections():
        section = document
        for key in path:
            section = next(iter(section.values()), None) if key == "*" else section[key]
            if not section:
                break  # a section that is not there by default
        else:
            assert list(section) == list(keys), path


def test_but_for_its_examples_the_example_is_what_is_so_by_default() -> None:
    document = yaml.safe_load(text("config/example.yaml"))
    watch = document["watches"]["applications"]
    least = {
        "watches": {
            "applications": {
                "table": watch["table"],
                "key": watch["key"],
                "columns": watch["columns"],
                "capture": {"watermark": watch["capture"]["watermark"]},
            }
        },
        "database": document["database"],
        "hellowork": {"headers": document["hellowork"]["headers"]},
    }
    environ = {"HELLOWORK_API_KEY": "a-key"}
    assert parse(yaml.safe_dump(least), name="least", environ=environ) == parse(
        text("config/example.yaml"), name="example", environ=environ
    )

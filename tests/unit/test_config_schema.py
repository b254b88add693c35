"""The JSON Schema and what is made of it: the annotated example."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from support.keys import all_sections

from cdc_sync.config import Config, example, json_schema, parse, warnings
from cdc_sync.config.values import Section

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "cdc-sync.example.yaml"


def keys_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, section in {"Config": schema, **schema["$defs"]}.items():
        for key, value in section["properties"].items():
            yield f"{name}.{key}", value


def test_every_key_has_its_meaning_and_its_default() -> None:
    schema = json_schema()
    keys = dict(keys_of(schema))
    assert len(keys) > 50
    for name, key in keys.items():
        section, _, own_name = name.partition(".")
        required = {"Config": schema, **schema["$defs"]}[section].get("required", [])
        assert len(key["description"]) > 20, name
        assert own_name in required or "default" in key or "$ref" in key or key["type"] == "object", name


def test_an_unknown_key_is_an_error_in_an_editor_too() -> None:
    schema = json_schema()
    assert all(section["additionalProperties"] is False for section in (schema, *schema["$defs"].values()))


def test_the_schema_has_the_keys_of_the_models() -> None:
    schema = json_schema()
    for section in Section.__subclasses__():
        properties = schema["properties"] if section is Config else schema["$defs"][section.__name__]["properties"]
        fields = {name: field for name, field in section.model_fields.items() if not field.deprecated}
        assert list(properties) == [field.alias or name for name, field in fields.items()]


def test_defaults_are_written_as_in_a_file() -> None:
    keys = dict(keys_of(json_schema()))
    written = {name: keys[name]["default"] for name in ("HelloWork.timeout", "Capture.max_backlog", "Admin.listen")}
    assert written == {"HelloWork.timeout": "10s", "Capture.max_backlog": "256MB", "Admin.listen": "127.0.0.1:8765"}
    assert "for" in json_schema()["$defs"]["Retry"]["properties"]


def test_a_column_is_a_name_or_an_expression_in_an_editor_too() -> None:
    status = dict(keys_of(json_schema()))["Columns.status"]
    assert [kind.get("type") or kind["$ref"] for kind in status["anyOf"]] == ["string", "#/$defs/SqlColumn"]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {reference.removeprefix("#/$defs/") for reference in references(schema)} == set(schema["$defs"])


def test_the_annotated_example_is_fresh() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example(), "write it anew: cdc-sync config example > config/…"


def test_the_example_is_valid_and_nothing_in_it_is_suspicious() -> None:
    config = parse(example(), name="example", environ={"HELLOWORK_API_KEY": "a-key"})
    assert warnings(config) == []
    assert config.hellowork.headers["X-Api-Key"].get_secret_value() == "a-key"
    assert config.database.shown() == "dbname=ats user=cdc_sync"


def test_the_example_has_every_key_of_every_section() -> None:
    document = yaml.safe_load(example())
    for path, keys in all_sections():
        section = document
        for key in path:
            section = next(iter(section.values()), None) if key == "*" else section[key]
            if not section:
                break  # a section that is not there by default
        else:
            assert list(section) == list(keys), path


def test_but_for_its_examples_the_example_is_what_is_so_by_default() -> None:
    document = yaml.safe_load(example())
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
        example(), name="example", environ=environ
    )


def test_the_example_fits_a_page() -> None:
    assert [line for line in example().splitlines() if len(line) > 120 or line != line.rstrip()] == []

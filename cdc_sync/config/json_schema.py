"""The JSON Schema, made from the models, and the annotated example."""

import math
from typing import Any, TypeAlias

import yaml
from pydantic.json_schema import GenerateJsonSchema

from cdc_sync.config.models import Config
from cdc_sync.packaged import text

Schema: TypeAlias = dict[str, Any]


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a configuration file; every key has its description."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **Config.model_json_schema()}


def example() -> str:
    """The annotated example: every key, mostly with its default. Valid where HELLOWORK_API_KEY is set."""
    return text("config/example.yaml")


def block(document: Any) -> str:
    """A document as YAML, as people write it: its innermost lists and mappings each on one line."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None)
    return text.rstrip("\n")


def flow(value: Any, style: str | None = None) -> str:
    """A value as YAML on one line, its texts in the given kind of quotes."""
    text: str = yaml.safe_dump(
        value, default_style=style, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.removesuffix("...\n").rstrip()

"""The JSON Schema, made from the models, and the annotated example."""

import math
from typing import Any, TypeAlias

import yaml
from pydantic.json_schema import GenerateJsonSchema

from cdc_sync.packaged import text

from .models import Config

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


def in_yaml(value: str, style: str | None = None) -> str:
    """A text as YAML on one line, in the given kind of quotes; nothing in it is taken for a reference."""
    written = value.replace("${", "$${")
    text: str = yaml.safe_dump(written, default_style=style, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").rstrip()

"""The JSON Schema, made from the models, and the annotated example."""

import inspect
import math
import re
from datetime import timedelta
from typing import Any, TypeAlias

import yaml
from pydantic.json_schema import GenerateJsonSchema

from cdc_sync.config.daemon import NamedDatabase
from cdc_sync.config.models import Config
from cdc_sync.config.values import HostPort, Section, format_duration
from cdc_sync.packaged import text

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)

Schema: TypeAlias = dict[str, Any]

_OR_REFERENCE = {"type": ["number", "string"]}
"""A number, or text with a `${…}`."""


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a configuration file; every key has its description."""
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **Config.model_json_schema(schema_generator=_Generator)}
    sections: tuple[type[Section], ...] = (*Section.__subclasses__(), NamedDatabase)
    for section in sections:
        own = schema if section is Config else schema["$defs"][section.__name__]
        own["description"] = (inspect.getdoc(section) or "").partition("\n")[0]
        documentation = [inspect.getdoc(each) or "" for each in section.__mro__ if issubclass(each, Section)]
        for name, meaning in _ATTRIBUTE.findall("\n".join(documentation)):
            own["properties"][name]["description"] = " ".join(meaning.split())
    return schema


def example() -> str:
    """The annotated example: every key, mostly with its default. Valid where HELLOWORK_API_KEY is set."""
    return text("config/example.yaml")


class _Generator(GenerateJsonSchema):
    """Writes defaults as the file has them, and no titles."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature is pydantic's
        return False

    def int_schema(self, schema: Any) -> Schema:
        return super().int_schema(schema) | _OR_REFERENCE

    def float_schema(self, schema: Any) -> Schema:
        return super().float_schema(schema) | _OR_REFERENCE

    def timedelta_schema(self, schema: Any) -> Schema:  # noqa: ARG002 - the signature is pydantic's
        return _OR_REFERENCE

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, HostPort):
            return str(dft)
        return super().encode_default(dft)


def flow(value: Any, style: str | None = None) -> str:
    """A value as YAML on one line, its texts in the given kind of quotes."""
    text: str = yaml.safe_dump(
        value, default_style=style, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.removesuffix("...\n").rstrip()

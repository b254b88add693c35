"""The configuration as a JSON Schema, for editors and for the documentation."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from cdc_sync.config.addresses import HostPort
from cdc_sync.config.models import Config
from cdc_sync.config.outline import descriptions_of
from cdc_sync.config.quantities import format_duration
from cdc_sync.config.section import Section

COMMENT = "$comment"
"""The keyword that has a key's short comment, which the annotated example shows."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration file; every key has its description."""
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **Config.model_json_schema(schema_generator=_Generator)}
    for section in Section.__subclasses__():
        keys = (schema if section is Config else schema["$defs"][section.__name__])["properties"]
        for name, field in section.model_fields.items():
            key = keys[field.alias or name]
            key["description"] = descriptions_of(section)[name]
            # An editor shows a title as a heading, and `or poll` is none.
            if "title" in key:
                key[COMMENT] = key.pop("title")
    return schema


class _Generator(GenerateJsonSchema):
    """Writes defaults as the file has them, and makes no titles of the keys' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature is pydantic's
        return False

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, HostPort):
            return str(dft)
        if isinstance(dft, Mapping):
            return {key: self.encode_default(value) for key, value in dft.items()}
        return super().encode_default(dft)

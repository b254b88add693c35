"""What every section of the configuration is made of."""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from cdc_sync.config.problems import Mistake
from cdc_sync.config.quantities import REFERENCE_PATTERN
from cdc_sync.core.identifiers import IdentifierError, QualifiedName, parse_column, parse_qualified, written

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")


class Section(BaseModel):
    """A section: immutable, and every key that it does not know is an error.

    The fields tell everything that is ever said about a key: its docstring is the documentation, `title` the short
    comment of the annotated example, `examples[0]` what the annotated example has where it shows no default.
    """

    # Inputs are hidden because an exception travels: into logs, into a report of a crash.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_all_defaults(cls, value: Any) -> Any:
        # A section whose keys are all commented out is null in YAML.
        return {} if value is None else value


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise Mistake("names a column twice")
    return names


def _not_blank(text: str) -> str:
    if not text.strip():
        raise Mistake("must not be empty")
    return text


def _sql(text: str) -> str:
    if _not_blank(text).rstrip().endswith(";"):
        raise Mistake("must not end with a semicolon: it becomes part of a longer statement")
    return text


def _whole_number(value: Any) -> int:
    """Read an integer; `true` is none, though Python says so."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    # Bounded, because Python refuses to convert more than some thousand digits.
    if not text.removeprefix("-").isdecimal() or len(text) > 18 or not text.isascii():  # noqa: PLR2004 - fits 64 bits
        raise Mistake("expected a whole number")
    return int(text)


def _positive_number(value: Any) -> float:
    text = str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    if not _NUMBER.fullmatch(text) or not float(text):
        raise Mistake("expected a number above zero, such as 0.5 or 20")
    return float(text)


def _column_name(value: Any) -> str:
    if not isinstance(value, str):
        raise Mistake("expected a column's name")
    try:
        return parse_column(value)
    except IdentifierError as error:
        raise Mistake(f"expected a column's name: {error}") from None


def _table_name(value: Any) -> QualifiedName:
    if isinstance(value, QualifiedName):
        return value
    if not isinstance(value, str):
        raise Mistake("expected a table's name, such as public.applications")
    try:
        return parse_qualified(value)
    except IdentifierError as error:
        raise Mistake(f"expected a table's name, such as public.applications: {error}") from None


Text = Annotated[str, AfterValidator(_not_blank), WithJsonSchema({"type": "string", "minLength": 1})]
"""Text that is not blank."""

Sql = Annotated[str, AfterValidator(_sql), WithJsonSchema({"type": "string", "minLength": 1})]
"""A piece of SQL, put into a statement as it is."""

WholeNumber = Annotated[
    int,
    BeforeValidator(_whole_number),
    # No WithJsonSchema: it would hide a field's own bounds.
    Field(json_schema_extra={"type": ["integer", "string"], "pattern": f"^(-?[0-9]+|{REFERENCE_PATTERN})$"}),
]
"""An integer."""

PositiveNumber = Annotated[
    float,
    BeforeValidator(_positive_number),
    WithJsonSchema(
        {"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": f"^({_NUMBER.pattern}|{REFERENCE_PATTERN})$"}
    ),
]
"""A number above zero, decimals allowed."""

ColumnName = Annotated[
    str,
    BeforeValidator(_column_name),
    PlainSerializer(written, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
"""A column's name as the catalog has it; written as in SQL: folded to lower case unless in double quotes."""

DISTINCT = AfterValidator(_distinct)
"""Refuses a list that has a column twice."""

TableName = Annotated[
    QualifiedName,
    BeforeValidator(_table_name),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
"""A table's name; written as in SQL: each part folded to lower case unless in double quotes."""

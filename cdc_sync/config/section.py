"""What every section of the configuration is made of."""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from cdc_sync.config.problems import Mistake
from cdc_sync.config.quantities import REFERENCE_PATTERN
from cdc_sync.core.identifiers import IdentifierError, QualifiedName, parse_column, parse_qualified

_Name = TypeVar("_Name")
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


def named(parse: Callable[[str], _Name], value: Any, expected: str) -> _Name:
    """Read a name that follows SQL's rules for quotes."""
    if not isinstance(value, str):
        raise Mistake(f"expected {expected}")
    try:
        return parse(value)
    except IdentifierError as error:
        raise Mistake(f"expected {expected}: {error}") from None


def _column_name(value: Any) -> str:
    return named(parse_column, value, "a column's name")


def _table_name(value: Any) -> QualifiedName:
    is_read = isinstance(value, QualifiedName)
    return value if is_read else named(parse_qualified, value, "a table's name, such as public.applications")


NOT_EMPTY = WithJsonSchema({"type": "string", "minLength": 1})
"""What an editor is told of a text that has rules of its own."""

Text = Annotated[str, AfterValidator(_not_blank), NOT_EMPTY]
"""Text that is not blank."""

Sql = Annotated[str, AfterValidator(_sql), NOT_EMPTY]
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

ColumnName = Annotated[str, BeforeValidator(_column_name), NOT_EMPTY]
"""A column's name as the catalog has it; written as in SQL: folded to lower case unless in double quotes."""

DISTINCT = AfterValidator(_distinct)
"""Refuses a list that has a column twice."""

TableName = Annotated[QualifiedName, BeforeValidator(_table_name), NOT_EMPTY]
"""A table's name; written as in SQL: each part folded to lower case unless in double quotes."""

"""A column mapping: the name of a column, or an SQL expression over the row.

The values (`PlainColumn`, `SqlColumn`, `ExtraField`) are apart from the sections that read them (`SqlAsWritten`,
`ExtraAsWritten`), since a name in the file follows SQL's rules for quotes and a name in a value is the catalog's.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import Field, PlainValidator, ValidationInfo, field_validator

from cdc_sync.config.problems import Mistake
from cdc_sync.config.values import ColumnName, Section, Sql, Text, named
from cdc_sync.core.identifiers import parse_column


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """A column; `name` is as the catalog has it."""

    name: str


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """An SQL expression over the row, which is called `t`, and the columns that it uses (None: unknown)."""

    sql: str
    depends_on: tuple[str, ...] | None = None


_AS_TEXT = re.compile(
    r'\s*t\.("(?:[^"]|"")+"|[^\W\d][\w$]*)\s*::\s*(?:text|(?:varchar|character varying)\s*(?:\(\d+\))?)\s*',
    re.IGNORECASE,
)


def bare_column(mapped: PlainColumn | SqlColumn) -> str | None:
    """The column whose value is taken as it is, be it by `t.column::text`; None if an expression makes another one."""
    if isinstance(mapped, PlainColumn):
        return mapped.name
    as_text = _AS_TEXT.fullmatch(mapped.sql)
    return None if as_text is None else parse_column(as_text[1])


@dataclass(frozen=True, slots=True)
class ExtraField:
    """A further field of the payload: where its value comes from, and the statuses it goes with (empty: all)."""

    column: PlainColumn | SqlColumn
    only_for: tuple[str, ...] = ()


class SqlAsWritten(Section):
    """An SQL expression over the row.

    Attributes:
        sql: An SQL expression over the row, whose alias is `t`: for example `CASE WHEN t.hired THEN 'hired' END`. It
            becomes part of the daemon's queries as it is, so it may call functions and have sub-queries.
        depends_on: The columns of the table that the expression uses: what the triggers compare, and what the daemon's
            role may read. Null, the default, means unknown: the columns written `t.name` in the expression are taken if
            nothing else in it could be a column, else every column of the table.
    """

    sql: Sql
    depends_on: tuple[ColumnName, ...] | None = None


class ExtraAsWritten(Section):
    """A further field of the payload.

    Attributes:
        column: The column that has the value; this or `sql`. Null, the default: `sql` gives it.
        sql: An SQL expression over the row, whose alias is `t`, that gives the value; this or `column`. Null, the
            default: `column` gives it.
        depends_on: The columns of the table that `sql` uses, as in a column mapping. Null, the default: unknown.
        only_for: The statuses, as they are sent, with which the field goes. Empty, the default: with every status.
    """

    column: ColumnName | None = None
    sql: Sql | None = Field(default=None, validate_default=True)
    depends_on: tuple[ColumnName, ...] | None = None
    only_for: tuple[Text, ...] = ()

    @field_validator("sql")
    @classmethod
    def _is_the_only_source(cls, sql: str | None, info: ValidationInfo) -> str | None:
        if "column" in info.data and (info.data["column"] is None) == (sql is None):
            raise Mistake("expected one of column and sql, and not both", about_section=True)
        return sql

    @field_validator("depends_on")
    @classmethod
    def _goes_with_sql(cls, depends_on: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if depends_on is not None and info.data.get("column") is not None:
            raise Mistake("goes with sql only: a column depends on itself")
        return depends_on


def _read_column(value: Any) -> PlainColumn | SqlColumn:
    if isinstance(value, (PlainColumn, SqlColumn)):
        return value
    if isinstance(value, dict):
        read = SqlAsWritten.model_validate(value)
        return SqlColumn(read.sql, read.depends_on)
    return PlainColumn(named(parse_column, value, "a column's name or {sql: EXPRESSION, depends_on: [columns]}"))


def _read_extra(value: Any) -> ExtraField:
    if isinstance(value, ExtraField):
        return value
    if not isinstance(value, dict):
        name = named(parse_column, value, "a column's name or {column: NAME, only_for: [statuses]}")
        return ExtraField(PlainColumn(name))
    read = ExtraAsWritten.model_validate(value)
    column = PlainColumn(read.column) if read.column is not None else SqlColumn(read.sql or "", read.depends_on)
    return ExtraField(column, read.only_for)


Column: TypeAlias = Annotated[
    PlainColumn | SqlColumn,
    PlainValidator(_read_column, json_schema_input_type=ColumnName | SqlAsWritten),
]
"""Where a value comes from; in the file a column's name or `{sql: …, depends_on: […]}`."""

Extra: TypeAlias = Annotated[
    ExtraField,
    PlainValidator(_read_extra, json_schema_input_type=ColumnName | ExtraAsWritten),
]
"""In the file a column's name, `{column: …, only_for: […]}` or `{sql: …, depends_on: […], only_for: […]}`."""

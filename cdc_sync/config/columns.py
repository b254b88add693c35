"""A column mapping: the name of a column, or an SQL expression over the row."""

import re
from dataclasses import dataclass
from typing import Annotated, Self, TypeAlias

from pydantic import model_validator

from cdc_sync.config.problems import Mistake
from cdc_sync.config.values import ColumnName, Section, Sql, Text, reads
from cdc_sync.core.identifiers import parse_column


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """A column; `name` is as the catalog has it."""

    name: str


class SqlColumn(Section):
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


class ExtraField(Section):
    """A further field of the payload.

    Attributes:
        column: The column that has the value; this or `sql`. Null, the default: `sql` gives it.
        sql: An SQL expression over the row, whose alias is `t`, that gives the value; this or `column`. Null, the
            default: `column` gives it.
        depends_on: The columns of the table that `sql` uses, as in a column mapping. Null, the default: unknown.
        only_for: The statuses, as they are sent, with which the field goes. Empty, the default: with every status.
    """

    column: ColumnName | None = None
    sql: Sql | None = None
    depends_on: tuple[ColumnName, ...] | None = None
    only_for: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.column is None) == (self.sql is None) or None not in (self.column, self.depends_on):
            raise Mistake("expected one of column and sql, and depends_on with sql alone")
        return self

    @property
    def mapped(self) -> PlainColumn | SqlColumn:
        """Where its value comes from."""
        if self.column is not None:
            return PlainColumn(self.column)
        return SqlColumn.model_construct(sql=self.sql, depends_on=self.depends_on)


Column: TypeAlias = Annotated[
    PlainColumn | SqlColumn,
    reads(
        "a column's name or {sql: EXPRESSION, depends_on: [columns]}",
        {str: lambda name: PlainColumn(parse_column(name)), dict: SqlColumn.model_validate},
        made=(PlainColumn, SqlColumn),
        written=ColumnName | SqlColumn,
    ),
]
"""Where a value comes from; in the file a column's name or `{sql: …, depends_on: […]}`."""

Extra: TypeAlias = Annotated[
    ExtraField,
    reads(
        "a column's name or {column: NAME, only_for: [statuses]}",
        {str: lambda name: ExtraField(column=name), dict: ExtraField.model_validate},
        made=ExtraField,
        written=ColumnName | ExtraField,
    ),
]
"""In the file a column's name, `{column: …, only_for: […]}` or `{sql: …, depends_on: […], only_for: […]}`."""

"""Section `columns` of a watch, and its further fields: the column or SQL expression of each value."""

import re
from typing import Annotated, Any, NamedTuple, Self, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from cdc_sync.config import values
from cdc_sync.config.problems import SettingError
from cdc_sync.config.values import Section
from cdc_sync.core.identifiers import parse_column

_OUR_FIELDS = {"status", "eventDate", "created", "jobId", "source", "applicationId"}
"""Fields of the payload with a meaning of their own (HelloWork's page "Envoi changements de statut")."""

ExtraName = Annotated[
    values.Text,
    values.must(lambda name: name not in _OUR_FIELDS, "is a field that cdc-sync sends itself: map it in columns"),
]


class PlainColumn(NamedTuple):
    """A column; `name` is as the catalog has it."""

    name: str


class SqlColumn(Section):
    """An SQL expression over the row.

    Attributes:
        sql: An SQL expression over the row, whose alias is `t`: for example `CASE WHEN t.hired THEN 'hired' END`. The
            daemon's queries contain it as it is, so it may call functions and have sub-queries.
        depends_on: The table's columns that the expression uses: the triggers compare them, and the daemon's role may
            read them. `cdc-sync check` names them. Null: unknown. In notify mode `sql install` then refuses the watch,
            unless the value is not compared (`created`, `event_date`, `source`, `extra`); the role may read the whole
            table.
    """

    sql: values.Text
    depends_on: tuple[values.ColumnName, ...] | None = None


_COLUMN = r'(?:t\.)?("(?:[^"]|"")+"|[^\W\d][\w$]*)'

_TEXT = r"(?:text|(?:varchar|character varying)\s*(?:\(\d+\))?)"

_AS_IT_IS = re.compile(
    rf"\s*(?:{_COLUMN}(?:\s*::\s*{_TEXT})?|cast\s*\(\s*{_COLUMN}\s+as\s+{_TEXT}\s*\))\s*", re.IGNORECASE
)


def bare_column(mapped: PlainColumn | SqlColumn) -> str | None:
    """The column whose value is taken unchanged, also by `t.column::text`; None for any other expression."""
    if isinstance(mapped, PlainColumn):
        return mapped.name
    as_it_is = _AS_IT_IS.fullmatch(mapped.sql)
    return None if as_it_is is None else parse_column(as_it_is[1] or as_it_is[2])


class ExtraField(Section):
    """A further field of the payload.

    Attributes:
        column: The column that has the value; this or `sql`.
        sql: An SQL expression over the row, whose alias is `t`, that gives the value; this or `column`.
        depends_on: The table's columns that `sql` uses, as in a column mapping.
        only_for: The statuses, as they are sent, with which the field is sent. Empty: with every status.
    """

    column: values.ColumnName | None = None
    sql: values.Text | None = None
    depends_on: tuple[values.ColumnName, ...] | None = None
    only_for: tuple[values.Text, ...] = ()

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.column is None) == (self.sql is None) or None not in (self.column, self.depends_on):
            raise SettingError("expected one of column and sql, and depends_on with sql alone")
        return self

    @property
    def mapped(self) -> PlainColumn | SqlColumn:
        """The source of its value."""
        if self.column is not None:
            return PlainColumn(self.column)
        return SqlColumn.model_construct(sql=self.sql, depends_on=self.depends_on)


def _column(value: Any) -> PlainColumn | SqlColumn:
    if isinstance(value, PlainColumn):
        return value
    return PlainColumn(parse_column(value)) if isinstance(value, str) else SqlColumn.model_validate(value)


Column: TypeAlias = Annotated[
    PlainColumn | SqlColumn, PlainValidator(_column, json_schema_input_type=values.ColumnName | SqlColumn)
]
"""In the file a column's name or `{sql: …, depends_on: […]}`."""

Condition: TypeAlias = Annotated[SqlColumn, values.short_for("sql", SqlColumn)]
"""In the file an expression or `{sql: …, depends_on: […]}`."""

Extra: TypeAlias = Annotated[ExtraField, values.short_for("column", ExtraField)]
"""In the file a column's name, `{column: …, only_for: […]}` or `{sql: …, depends_on: […], only_for: […]}`."""


class Columns(Section):
    """Where each value that HelloWork receives comes from.

    Attributes:
        application_id: HelloWork's id of the application (`applicationId` of the application as it was received). This
            or `status_url` is required; where it is NULL or blank, the id in the status URL counts. A row with neither
            is not HelloWork's and is left alone, without a warning.
        status_url: The application's status URL (`statusApiUrl` of the application as it was received). Where a row has
            one, calls go to it, if its host is allowed; the application's id is taken from it if `application_id` is
            not mapped. Null: the URL is built from the id.
        status: The application's status in the ATS: the label that `status.map` translates. Required. A status in
            another table, or in several booleans, takes an SQL expression.
        job_id: The job's id in the ATS. Required: it shows HelloWork that an application moved to another job. Blank
            means NULL; for a row without a job see `last_known_job`.
        created: When the application was created in the ATS: a date or a timestamp, with or without time zone (see
            `timezone`). Required: every call has it.
        event_date: When the event that caused the call happened: a date or a timestamp. Null: when the change was
            recorded (notify) or seen (poll). A date that is not later than the last one sent is replaced: see
            `ordered_dates`.
        source: Where the application came from: text, or a JSON object. Null: not sent.
        account: Whose calls the row's are: the name of one of `hellowork.accounts`, or `default`. So one table with all
            customers needs one watch. A row whose account is not configured cannot be reported. Its account is no state
            of an application: another one alone causes no call. Null: every row has the watch's account.
        deleted: Whether an existing row counts as deleted: a boolean, or a timestamp that is NULL as long as the row
            lives. Null: only a row that is gone is deleted.
    """

    application_id: Column | None = Field(default=None, validate_default=True, examples=["hellowork_id"])
    status_url: Column | None = Field(default=None, validate_default=True, examples=["status_api_url"])
    status: Column = Field(examples=["status"])
    job_id: Column = Field(examples=["job_id"])
    created: Column = Field(examples=["created_at"])
    event_date: Column | None = Field(default=None, examples=["updated_at"])
    source: Column | None = Field(default=None, examples=["source"])
    account: Column | None = Field(default=None, examples=["tenant_id"])
    deleted: Column | None = Field(default=None, examples=["deleted_at"])

    _an_application_has_an_id = values.refuse(
        "status_url",
        lambda status_url, given: status_url is None and given["application_id"] is None,
        "expected application_id or status_url: one of them is required",
    )

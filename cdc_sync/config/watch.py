"""Section `watches`: which rows are applications, how their changes are captured, and what is sent."""

import re
import zoneinfo
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from cdc_sync.core.identifiers import parse_column

from . import values
from .sections import OwnHelloWork
from .values import Section, SettingError, default

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
    """An SQL expression over the row."""

    sql: values.Text
    """An SQL expression over the row, whose alias is `t`: for example `CASE WHEN t.hired THEN 'hired' END`. The
    daemon's queries contain it as it is, so it may call functions and have sub-queries."""
    depends_on: tuple[values.ColumnName, ...] | None = None
    """The table's columns that the expression uses: the triggers compare them, and the daemon's role may read them.
    `cdc-sync check` names them. Null: unknown. In notify mode `sql install` then refuses the watch, unless the value is
    not compared (`created`, `event_date`, `source`, `extra`); the role may read the whole table."""


class ExtraField(Section):
    """A further field of the payload."""

    column: values.ColumnName | None = None
    """The column that has the value; this or `sql`."""
    sql: values.Text | None = None
    """An SQL expression over the row, whose alias is `t`, that gives the value; this or `column`."""
    depends_on: tuple[values.ColumnName, ...] | None = None
    """The table's columns that `sql` uses, as in a column mapping."""
    only_for: tuple[values.Text, ...] = ()
    """The statuses, as they are sent, with which the field is sent. Empty: with every status."""

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
    """Where each value that HelloWork receives comes from."""

    application_id: Column | None = Field(default=None, examples=["hellowork_id"])
    """HelloWork's id of the application (`applicationId` of the application as it was received). This or `status_url`
    is required; where it is NULL or blank, the id in the status URL counts. A row with neither is not HelloWork's and
    is left alone, without a warning."""
    status_url: Column | None = Field(default=None, examples=["status_api_url"])
    """The application's status URL (`statusApiUrl` of the application as it was received). Where a row has one, calls
    go to it, if its host is allowed; the application's id is taken from it if `application_id` is not mapped. Null: the
    URL is built from the id."""
    status: Column = Field(examples=["status"])
    """The application's status in the ATS: the label that `status.map` translates. Required. A status in another table,
    or in several booleans, takes an SQL expression."""
    job_id: Column = Field(examples=["job_id"])
    """The job's id in the ATS. Required: it shows HelloWork that an application moved to another job. Blank means NULL;
    for a row without a job see `last_known_job`."""
    created: Column = Field(examples=["created_at"])
    """When the application was created in the ATS: a date or a timestamp, with or without time zone (see `timezone`).
    Required: every call has it."""
    event_date: Column | None = Field(default=None, examples=["updated_at"])
    """When the event that caused the call happened: a date or a timestamp. Null: when the change was recorded (notify)
    or seen (poll). A date that is not later than the last one sent is replaced: see `ordered_dates`."""
    source: Column | None = Field(default=None, examples=["source"])
    """Where the application came from: text, or a JSON object. Null: not sent."""
    account: Column | None = Field(default=None, examples=["tenant_id"])
    """Whose calls the row's are: the name of one of `hellowork.accounts`, or `default`. So one table with all customers
    needs one watch. A row whose account is not configured cannot be reported. Its account is no state of an
    application: another one alone causes no call. Null: every row has the watch's account."""
    deleted: Column | None = Field(default=None, examples=["deleted_at"])
    """Whether an existing row counts as deleted: a boolean, or a timestamp that is NULL as long as the row lives. Null:
    only a row that is gone is deleted."""

    _an_application_has_an_id = values.refuse(
        "status_url",
        lambda status_url, given: status_url is None and given["application_id"] is None,
        "expected application_id or status_url: one of them is required",
    )


_WITHOUT_SUMMER_TIME = {"CET", "EET", "MET", "WET"}
"""Zones that PostgreSQL takes for abbreviations of a fixed offset (documentation, "Time Zones"). It reads all other
names as the IANA database does.
"""


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones() - _WITHOUT_SUMMER_TIME)


TimeZone = Annotated[
    str, values.must(lambda name: name in _zones(), "expected a place of the IANA database, such as Europe/Paris")
]

Interval = Annotated[
    values.Duration, values.must(lambda length: length >= 10 * values.MILLISECOND, "must be at least 10ms")
]


class Related(Section):
    """Another table whose changes matter to the watched one."""

    table: values.TableName
    """The other table: `table` or `schema.table`; parts in double quotes keep their case."""
    key: tuple[values.ColumnName, ...]
    """Its columns that hold the watched table's key, in the same order. Empty if there are none (a table of stages,
    say): any change of it then has the whole watch swept."""
    columns: tuple[values.ColumnName, ...] = Field(default=(), examples=[["label"]])
    """Its columns that matter, such as the label of a stage: in notify mode an update of a row counts if it changes one
    of these, or the key. Empty: any update counts. A new or deleted row always counts."""


class Capture(Section):
    """How changes are captured."""

    mode: Literal["notify", "poll"] = "notify"
    """`notify`: triggers, which a DBA installs, record the keys of changed rows; nothing is missed, and latency is
    milliseconds. `poll`: for read-only access; rows are found by a timestamp that the ATS must maintain."""
    wakeup: Literal["notify", "none"] = "notify"
    """In notify mode, what wakes the daemon after a change: `notify`, PostgreSQL's NOTIFY, within milliseconds; `none`,
    a look every poll_interval, with triggers that never NOTIFY, for an ATS whose commits must not take NOTIFY's
    lock."""
    watermark: values.ColumnName | None = Field(default=None, examples=["updated_at"])
    """In poll mode, the column by which changed rows are found: a timestamp or date that the ATS sets at every change,
    best indexed. Required then."""
    poll_interval: Interval = default("2s")
    """The pause between two polls, or between two drains with `wakeup: none` or where triggers cannot notify (prepared
    transactions, synchronous standbys); 10ms or more. The default costs next to nothing if the watermark is indexed.
    The pause is nine times the last poll's length if that is more, up to a minute."""
    lookback: values.Duration = default("5m")
    """In poll mode, how far behind the newest finished transaction rows are read again: a row's timestamp is earlier
    than its commit by as much as its transaction lasted before its first write, and as application servers' clocks are
    behind. A row read again costs only a comparison."""
    drain_interval: Interval = default("1s")
    """In notify mode, how often the daemon looks at the change log without a notification; 10ms or more. One small
    statement looks for all watches of a database. A change that did not notify waits for it."""
    sweep: values.PositiveDuration = default("15m")
    """How often every row is compared with what HelloWork acknowledged. Sweeps alone find deletions in poll mode, rows
    changed without their timestamp, and changes while triggers were off. After one the next waits for nine times its
    length, at least."""
    replicated: bool = False
    """In notify mode, whether the triggers also fire for changes that come by logical replication (ENABLE ALWAYS), and
    for sessions with session_replication_role = replica. Without it sweeps find such changes."""
    max_backlog: values.Size = default("256MB", ge=64 * 2**10)
    """In notify mode, the size of the change log (bytes, 64KiB or more) beyond which the triggers stop recording, for
    when the daemon is away for long; the next sweep finds the rest. The default holds millions of changes."""

    @property
    def needs_log(self) -> bool:
        """Whether triggers record changes in a log that the daemon consumes."""
        return self.mode == "notify"

    @property
    def needed_watermark(self) -> str | None:
        """The column by which changed rows are found; None if none is."""
        return None if self.needs_log else self.watermark

    _poll_needs_a_watermark = values.refuse(
        "watermark",
        lambda watermark, given: watermark is None and given["mode"] == "poll",
        "capture.mode poll needs a timestamp that the ATS sets at every change",
    )


class Status(Section):
    """From the ATS's labels to the statuses that are sent."""

    map: Mapping[str, values.Text] = Field(default_factory=dict)
    """From the ATS's label to the status to send. Labels are compared as text, to the letter. A move between labels
    with the same status is no change. The label "" stands for an application without a status (NULL or blank), which
    otherwise cannot be reported. An empty map is fine: HelloWork takes any label and maps it on its own side."""
    unmapped: Literal["send", "ignore", "reject"] = "send"
    """What happens to a label that is not in `map`: `send` sends it as it is; `ignore` makes no call, except for the
    deletion of what was reported before, or is marked as deleted; `reject` makes a dead letter, for a person to look
    at, whose retry sends the label as it is."""
    deleted: values.Text = "deleted"
    """The status that is sent for a deleted application, since HelloWork has no other call for that. Any label."""


class Fuse(Section):
    """How many changes at once pass without a person."""

    max_changes: int = Field(default=1000, ge=1, lt=2**63)
    """How many new calls of a watch pass at once, 1 or more. No team of recruiters reaches the default in ten
    minutes."""
    max_deletions: int = Field(default=100, ge=1, lt=2**63)
    """As max_changes, for deletions alone. Fewer by default, since they cannot be taken back."""
    window: values.PositiveDuration = default("10m")
    """The time over which a full count of the two drains, evenly."""


class ForEach(Section):
    """The customers for whom a watch is a template: schemas, databases, or schemas of several databases."""

    schemas: values.Text | None = Field(default=None, examples=["tenant_%"])
    """The schemas, as a pattern of SQL's LIKE: `%` stands for any text, `_` for any one character, and a backslash
    takes either as it is. Those with the watch's table are followed, also such as appear while the daemon runs. This or
    `databases` is required."""
    databases: tuple[values.Text, ...] = ()
    """Names of `databases`, each of which has the watch's table; a group's name stands for all of it."""

    _is_a_pattern = values.refuse(
        "schemas",
        lambda schemas, _: schemas is not None and re.fullmatch(r"(?:[^\\]|\\.)*", schemas) is None,
        "expected a character after the backslash at the end",
    )
    _names_customers = values.refuse(
        "databases",
        lambda databases, given: not databases and given["schemas"] is None,
        "expected schemas or databases, or both",
    )


_NOBODY = ForEach.model_construct()


class Override(Section):
    """What is different for one tenant."""

    status: Status = Field(default_factory=Status)
    """As the watch's section `status`: only the given keys count for this tenant; entries of `map` are added to the
    watch's, and replace those with the same label."""
    timezone: TimeZone | None = None
    """The time zone of this tenant's dates. Null: the watch's."""
    hellowork: OwnHelloWork = Field(default_factory=OwnHelloWork)
    """As the watch's section `hellowork`: this tenant's own headers."""


class Watch(Section):
    """A table whose rows are applications."""

    table: values.TableName = Field(examples=["public.applications"])
    """The table, or view in poll mode, whose rows are applications: `table` or `schema.table`. As in SQL, a name is
    folded to lower case unless it is in double quotes; YAML then wants single quotes around the whole. Without a
    schema, the connection's search_path decides, or with `for_each.schemas` the tenant's schema. Required."""
    key: tuple[values.ColumnName, ...] = Field(min_length=1, examples=[["id"]])
    """The columns that identify a row: the primary key or another unique one. Required."""
    columns: Columns
    """Where each value that HelloWork receives comes from: a column's name, or `{sql: EXPRESSION, depends_on:
    [columns]}` with the row as `t`. Nothing else is read, and no name or address is needed. Required."""
    where: Condition | None = None
    """An SQL condition over the row, whose alias is `t`: the text alone, or `{sql: CONDITION, depends_on: [columns]}`,
    which notify mode needs. Rows for which it is not true are out of scope; a row that leaves the scope causes no call.
    Null: every row."""
    timezone: TimeZone = "UTC"
    """The time zone of dates, and of timestamps without time zone, by its IANA name, such as Europe/Paris. A date is
    midnight there. When clocks are set back, the hour that comes twice is read as standard time; when they are set
    forward, a time in the missing hour is read an hour later."""
    related: tuple[Related, ...] = ()
    """Other tables that a column mapping's SQL reads, such as a table of rejections: their changes matter too. In
    notify mode they get triggers."""
    capture: Capture = Field(default_factory=Capture)
    """How changes of the table's rows are captured: by triggers or by polling, and by sweeps in any case."""
    status: Status = Field(default_factory=Status)
    """How the ATS's labels become the statuses that are sent. Without it each is sent as it is."""
    baseline: Literal["adopt", "send"] = "adopt"
    """What happens to the rows that exist when the watch first starts: `adopt` takes them as known to HelloWork,
    without a call; `send` reports each."""
    first_status: Literal["send", "adopt"] = "send"
    """What happens to an application that appears later, unless a watch of its account knows it: `send` reports it with
    the status it then has; `adopt` takes it as known and reports its next change."""
    settle: Mapping[values.Text, values.Duration] = Field(default_factory=dict)
    """How long a status must stand before it is sent, so that a mis-click undone in time is never sent. Per status, as
    it is sent; `default` is for all others: without it they are sent at once."""
    deletion_grace: values.Duration = default("5s")
    """How long a row must be gone before it counts as deleted: an ATS may move an application by deleting its row and
    inserting another. The default is longer than such a move takes."""
    last_known_job: bool = True
    """Whether an application whose row has lost its job (NULL or blank: ON DELETE SET NULL, say) is sent with its last
    job; the loss is no change of job. With false, or if no job was ever seen, such a row cannot be reported."""
    ordered_dates: bool = True
    """Whether the eventDates of an application's calls rise. If so, a date of `columns.event_date` that is not later
    than the last one sent is replaced by the time of the change, at least a millisecond after the last one, since a
    receiver that orders by date would keep the older status. With false the row's own date is sent."""
    extra: Mapping[ExtraName, Extra] = Field(default_factory=dict)
    """Further fields of the payload: a field's name, and a column's name, `{column: NAME, only_for: [statuses]}` or
    `{sql: EXPRESSION, depends_on: [columns], only_for: [statuses]}`. A NULL is left out."""
    fuse: Fuse = Field(default_factory=Fuse)
    """How many changes at once pass. More (an UPDATE without WHERE, a restored backup, an edited map) blow the fuse:
    those beyond are held until a person releases or discards them."""
    database: values.Text | None = Field(default=None, examples=["main"])
    """Which of `databases` the table is in, by its name. Null: the only one."""
    for_each: ForEach | None = None
    """With this key the watch is a template: each customer that it names gets a watch of its own, called `WATCH@TENANT`
    after the schema, after the database, or as `DATABASE.SCHEMA`. In `sql` and `where`, `{schema}` then stands for the
    schema's name in double quotes, and `{tenant}` for the tenant's name as a text in single ones. Null: a watch of one
    table."""
    overrides: Mapping[values.Text, Override] = Field(default_factory=dict)
    """What is different for single tenants, by the name that follows the @."""
    account: values.AccountName | None = Field(default=None, examples=["acme"])
    """The account of the watch's calls: one of `hellowork.accounts`. With `for_each`, `{tenant}` in it stands for the
    tenant's name. Null: `default`, or the watch's own headers (`hellowork`)."""
    hellowork: OwnHelloWork = Field(default_factory=OwnHelloWork)
    """How HelloWork is called for this watch: headers of its own."""

    @property
    def tenants(self) -> ForEach:
        """For whom it is a template; of any other watch nobody."""
        return self.for_each or _NOBODY

    _keys_lead_to_the_watched_one = values.refuse(
        "related",
        lambda related, given: any(other.key and len(other.key) != len(given["key"]) for other in related),
        "each key needs as many columns as the watch's key has, or none at all",
    )
    _schemas_are_the_tables = values.refuse(
        "for_each",
        lambda for_each, given: for_each is not None and for_each.schemas is not None and given["table"].schema,
        "schemas selects the table's schema, and table names one too",
    )
    _files_are_of_tenants = values.refuse(
        "hellowork",
        lambda hellowork, given: (
            given["for_each"] is None
            and any(values.is_for_each_tenant(value.get_secret_value()) for value in hellowork.headers.values())
        ),
        "expected for_each beside it: {tenant} stands for nothing",
    )

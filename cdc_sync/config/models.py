"""The sections of the configuration: what the keys are, and what each must be; and what the core makes of them.

The section `watches` first: which rows are applications, how their changes are noticed, and what is told of them.
"""

import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from cdc_sync.config import values
from cdc_sync.config.dsn import check, place, shown
from cdc_sync.config.problems import Mistake, did_you_mean, mistake
from cdc_sync.config.values import HostPort, Section
from cdc_sync.core.content import milliseconds
from cdc_sync.core.delivery import Credentials, RetryPolicy
from cdc_sync.core.diff import FusePolicy
from cdc_sync.core.identifiers import parse_column
from cdc_sync.core.rows import ExtraField as ExtraFieldRule
from cdc_sync.core.rows import StatusRules, WatchRules
from cdc_sync.core.status_url import AllowedHosts, endpoint_of

OUR_FIELDS = frozenset({"status", "eventDate", "created", "jobId", "source", "applicationId"})
"""Fields of the payload that have a meaning already (HelloWork's page "Envoi changements de statut")."""


_ABBREVIATIONS = {"CET": "Europe/Paris", "EET": "Europe/Athens", "MET": "Europe/Paris", "WET": "Europe/Lisbon"}
"""Zones with a summer time whose names PostgreSQL takes for abbreviations of one fixed offset (documentation,
"Date/Time Types", "Time Zones"), and a place for each. All other names mean the same to it as to the IANA database."""


def _time_zone(name: str) -> str:
    if name in _ABBREVIATIONS:
        raise mistake("zone-abbreviation", name=name, city=_ABBREVIATIONS[name])
    try:
        zoneinfo.ZoneInfo(name)
    # A zone is a file: besides an unknown name, a folder (Europe) or a name that cannot be a path are possible.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Mistake(str(mistake("zone")), did_you_mean(name, zoneinfo.available_timezones())) from None
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone), values.NOT_EMPTY]

Interval = Annotated[values.Duration, values.at_least(timedelta(milliseconds=10), "10ms")]

Headers = Annotated[
    Mapping[values.HeaderName, values.HeaderValue],
    values.must(lambda headers: len({name.lower() for name in headers}) == len(headers), "headers-alike"),
]

ExtraName = Annotated[
    str,
    values.must(str.strip, "extra-name-empty"),
    values.must(lambda name: name not in OUR_FIELDS, "extra-name-ours"),
]


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

    sql: values.Sql
    depends_on: tuple[values.ColumnName, ...] | None = None


_COLUMN = r'(?:t\.)?("(?:[^"]|"")+"|[^\W\d][\w$]*)'
_TEXT = r"(?:text|(?:varchar|character varying)\s*(?:\(\d+\))?)"
_AS_IT_IS = re.compile(
    rf"\s*(?:{_COLUMN}(?:\s*::\s*{_TEXT})?|cast\s*\(\s*{_COLUMN}\s+as\s+{_TEXT}\s*\))\s*", re.IGNORECASE
)


def bare_column(mapped: PlainColumn | SqlColumn) -> str | None:
    """The column whose value is taken as it is, be it by `t.column::text`; None if an expression makes another one."""
    if isinstance(mapped, PlainColumn):
        return mapped.name
    as_it_is = _AS_IT_IS.fullmatch(mapped.sql)
    return None if as_it_is is None else parse_column(as_it_is[1] or as_it_is[2])


class ExtraField(Section):
    """A further field of the payload.

    Attributes:
        column: The column that has the value; this or `sql`. Null, the default: `sql` gives it.
        sql: An SQL expression over the row, whose alias is `t`, that gives the value; this or `column`. Null, the
            default: `column` gives it.
        depends_on: The columns of the table that `sql` uses, as in a column mapping. Null, the default: unknown.
        only_for: The statuses, as they are sent, with which the field goes. Empty, the default: with every status.
    """

    column: values.ColumnName | None = None
    sql: values.Sql | None = None
    depends_on: tuple[values.ColumnName, ...] | None = None
    only_for: tuple[values.Text, ...] = ()

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.column is None) == (self.sql is None) or None not in (self.column, self.depends_on):
            raise mistake("extra-source")
        return self

    @property
    def mapped(self) -> PlainColumn | SqlColumn:
        """Where its value comes from."""
        if self.column is not None:
            return PlainColumn(self.column)
        return SqlColumn.model_construct(sql=self.sql, depends_on=self.depends_on)


Column: TypeAlias = Annotated[
    PlainColumn | SqlColumn,
    values.reads(
        "mapped-column",
        {str: lambda name: PlainColumn(parse_column(name)), dict: SqlColumn.model_validate},
        made=(PlainColumn, SqlColumn),
        written=values.ColumnName | SqlColumn,
    ),
]
"""Where a value comes from; in the file a column's name or `{sql: …, depends_on: […]}`."""

Extra: TypeAlias = Annotated[
    ExtraField,
    values.reads(
        "extra-column",
        {str: lambda name: ExtraField(column=name), dict: ExtraField.model_validate},
        made=ExtraField,
        written=values.ColumnName | ExtraField,
    ),
]
"""In the file a column's name, `{column: …, only_for: […]}` or `{sql: …, depends_on: […], only_for: […]}`."""


class Columns(Section):
    """Where each thing that HelloWork is told comes from.

    Attributes:
        application_id: HelloWork's id of the application (`applicationId` of the application as it was received). This
            or `status_url` is required; where it is NULL or blank, the id in the status URL counts. A row that has
            neither is not HelloWork's and is left alone, without a warning. Null by default.
        status_url: The application's status URL (`statusApiUrl` of the application as it was received). Where it is
            there, calls go to it, if its host is allowed; the application's id is taken from it if `application_id` is
            not mapped. Null, the default: the URL is built from the id.
        status: The application's status in the ATS: the label that `status.map` translates. Required. A status that
            lives in another table, or in several booleans, takes an SQL expression.
        job_id: The job's id in the ATS. Required: from it HelloWork learns that an application moved to another job.
            Blank is as NULL; of a row that has none any more, see `last_known_job`.
        created: When the application was created in the ATS: a date or a timestamp, with or without time zone (see
            `timezone`). Required: every call has it.
        event_date: When the event that caused the call happened: a date or a timestamp. Null, the default: the time at
            which the change was recorded (notify) or seen (poll). One that is not later than the last one sent is
            replaced: see `ordered_dates`.
        source: Where the application came from: text, or a JSON object. Null, the default: not sent.
        deleted: Whether the row is deleted although it is still there: a boolean, or a timestamp that is NULL as long
            as the row lives. Null, the default: only a row that is gone is deleted.
    """

    application_id: Column | None = Field(default=None, validate_default=True, examples=["hellowork_id"])
    status_url: Column | None = Field(default=None, validate_default=True, examples=["status_api_url"])
    status: Column = Field(examples=["status"])
    job_id: Column = Field(examples=["job_id"])
    created: Column = Field(examples=["created_at"])
    event_date: Column | None = Field(default=None, examples=["updated_at"])
    source: Column | None = Field(default=None, examples=["source"])
    deleted: Column | None = Field(default=None, examples=["deleted_at"])

    @field_validator("status_url")
    @classmethod
    def _an_application_has_an_id(cls, status_url: Column | None, info: ValidationInfo) -> Column | None:
        if status_url is None and "application_id" in info.data and info.data["application_id"] is None:
            raise mistake("no-id")
        return status_url


class Related(Section):
    """Another table whose changes matter to the watched one.

    Attributes:
        table: The other table: `table` or `schema.table`; parts in double quotes keep their case.
        key: Its columns that hold the watched table's key, in the same order. Empty if there are none (a table of
            stages, say): any change of it then has the whole watch swept.
    """

    table: values.TableName
    key: Annotated[tuple[values.ColumnName, ...], values.DISTINCT]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a kind of capture needs of the ATS's database, beside the mapped columns.

    Attributes:
        log: whether triggers record changes, and the daemon consumes their log.
        watermark: the column of the table by which changed rows are found, if one is; best indexed.
    """

    log: bool = False
    watermark: str | None = None


class Capture(Section):
    """How changes are noticed.

    Attributes:
        mode: `notify`: triggers, which a DBA installs, record the keys of changed rows; nothing is missed and latency
            is milliseconds. `poll`: for read-only access; rows are found by a timestamp that the ATS maintains. The
            default is notify, since it depends on nothing that the ATS does right.
        wakeup: In notify mode, how the daemon learns that something was recorded: `notify`, by PostgreSQL's NOTIFY;
            `none`, by looking every poll_interval, with triggers that never NOTIFY. The default gives milliseconds of
            latency; `none` is for an ATS whose commits must not take NOTIFY's lock.
        watermark: In poll mode, the column by which changed rows are found: a timestamp or date that the ATS sets at
            every change. Required then, and best indexed. Null by default, as notify mode needs none.
        poll_interval: The pause between two polls, or with `wakeup: none` between two drains; 10ms or more. 2s by
            default: quick for people, and next to nothing for a database with an index on the watermark. After a poll
            that took long it is nine times that, up to a minute.
        lookback: In poll mode, how far behind the newest finished transaction rows are read again: a row's timestamp is
            earlier than its commit by as much as its transaction lasted before its first write, and as application
            servers' clocks are behind. Reading again costs only a comparison. 5m by default.
        drain_interval: In notify mode, how often the change log is read even if no notification came; 10ms or more. 30s
            by default: a notification is lost at most with a connection.
        sweep: How often every row is compared with what HelloWork was told. It finds what nothing else can: deletions
            in poll mode, rows changed without their timestamp, triggers that were off. 15m by default; on a big table
            sweeps space themselves out, so as not to take more than a tenth of the time.
        replicated: In notify mode, whether the triggers fire for changes that come by logical replication too (ENABLE
            ALWAYS), and for sessions with session_replication_role = replica. False by default, as triggers usually
            are: such changes are then found by sweeps.
        max_backlog: In notify mode, the size of the change log (bytes, 64KiB or more) beyond which the triggers stop
            recording, for when the daemon is away for long; the next sweep finds what was not recorded. 256MB by
            default: millions of changes, and no danger to a disk.
    """

    mode: Literal["notify", "poll"] = "notify"
    wakeup: Literal["notify", "none"] = "notify"
    watermark: values.ColumnName | None = Field(default=None, validate_default=True, examples=["updated_at"])
    poll_interval: Interval = timedelta(seconds=2)
    lookback: values.Duration = timedelta(minutes=5)
    drain_interval: Interval = timedelta(seconds=30)
    sweep: values.PositiveDuration = timedelta(minutes=15)
    replicated: bool = False
    max_backlog: Annotated[values.Size, values.at_least(64 * 2**10, "64KiB")] = Field(
        default=256 * 10**6, json_schema_extra={"default": "256MB"}
    )

    @property
    def needs(self) -> Needs:
        """What it needs of the ATS's database: for `check`, `sql install` and `sql grants`."""
        by_mode = {"notify": Needs(log=True), "poll": Needs(watermark=self.watermark)}
        return by_mode[self.mode]

    @field_validator("watermark")
    @classmethod
    def _poll_needs_a_watermark(cls, watermark: str | None, info: ValidationInfo) -> str | None:
        if watermark is None and info.data.get("mode") == "poll":
            raise mistake("no-watermark")
        return watermark


class Status(Section):
    """From the ATS's labels to what is sent.

    Attributes:
        map: From the ATS's label to the status to send. Labels are compared as text, to the letter. Where two labels
            have the same status, moving between them is no change. The label "" stands for an application without a
            status (NULL or blank), which else cannot be reported. Empty by default: HelloWork takes any label and maps
            it on its own side.
        unmapped: What becomes of a label that is not in `map`: `send` it as it is, `ignore` it (no call, though a
            deletion is still told), or `reject` it (a dead letter, for a person to look at). The default is send, as
            HelloWork sets no list of labels.
        deleted: The status of an application that was deleted: HelloWork knows no call of its own for that, a deletion
            is a status like any other. Any label; `deleted` by default.
    """

    map: Mapping[str, values.Text] = Field(default_factory=dict)
    unmapped: Literal["send", "ignore", "reject"] = "send"
    deleted: values.Text = "deleted"


class Fuse(Section):
    """How many changes at once are believed.

    Attributes:
        max_changes: How many new calls of a watch within `window` are believed, 1 or more; those beyond are held until
            a person releases or discards them. 1000 by default: no team of recruiters does that in ten minutes.
        max_deletions: As max_changes, for deletions alone. 100 by default: fewer, since they cannot be taken back.
        window: The time over which the two are counted. 10m by default.
    """

    max_changes: values.WholeNumber = Field(default=1000, ge=1)
    max_deletions: values.WholeNumber = Field(default=100, ge=1)
    window: values.PositiveDuration = timedelta(minutes=10)


LikePattern = Annotated[
    values.Text, values.must(lambda pattern: (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 0, "like-escape")
]


class ForEach(Section):
    """Of which customers a watch is a template: schemas, databases, or schemas of several databases.

    Attributes:
        schemas: The schemas, as a pattern of SQL's LIKE over their names: `%` stands for any text, `_` for any one
            character, and a backslash takes either as it is. Those that have the watch's table are followed, also such
            as appear while the daemon runs. This or `databases` is required. Null by default.
        databases: Names of `databases`, each of which has the watch's table. Empty by default.
    """

    schemas: LikePattern | None = Field(default=None, examples=["tenant_%"])
    databases: Annotated[tuple[values.Text, ...], values.DISTINCT] = Field(default=(), validate_default=True)

    @field_validator("databases")
    @classmethod
    def _names_customers(cls, databases: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not databases and "schemas" in info.data and info.data["schemas"] is None:
            raise mistake("for-each-empty")
        return databases


class OwnHelloWork(Section):
    """How HelloWork is called for one watch.

    Attributes:
        headers: Request headers of this watch's calls, beside those of the section `hellowork` and in place of those
            with the same name: the credentials of one customer. One customer's refused credentials pause that one's
            calls only. In a watch with `for_each`, `${file:/etc/cdc-sync/keys/{tenant}}` is a file for each tenant.
            None by default.
    """

    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${file:/etc/cdc-sync/keys/{tenant}}"}])


class Override(Section):
    """What is different for one tenant.

    Attributes:
        status: As the watch's section `status`: the keys that are given count for this tenant, `map` beside the watch's
            own entries and in place of those with the same label. May be left out.
        timezone: The time zone of this tenant's dates. Null, the default: the watch's.
        hellowork: As the watch's section `hellowork`: this tenant's own headers. May be left out.
    """

    status: Status = Field(default_factory=Status)
    timezone: TimeZone | None = None
    hellowork: OwnHelloWork = Field(default_factory=OwnHelloWork)


class Watch(Section):
    """A table whose rows are applications.

    Attributes:
        table: The table, or view in poll mode, whose rows are applications: `table` or `schema.table`. As in SQL, a
            name is folded to lower case unless it stands in double quotes; YAML then wants single quotes around the
            whole. Without a schema, the connection's search_path decides, or with `for_each.schemas` the tenant's
            schema. Required.
        key: The columns that identify a row, at least one: the primary key or another unique one. Required.
        columns: Where each thing that HelloWork is told comes from: the name of a column, or `{sql: EXPRESSION,
            depends_on: [columns]}` with the row as `t`. Nothing else is read, and no personal data is needed. Required.
        where: An SQL condition over the row, whose alias is `t`: rows for which it is not true are out of scope, and a
            row that leaves the scope causes no call. Null, the default: every row.
        timezone: The time zone of dates, and of timestamps without time zone, by its IANA name, such as Europe/Paris. A
            date is midnight there. Where clocks are set back, the hour that comes twice is read as the second one, in
            standard time; where they are set forward, a time in the hour that is left out is read as if they had not
            been, so an hour later. UTC by default, as most servers keep their clocks.
        related: Other tables whose changes matter, because a column mapping's SQL reads them: a table of rejections, of
            stages. In notify mode they get triggers too. None by default.
        capture: How changes of the table's rows are noticed: by triggers or by polling, and by sweeps in any case. May
            be left out: by triggers.
        status: How the ATS's labels become the statuses that are sent. May be left out: each is sent as it is.
        baseline: What the rows get that exist when the watch first starts: `adopt`, they are taken as known to
            HelloWork, without a call; `send`, each is reported. The default is adopt: what happened before is told
            already, or is too late.
        first_status: What an application gets that appears later, with the status it then has: `send`, the default,
            reports it; `adopt` takes it as known and reports its next change.
        settle: How long a status must stand before it is sent, so that a mis-click undone within it is never sent. Per
            status, as it is sent; `default` is for all others, and 0 (at once) if it is not given.
        deletion_grace: How long a row must be gone before it counts as deleted: an ATS may move an application by
            deleting its row and inserting another. 5s by default: longer than such a move takes.
        last_known_job: Whether an application whose row has no job any more (NULL or blank: its job was deleted, ON
            DELETE SET NULL) is sent with the job that it had last; that it has none is no change of job. True by
            default. With false, and where no job was ever seen, such a row cannot be reported.
        ordered_dates: Whether the eventDates of an application's calls rise. With true, the default, a date of
            `columns.event_date` that is not later than the last one sent is replaced by the time of the change, a
            millisecond after the last one at least: a receiver that orders by date would keep the older status. With
            false the row's own date is sent as it is.
        extra: Further fields of the payload: a field's name, and a column's name, `{column: NAME, only_for:
            [statuses]}` or `{sql: EXPRESSION, depends_on: [columns], only_for: [statuses]}`. A field whose value is
            NULL is left out. None by default.
        fuse: How many changes at once are believed. More (an UPDATE without WHERE, a restored backup, an edited map)
            blow the fuse: what is beyond is held until a person releases or discards it.
        database: Which of `databases` the table is in, by its name. Null, the default: the only one there is.
        for_each: With this key the watch is a template: each customer that it names gets a watch of its own, called
            `WATCH@TENANT` after the schema, after the database, or as `DATABASE.SCHEMA`. In `sql`, `where` and the like
            `{schema}` then stands for the schema's name in double quotes, and `{tenant}` for the tenant's as a text in
            single ones. Null, the default: a watch of one table.
        overrides: What is different for single tenants of `for_each`, by the name that follows the @. None by default.
        hellowork: How HelloWork is called for this watch: credentials of its own. May be left out.
    """

    table: values.TableName = Field(examples=["public.applications"])
    key: Annotated[tuple[values.ColumnName, ...], Field(min_length=1), values.DISTINCT] = Field(examples=[["id"]])
    columns: Columns
    where: values.Sql | None = None
    timezone: TimeZone = "UTC"
    related: tuple[Related, ...] = ()
    capture: Capture = Field(default_factory=Capture)
    status: Status = Field(default_factory=Status)
    baseline: Literal["adopt", "send"] = "adopt"
    first_status: Literal["send", "adopt"] = "send"
    settle: Mapping[values.Text, values.Duration] = Field(default_factory=dict)
    deletion_grace: values.Duration = timedelta(seconds=5)
    last_known_job: bool = True
    ordered_dates: bool = True
    extra: Mapping[ExtraName, Extra] = Field(default_factory=dict)
    fuse: Fuse = Field(default_factory=Fuse)
    database: values.Text | None = Field(default=None, examples=["main"])
    for_each: ForEach | None = None
    overrides: Mapping[values.Text, Override] = Field(default_factory=dict, validate_default=True)
    hellowork: OwnHelloWork = Field(default_factory=OwnHelloWork)

    @field_validator("overrides")
    @classmethod
    def _overrides_are_of_tenants(
        cls, overrides: Mapping[str, Override], info: ValidationInfo
    ) -> Mapping[str, Override]:
        if overrides and "for_each" in info.data and info.data["for_each"] is None:
            raise mistake("overrides-of-nothing")
        return overrides

    @field_validator("for_each")
    @classmethod
    def _tenants_have_schemas(cls, for_each: ForEach | None, info: ValidationInfo) -> ForEach | None:
        table = info.data.get("table")
        if for_each is not None and for_each.schemas is not None and table is not None and table.schema is not None:
            raise mistake("for-each-table", table=table.name)
        return for_each

    @field_validator("related")
    @classmethod
    def _keys_lead_to_the_watched_one(cls, related: tuple[Related, ...], info: ValidationInfo) -> tuple[Related, ...]:
        key = info.data.get("key")
        if key is not None and any(other.key and len(other.key) != len(key) for other in related):
            raise mistake("related-key", columns=len(key))
        return related


# All other sections.

SHORTEST_TOKEN = 16
"""Characters of `admin.token` that nobody guesses."""

HOW_TO_MAKE_ONE = "`openssl rand -hex 16` prints a good one"


def _dsn(dsn: SecretStr) -> SecretStr:
    check(dsn.get_secret_value())
    return dsn


_PREFIX = "(/[A-Za-z0-9._~-]+)*"
_WATCH_NAME = "^[a-z][a-z0-9_]{0,39}$"

# PostgreSQL's names have 63 bytes, and the watch's name becomes part of several (bell_…, record_…).
WatchName = Annotated[
    str,
    values.must(lambda name: re.fullmatch(_WATCH_NAME, name), "watch-name"),
    WithJsonSchema({"type": "string", "pattern": _WATCH_NAME}),
]

DatabaseName = Annotated[
    str,
    values.must(lambda name: re.fullmatch(_WATCH_NAME, name), "database-name"),
    WithJsonSchema({"type": "string", "pattern": _WATCH_NAME}),
]

Dsn = Annotated[SecretStr, AfterValidator(_dsn)]

FilePath = Annotated[Path, values.must(lambda path: path.name.strip(), "path"), values.NOT_EMPTY]

Token = Annotated[
    SecretStr,
    values.must(lambda token: token.get_secret_value(), "token-empty", how_to_make_one=HOW_TO_MAKE_ONE),
    values.must(lambda token: re.fullmatch("[!-~]*", token.get_secret_value()), "token-signs"),
]


Prefix = Annotated[
    str,
    values.must(lambda prefix: re.fullmatch(_PREFIX, prefix) and not {".", ".."} & set(prefix.split("/")), "prefix"),
    WithJsonSchema({"type": "string", "pattern": f"^{_PREFIX}$"}),
]


class Database(Section):
    """The ATS's database.

    Attributes:
        dsn: Where the ATS's database is: a libpq connection string, as a URI or as key=value pairs. What it leaves out
            comes from the PG* environment variables and ~/.pgpass, so a password need not stand here; in a URI's, @ is
            written %40, / %2F and % %25. Empty by default: those say it all. A pooler in transaction mode is refused:
            the daemon's lock and LISTEN need a session of their own.
        pool: How many connections may read at the same time, 1 to 100, for all watches together; one more, which lasts,
            listens and holds their locks. 4 by default: watches are busy for moments. Slow reads and sweeps leave one
            of them to the others.
    """

    dsn: Dsn = Field(default=SecretStr(""), examples=["postgresql://cdc_sync@/ats"])

    pool: values.WholeNumber = Field(default=4, ge=1, le=100)

    def shown(self) -> str:
        """The DSN for people: without its password and whatever else may be secret."""
        return shown(self.dsn.get_secret_value())

    def place(self) -> str | None:
        """The database and its host, in short; None if that is not known."""
        return place(self.dsn.get_secret_value())


class Retry(Section):
    """When a call that failed is made again, and when it is given up.

    Attributes:
        first: The longest wait after the first failure; it doubles with each further one, and the actual wait is drawn
            between zero and it. 1s by default: a connection that was reset is mostly back by then.
        max: The longest wait between two tries of one call. 15m by default: four tries an hour cost nothing, and an
            outage of hours is noticed to be over within that time.
        for: How long a call that keeps failing is tried before it becomes a dead letter, for a person to look at.
            Counted from its first try; of a time for which it could not be tried (its endpoint was paused, throttled or
            down, or the daemon was), 15 minutes count. 7d by default: longer than any outage, weekend included.
    """

    first: values.PositiveDuration = timedelta(seconds=1)
    max: values.PositiveDuration = Field(default=timedelta(minutes=15), validate_default=True)
    for_: values.PositiveDuration = Field(default=timedelta(days=7), alias="for")

    @field_validator("max")
    @classmethod
    def _is_not_below_first(cls, longest: timedelta, info: ValidationInfo) -> timedelta:
        first = info.data.get("first")
        if first is not None and longest < first:
            raise mistake("retry-max", first=values.format_duration(first))
        return longest


class HelloWork(Section):
    """How HelloWork's status API is called.

    Attributes:
        base_url: Where calls go for rows that have no status URL of their own: the call for an application is
            `{base_url}/v1/applications/{applicationId}/status`. The default is HelloWork's production API. Must be
            https; http is accepted for a loopback address, which is where the emulator listens.
        headers: Request headers sent with every call; this is where credentials go, best as `${NAME}` or `${file:PATH}`
            (a credential of systemd: `${file:${CREDENTIALS_DIRECTORY}/NAME}`). Values never appear in logs or messages.
            None by default, since HelloWork's pages do not say how the call is authenticated. The headers that cdc-sync
            sets itself (Host, Content-Type, Content-Length, Transfer-Encoding, Connection, Idempotency-Key) are
            refused.
        allowed_hosts: Where a row's status URL may lead, beside base_url's own scheme, host and port: `host` (the
            scheme's default port, 443 for https) or `host:port`. Empty by default: a URL is data of the ATS's database,
            and nothing, our credentials above all, may be sent to a host or a port that nobody named here.
        timeout: How long one call may take in all, from connecting to the reply's last byte; then it counts as failed
            and is retried. 10s by default: well beyond any healthy reply.
        concurrency: How many calls may be under way at the same time, 1 to 1000; for one application there is never
            more than one. 16 by default: at 100 ms a call that is 160 calls a second.
        rate_limit: How many calls may be started per second at most; decimals are allowed (0.5 is a call every two
            seconds). Null, the default, sets no limit beside `concurrency`: HelloWork documents none, and a reply that
            asks to slow down is obeyed in any case.
        retry: When a call that failed is made again, and when it is given up. May be left out.
        not_found_retry: How long a call is retried that HelloWork answers with 404, before it becomes a dead letter:
            HelloWork may not have finished registering the application. 15m by default; 0 gives up at once.
    """

    base_url: values.BaseUrl = "https://ats-partner.hellowork.com"
    headers: Headers = Field(default_factory=dict, examples=[{"X-Api-Key": "${HELLOWORK_API_KEY}"}])
    allowed_hosts: tuple[values.AllowedHost, ...] = ()
    timeout: values.PositiveDuration = timedelta(seconds=10)
    concurrency: values.WholeNumber = Field(default=16, ge=1, le=1000)
    rate_limit: values.PositiveNumber | None = None
    retry: Retry = Field(default_factory=Retry)
    not_found_retry: values.Duration = timedelta(minutes=15)


class State(Section):
    """Where the daemon keeps what it must remember.

    Attributes:
        backend: Where the daemon keeps what HelloWork was told, what is to be sent, and how far it has read: `sqlite`,
            one file on this host, which needs nothing else; `postgres`, for several daemons on several hosts that share
            it. Neither holds personal data.
        path: The file of backend sqlite; its folder must be writable, as two more files stand beside it. The default is
            in the folder that the systemd unit sets up.
        dsn: The database of backend postgres: a libpq connection string; the encoding there must be UTF8. Null, the
            default: the ATS's database, in the schema cdc_sync; required where there are several. `cdc-sync sql install
            --store` and `sql grants --store` print what the DBA runs.
        history: How long what was seen, sent and answered is kept for `cdc-sync explain`. 30d by default; of more than
            a million events (300 MB) the oldest go earlier. What HelloWork was told last is kept for ever: it is what
            changes are measured against.
    """

    backend: Literal["sqlite", "postgres"] = "sqlite"
    path: FilePath = Path("/var/lib/cdc-sync/state.db")
    dsn: Dsn | None = None
    history: values.PositiveDuration = timedelta(days=30)


class Admin(Section):
    """Health, metrics and the page.

    Attributes:
        listen: Where health, metrics and the page are served: host:port, IPv6 in brackets. Null: nowhere. This machine
            only by default; any other address needs a token.
        token: The secret that requests must bring, and with which one logs in to the page. Of fewer than 16 characters
            it could be guessed: that is an error on another than a loopback address, and warned of on one. Null, the
            default: none is asked for, which is accepted on a loopback address only, and nothing can be released,
            discarded or retried on the page.
        title: What the page calls this installation, where one has several. Null, the default: the database and its
            host, as DATABASE@HOST; of several databases their names.
        prefix: The path at which a reverse proxy shows the page, such as `/cdc-sync`: links, redirects and cookies
            begin with it. The proxy takes it off what it passes on, so that the daemon answers at its own paths,
            `/healthz` and `/metrics` among them. Empty by default: no proxy, or one that shows the page at `/`.
    """

    listen: values.Listen | None = HostPort("127.0.0.1", 8765)
    token: Token | None = Field(default=None, validate_default=True)
    title: values.Text | None = None
    prefix: Prefix = ""

    @field_validator("token")
    @classmethod
    def _others_need_a_token(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        listen, text = info.data.get("listen"), "" if token is None else token.get_secret_value()
        if listen is not None and not listen.is_loopback and len(text) < SHORTEST_TOKEN:
            raise mistake("token-short", shortest=SHORTEST_TOKEN, how_to_make_one=HOW_TO_MAKE_ONE)
        return token


class Metrics(Section):
    """What `/metrics` has.

    Attributes:
        per_watch: Whether metrics are given for each watch, with the label `watch`. True by default. With false, which
            is for hundreds of watches, names stay and each is given for all watches together: numbers are added up, of
            delays the longest is taken, and of `cdc_sync_watch_connected` the least.
    """

    per_watch: bool = True


class Log(Section):
    """What is logged, and how.

    Attributes:
        level: The least important level that is logged: debug, info, warning or error. At info, the default, every call
            and every change of the daemon's own state has a line.
        format: How lines are written: `text` for people, `journal` with the fields of systemd's journal, `json` an
            object per line. `auto`, the default: text on a terminal, journal under systemd, else json.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "journal", "json"] = "auto"


class Config(Section):
    """The configuration of cdc-sync.

    Attributes:
        database: Where the ATS's database is. May be left out: the PG* environment variables then say it all.
        databases: Where the ATS's databases are, by name, if there are several; instead of `database`. A name has lower
            case letters, digits and `_`, begins with a letter and has at most 40 of them. None by default.
        hellowork: How HelloWork's status API is called. May be left out, though most likely HelloWork wants to see
            credentials in `headers`.
        state: Where the daemon keeps what it must remember, and for how long. May be left out.
        watches: What is watched, by name: at least one. A name has lower case letters, digits and `_`, begins with a
            letter and has at most 40 of them; it appears in commands, metrics and names in the database. Required.
        admin: Where health, metrics and the page are served, and to whom. May be left out.
        metrics: What `/metrics` has. May be left out.
        log: What is logged, and how it is written. May be left out.
        undecided: What `cdc-sync init` could not decide and what would send wrong things, each in words. Decide it,
            correct the file, and remove the entry. While there is one `cdc-sync run` refuses, with exit code 78; `run
            --dry-run`, `check` and `plan` work. Empty by default.
    """

    database: Database = Field(default_factory=Database)
    databases: Mapping[DatabaseName, Database] = Field(
        default_factory=dict, json_schema_extra={"additionalProperties": False}
    )
    hellowork: HelloWork = Field(default_factory=HelloWork)
    state: State = Field(default_factory=State, validate_default=True)
    watches: Annotated[Mapping[WatchName, Watch], Field(min_length=1)] = Field(
        json_schema_extra={"additionalProperties": False}
    )
    admin: Admin = Field(default_factory=Admin)
    metrics: Metrics = Field(default_factory=Metrics)
    log: Log = Field(default_factory=Log)
    undecided: tuple[values.Text, ...] = ()
    _templates: Mapping[str, Watch] = PrivateAttr(default_factory=dict)
    _reveal: Callable[[str], str] = PrivateAttr(default=str)

    @field_validator("databases")
    @classmethod
    def _there_is_one_or_several(
        cls, databases: Mapping[str, Database], info: ValidationInfo
    ) -> Mapping[str, Database]:
        if databases and info.data.get("database", Database()) != Database():
            raise mistake("database-and-databases")
        return databases

    @field_validator("state")
    @classmethod
    def _store_is_somewhere(cls, state: State, info: ValidationInfo) -> State:
        known = info.data.get("databases", {})
        if state.backend == "postgres" and state.dsn is None and len(known) > 1:
            raise mistake("store-of-several", path=("dsn",), known=", ".join(known))
        return state

    @field_validator("watches")
    @classmethod
    def _databases_are_known(cls, watches: Mapping[str, Watch], info: ValidationInfo) -> Mapping[str, Watch]:
        if "databases" not in info.data:
            return watches  # something in it is wrong, and said
        known = info.data["databases"]
        for name, watch in watches.items():
            several = watch.for_each is not None and watch.for_each.databases
            if several and watch.database is not None:
                raise mistake("for-each-database", path=(name, "database"))
            for database in several or ((watch.database,) if watch.database is not None else ()):
                if database not in known:
                    at = ("for_each", "databases") if several else ("database",)
                    # Not by its name: it may be a secret in the wrong place.
                    meant = did_you_mean(database, known) or f"known: {', '.join(known)}"
                    raise Mistake(str(mistake("database-unknown")), meant, path=(name, *at))
            if watch.database is None and not several and len(known) > 1:
                raise mistake("database-of-watch", path=(name, "database"), known=", ".join(known))
        return watches

    @property
    def templates(self) -> Mapping[str, Watch]:
        """The watches with `for_each`, by name; the others, and what was made of these, are in `watches`."""
        return self._templates

    def database_of(self, watch: str) -> Database:
        """The database of a watch, which must be configured."""
        return self.all_databases[self.database_name(watch)]

    def database_name(self, watch: str) -> str:
        """The name of a watch's database; "" for the section `database`."""
        return self.watches[watch].database or next(iter(self.databases), "")

    @property
    def all_databases(self) -> Mapping[str, Database]:
        """Every database by its name; the section `database` is called ""."""
        return self.databases or {"": self.database}

    def place(self) -> str | None:
        """The database and its host, in short; of several their names. None if that is not known."""
        if len(self.all_databases) == 1:
            return next(iter(self.all_databases.values())).place()
        return ", ".join(self.all_databases)

    def of_database(self, name: str) -> "Config":
        """The same with the watches of one database alone, whose section is in `database` too, whatever its name."""
        if not self.databases:
            return self
        section = self.databases[name]
        watches = {watch: each for watch, each in self.watches.items() if self.database_name(watch) == name}
        config = self.model_copy(update={"database": section, "databases": {name: section}})
        return config.with_watches(watches, self.templates)

    def reveal(self, text: str) -> str:
        """A text with what its references stand for, as where the file was read.

        Raises:
            Mistake: one stands for nothing.
        """
        return self._reveal(text)

    def revealing(self, reveal: Callable[[str], str]) -> Self:
        """The same configuration, that has references of single tenants replaced by `reveal`."""
        config = self.model_copy()
        config._reveal = reveal  # noqa: SLF001 - it is one of these
        return config

    def with_watches(self, watches: Mapping[str, Watch], templates: Mapping[str, Watch]) -> "Config":
        """The same configuration with other watches; see `config.tenants`."""
        config = self.model_copy(update={"watches": watches})
        config._templates = templates  # noqa: SLF001 - it is one of these
        return config


# For the core: the same without YAML's syntax, in milliseconds.

_DEFAULT = "default"
"""The key of `settle` that stands for every status not named there."""

_SLACK = 60_000
"""Milliseconds that clocks may differ without a due time looking like a mistake."""


def allowed_hosts(config: Config) -> AllowedHosts:
    """Where calls may go: base_url's origin, and those that are named beside it."""
    return AllowedHosts(frozenset(config.hellowork.allowed_hosts), endpoint_of(config.hellowork.base_url))


def own_credentials(config: Config) -> dict[str, Credentials]:
    """What is sent with the calls of each watch whose headers are others than those that all watches share."""
    found: dict[str, Credentials] = {}
    of_headers: dict[frozenset[tuple[str, str]], Credentials] = {}
    shared = _by_name(config.hellowork.headers)
    for name in sorted(name for name, watch in config.watches.items() if watch.hellowork.headers):
        own = _by_name(config.watches[name].hellowork.headers)
        # However a name is spelled.
        if any(value != shared.get(lower, ("", None))[1] for lower, (_, value) in own.items()):
            headers = {**shared, **own}
            same = frozenset((lower, value) for lower, (_, value) in headers.items())
            found[name] = of_headers.setdefault(same, Credentials(name, dict(headers.values())))
    return found


def _by_name(headers: Mapping[str, SecretStr]) -> dict[str, tuple[str, str]]:
    """Headers as they are written, by what they are called in any spelling."""
    return {name.lower(): (name, value.get_secret_value()) for name, value in headers.items()}


def watch_rules(config: Config, name: str) -> WatchRules:
    """A watch's rules."""
    watch = config.watches[name]
    return WatchRules(
        watch=name,
        status=StatusRules(dict(watch.status.map), watch.status.unmapped, watch.status.deleted),
        baseline=watch.baseline,
        first_status=watch.first_status,
        settle={status: milliseconds(wait) for status, wait in watch.settle.items() if status != _DEFAULT},
        default_settle=milliseconds(watch.settle.get(_DEFAULT, timedelta(0))),
        deletion_grace=milliseconds(watch.deletion_grace),
        extra=tuple(ExtraFieldRule(field, frozenset(extra.only_for)) for field, extra in watch.extra.items()),
        base_url=config.hellowork.base_url,
        own_urls=watch.columns.status_url is not None,
        allowed=allowed_hosts(config),
        fuse=FusePolicy(watch.fuse.max_changes, watch.fuse.max_deletions, milliseconds(watch.fuse.window)),
        last_known_job=watch.last_known_job,
        ordered_dates=watch.ordered_dates,
    )


def built_urls(config: Config) -> dict[str, str]:
    """The base URL of each watch that builds every URL itself, since its rows have none of their own."""
    return {
        name: config.hellowork.base_url for name, watch in config.watches.items() if watch.columns.status_url is None
    }


def retry_policy(config: Config) -> RetryPolicy:
    """When deliveries are tried again."""
    retry = config.hellowork.retry
    return RetryPolicy(
        first=milliseconds(retry.first),
        max=milliseconds(retry.max),
        give_up_after=milliseconds(retry.for_),
        not_found_for=milliseconds(config.hellowork.not_found_retry),
    )


def sender_horizon(config: Config) -> int:
    """The longest that an entry can have to wait: a due time further ahead is a clock's mistake (milliseconds)."""
    settles = [milliseconds(wait) for watch in config.watches.values() for wait in watch.settle.values()]
    return max([retry_policy(config).max, *settles]) + _SLACK

"""How changes are noticed: the section `capture`, and the other tables that matter (`related`)."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from cdc_sync.config.mistakes import Mistake
from cdc_sync.config.quantities import Duration, PositiveDuration, Size, at_least, at_least_bytes, format_size
from cdc_sync.config.section import DISTINCT, ColumnName, Section, TableName

_SHORTEST_PAUSE = timedelta(milliseconds=10)
_BACKLOG = 256 * 10**6
_LEAST_BACKLOG = 64 * 2**10


class Related(Section):
    """Another table whose changes matter to the watched one."""

    table: TableName
    """The other table: `table` or `schema.table`; parts in double quotes keep their case."""

    key: Annotated[tuple[ColumnName, ...], DISTINCT]
    """Its columns that hold the watched table's key, in the same order. Empty if there are none (a table of stages,
    say): any change of it then has the whole watch swept.
    """


class Capture(Section):
    """How changes are noticed."""

    mode: Literal["notify", "poll"] = Field(default="notify", title="or poll")
    """`notify`: triggers, which a DBA installs, record the keys of changed rows; nothing is missed and latency is
    milliseconds. `poll`: for read-only access; rows are found by a timestamp that the ATS maintains. The default is
    notify, since it depends on nothing that the ATS does right.
    """

    wakeup: Literal["notify", "none"] = Field(default="notify", title="or none")
    """In notify mode, how the daemon learns that something was recorded: `notify`, by PostgreSQL's NOTIFY; `none`, by
    looking every poll_interval, with triggers that never NOTIFY. The default gives milliseconds of latency; `none` is
    for an ATS whose commits must not take NOTIFY's lock.
    """

    watermark: ColumnName | None = Field(default=None, validate_default=True, title="poll", examples=["updated_at"])
    """In poll mode, the column by which changed rows are found: a timestamp or date that the ATS sets at every change.
    Required then, and best indexed. Null by default, as notify mode needs none.
    """

    poll_interval: Annotated[Duration, at_least(_SHORTEST_PAUSE)] = Field(
        default=timedelta(seconds=2), title="poll, or wakeup: none"
    )
    """The pause between two polls, or with `wakeup: none` between two drains; 10ms or more. 2s by default: quick for
    people, and next to nothing for a database with an index on the watermark. After a poll that took long it is nine
    times that, up to a minute.
    """

    lookback: Duration = Field(
        default=timedelta(minutes=5), title="poll: how late a timestamp may be committed, by clocks and transactions"
    )
    """In poll mode, how far behind the newest finished transaction rows are read again: a row's timestamp is earlier
    than its commit by as much as its transaction lasted before its first write, and as application servers' clocks are
    behind. Reading again costs only a comparison. 5m by default.
    """

    drain_interval: Annotated[Duration, at_least(_SHORTEST_PAUSE)] = Field(
        default=timedelta(seconds=30), title="notify: look anyway, should a notification be lost"
    )
    """In notify mode, how often the change log is read even if no notification came; 10ms or more. 30s by default: a
    notification is lost at most with a connection.
    """

    sweep: PositiveDuration = Field(
        default=timedelta(minutes=15), title="compare every row; finds what nothing else can"
    )
    """How often every row is compared with what HelloWork was told. It finds what nothing else can: deletions in poll
    mode, rows changed without their timestamp, triggers that were off. 15m by default; on a big table sweeps space
    themselves out, so as not to take more than a tenth of the time.
    """

    replicated: bool = Field(default=False, title="notify: true if the table is fed by logical replication")
    """In notify mode, whether the triggers fire for changes that come by logical replication too (ENABLE ALWAYS), and
    for sessions with session_replication_role = replica. False by default, as triggers usually are: such changes are
    then found by sweeps.
    """

    max_backlog: Annotated[Size, at_least_bytes(_LEAST_BACKLOG)] = Field(
        default=_BACKLOG,
        title="notify: the change log's limit; beyond it a sweep repairs",
        json_schema_extra={"default": format_size(_BACKLOG)},
    )
    """In notify mode, the size of the change log (bytes, 64KiB or more) beyond which the triggers stop recording, for
    when the daemon is away for long; the next sweep finds what was not recorded. 256MB by default: millions of changes,
    and no danger to a disk.
    """

    @field_validator("watermark")
    @classmethod
    def _poll_needs_a_watermark(cls, watermark: str | None, info: ValidationInfo) -> str | None:
        if watermark is None and info.data.get("mode") == "poll":
            raise Mistake("capture.mode poll needs a watermark", "name a timestamp that the ATS sets at every change")
        return watermark

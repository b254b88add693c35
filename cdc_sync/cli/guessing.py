"""What `cdc-sync init` takes of a database's catalog: the table, its key, its dates and its job; and what it leaves.

What is taken is sure. All else is a line of `undecided`, which a person removes from the file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cdc_sync.ats.facts import Column
from cdc_sync.ats.survey import Label, Survey, Table, label_behind
from cdc_sync.config.meanings import is_personal, mentions, place_among
from cdc_sync.config.watch import Columns
from cdc_sync.config.yaml_text import in_yaml
from cdc_sync.core.identifiers import written

FIELDS = tuple(name for name in Columns.model_fields if name != "account")
"""The mapped columns, in the configuration's order; accounts are a person's decision."""

_BEST = 10
_NEAR = 3
"""Tables within this distance of the best are mentioned."""

_WRITES_UTC = {"ar_internal_metadata", "_prisma_migrations"}
"""Tables of frameworks (Rails, Prisma) that write UTC into columns without a time zone."""

_LEFT = {
    "application_id": "the column with HelloWork's id, or status_url with its URL. If the ATS has none, "
    "`cdc-sync sql id-table` prints a table for it",
    "status": "the label that people in the ATS read: see the list of columns",
    "job_id": "the job's id or reference in the ATS, as HelloWork has it: see the list of columns",
    "created": "when the application was created in the ATS: see the list of columns",
}
"""What is required, and what a person needs to know to name it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A watch.

    Attributes:
        values: columns by field of `columns`.
        watermark: the column of the last change.
        undecided: what is left to a person.
    """

    table: Table
    key: tuple[str, ...]
    values: Mapping[str, str]
    watermark: str | None
    mode: Literal["notify", "poll"]
    undecided: tuple[str, ...]


def rank(tables: Iterable[Table]) -> list[Table]:
    """Tables that look like one of applications by their names, best first; of equal ones the bigger first."""
    scores = {table: score for table in tables if (score := _score(table))}
    least = max(scores.values(), default=0) - _NEAR
    near = [table for table, score in scores.items() if score >= least]
    return sorted(near, key=lambda table: (-scores[table], -(table.rows or 0), str(table.name)))


def _score(table: Table) -> int:
    place = place_among(table.name.name, "applications")
    if place is None or mentions(table.name.name, "about_them"):
        return 0
    found = sum(any(mentions(column.name, what) for column in table.columns) for what in ("status", "job"))
    return max(_BEST - place + found - (0 if table.is_table else _NEAR), 0)


def propose(table: Table, seen: Survey, others: Iterable[Table] = ()) -> Proposal:
    """Propose a watch of a table; `others` look like a table of applications too."""
    changed = _dated(table, "changed")
    watermark = None if changed is None else changed.name
    sure = {"created": _dated(table, "created"), "event_date": _of_event(table), "job_id": _job(table, seen.tables)}
    values = {field: column.name for field, column in sure.items() if column is not None}
    undecided = [f"table: {other.name} looks like it too" for other in others]
    if not table.key:
        undecided.append("key: nothing makes a column unique in the database; it must be, and never NULL")
    for field, left in _LEFT.items():
        if field not in values:
            values[field] = f"put_{field}_here"
            undecided.append(f"{field}: {left}")
    if not _are_in_utc(table, seen.tables, [watermark, values.get("created"), values.get("event_date")]):
        undecided.append("timezone: in which zone does the ATS write dates without one? Look at a row changed just now")
    mode: Literal["notify", "poll"] = "notify"
    has_triggers = table.is_table and not seen.in_recovery
    if watermark is not None and not has_triggers:
        mode = "poll"
        undecided.append(f"watermark: does the ATS set {written(watermark)} at every change?")
    return Proposal(table, table.key or (table.columns[0].name,), values, watermark, mode, tuple(undecided))


def _dated(table: Table, kind: Literal["created", "changed"]) -> Column | None:
    """The only column with the best name for a time."""
    never = "never_a_date", "status", "changed" if kind == "created" else "created"
    instants = [each for each in table.columns if each.kind == "instant" and not mentions(each.name, *never)]
    places = {each: place for each in instants if (place := place_among(each.name, kind)) is not None}
    best = min(places.values(), default=None)
    return _only([each for each, place in places.items() if place == best])


def _only(columns: list[Column]) -> Column | None:
    return columns[0] if len(columns) == 1 else None


def _of_event(table: Table) -> Column | None:
    """The time of the last change of the status, else of the row; with a time of day, or the change's own is better."""
    instants = [column for column in table.columns if column.kind == "instant"]
    of_status = [each for each in instants if all(mentions(each.name, of) for of in ("status", "changed"))]
    column = _only(of_status) or _dated(table, "changed")
    return None if column is None or column.type == "date" else column


def _job(table: Table, tables: tuple[Table, ...]) -> Column | None:
    """The only foreign key to a table of jobs without people: by the key's name, else by the table's."""
    without_people = {other.name for other in tables if not other.has_people}
    leading = [column for column in table.columns if column.reference and column.reference.table in without_people]
    by_name = [column for column in leading if _is_of_job(column.name)]
    by_table = [column for column in leading if column.reference and _is_of_job(column.reference.table.name)]
    return _only(by_name or by_table)


def _is_of_job(name: str) -> bool:
    return mentions(name, "job") and not mentions(name, "status")


def _are_in_utc(table: Table, tables: Iterable[Table], dates: Iterable[str | None]) -> bool:
    """Whether these columns have a time zone, or a framework writes UTC."""
    used = [table.column(name or "") for name in dates]
    has_zones = all(column is None or column.type.endswith("with time zone") for column in used)
    return has_zones or any(other.name.name in _WRITES_UTC for other in tables)


# The list of columns.


def listing(table: Table, tables: Iterable[Table], samples: Mapping[str, Iterable[str]]) -> list[str]:
    """What a person needs to see of a table, and which others refer to it; `samples` are labels by column."""
    lines = [f"{table.name}: {table.size}"]
    for column in table.columns:
        marks = [column.type, *(["unique"] if column.unique else []), *(["key"] if column.name in table.key else [])]
        if column.reference is not None:
            marks.append(f"leads to {column.reference.table}")
        if is_personal(column.name):
            marks.append("a person's")
        seen = ", ".join(samples.get(column.name, ()))
        lines.append(f"  {written(column.name)}: {', '.join(marks)}{f' ({seen})' if seen else ''}")
    return lines + [
        f"{other.name} refers to it by {written(column.name)}"
        for other in tables
        for column in other.columns
        if other.name != table.name and column.reference and column.reference.table == table.name
    ]


def expressions(table: Table, tables: Iterable[Table]) -> list[str]:
    """The labels behind foreign keys, ready for the file; their tables have nothing of the watched one's key."""
    lines = list[str]()
    for column, label in status_like(table, tables):
        if label is not None:
            query, used = in_yaml(label.sql, style='"'), in_yaml(written(column.name))
            lines.append(f"status: {{sql: {query}, depends_on: [{used}]}}")
            lines.append(f"related: [{{table: {in_yaml(str(label.table))}, key: []}}]")
    return lines


def status_like(table: Table, tables: Iterable[Table]) -> list[tuple[Column, Label | None]]:
    """The columns that may have the status, with the label behind the foreign key."""
    found = []
    for column in table.columns:
        names = [column.name, *([column.reference.table.name] if column.reference else [])]
        is_like = any(mentions(name, "status") for name in names)
        if is_like and not mentions(column.name, "no_label") and column.kind in {"text", "number", "uuid"}:
            found.append((column, label_behind(column, tables)))
    return found

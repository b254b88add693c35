"""What `cdc-sync init` takes of a database's catalog: the table, its key, its dates and its job; and what it leaves.

What is taken is sure. All else is a line of `undecided`, which a person removes from the file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cdc_sync.ats.survey import Column, Label, Table, in_yaml, label_behind, mapped, related
from cdc_sync.config.columns import Columns
from cdc_sync.config.meanings import is_personal, known, mentions, place_among
from cdc_sync.core.identifiers import QualifiedName, written

FIELDS = tuple(name for name in Columns.model_fields if name != "account")
"""The mapped columns, in the configuration's order; accounts are a person's decision."""

_BEST = 10
_LEAST = 3
_NEAR = 3
"""Tables within this distance of the best are mentioned."""

_IN_UTC = {"ar_internal_metadata": "Rails", "_prisma_migrations": "Prisma"}
"""Tables of frameworks that write UTC into columns without a time zone."""


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value is: a column, or an expression with the columns that it uses (None: unknown).

    Attributes:
        related: the other table that the expression reads.
        why: the reason, if nobody named it.
    """

    column: str | None = None
    sql: str | None = None
    depends_on: tuple[str, ...] | None = None
    related: QualifiedName | None = None
    why: str | None = None

    def entry(self, field: str) -> str:
        """The key of `columns`, as the file has it."""
        if self.sql is not None:
            return mapped(field, self.sql, self.depends_on)
        return f"{field}: {in_yaml(written(self.column or ''))}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A watch.

    Attributes:
        values: by field of `columns`.
        watermark: the column of the last change.
        timezone_why: the reason, if nobody named it.
        undecided: what is left to a person.
    """

    table: Table
    key: tuple[str, ...]
    values: Mapping[str, Value]
    watermark: str | None
    timezone: str
    timezone_why: str | None
    undecided: tuple[str, ...]


def rank(tables: Iterable[Table]) -> list[Table]:
    """Tables that look like one of applications by their names, best first; of equal ones the bigger first."""
    scores = {table: _score(table) for table in tables}
    least = max(_LEAST, max(scores.values(), default=0) - _NEAR)
    near = [table for table, score in scores.items() if score >= least]
    return sorted(near, key=lambda table: (-scores[table], -(table.rows or 0), str(table.name)))


def _score(table: Table) -> int:
    place = place_among(table.name.name, "applications")
    if place is None or mentions(table.name.name, known("about_them")):
        return 0
    named = [[column for column in table.columns if mentions(column.name, known(what))] for what in ("status", "job")]
    has_hellowork = any(mentions(column.name, ["hellowork"]) for column in table.columns)
    found = sum(map(bool, [*named, _dated(table, "created"), has_hellowork]))
    return _BEST - place + found - (0 if table.is_table else _NEAR)


def propose(
    table: Table,
    tables: Iterable[Table],
    named: Mapping[str, Value],
    zone: str | None,
    others: Iterable[Table] = (),
) -> Proposal:
    """Propose a watch of a table; `tables` are all, `named` and `zone` are a person's answers.

    `others` look like a table of applications too.
    """
    tables = tuple(tables)
    values = {**_taken(table, tables), **named}
    undecided = [f"table: {other.name} looks like it too" for other in others]
    if not table.key:
        undecided.append("key: nothing makes a column unique in the database; it must be, and never NULL")
    job = _job(table, tables)
    if "job_id" not in named and job is not None and (question := _which_reference(*job)) is not None:
        undecided.append(f"job_id: {question}")
    for field, left in _left(table, tables):
        if field not in values and not (field == "application_id" and "status_url" in values):
            values[field] = Value(f"put_{field}_here")
            undecided.append(f"{field}: {left}")
    watermark = values.pop("watermark", Value()).column
    why, question = (None, None) if zone is not None else _time_zone(table, tables, values, watermark)
    undecided += [f"timezone: {question}"] if question else []
    key = table.key or (table.columns[0].name,)
    return Proposal(table, key, values, watermark, zone or "UTC", why, tuple(undecided))


def _taken(table: Table, tables: tuple[Table, ...]) -> dict[str, Value]:
    """What is sure."""
    dates = {
        "created": _dated(table, "created"),
        "event_date": _of_event(table),
        "watermark": _dated(table, "changed"),
    }
    found = {
        field: Value(column.name, why="by its name and its type")
        for field, column in dates.items()
        if column is not None
    }
    job = _job(table, tables)
    if job is not None:
        column, jobs = job
        found["job_id"] = Value(column.name, why=f"the only foreign key to a table of jobs, {jobs.name}")
    return found


def _left(table: Table, tables: Iterable[Table]) -> list[tuple[str, str]]:
    """What is required, and what a person needs to know to name it."""
    status = [written(column.name) for column, _ in status_like(table, tables)]
    theirs = [written(column.name) for column in table.columns if mentions(column.name, ["hellowork"])]
    likely = (
        f"{' or '.join(theirs)}?" if theirs else "If the ATS has none, `cdc-sync sql id-table` prints a table for it"
    )
    return [
        ("application_id", f"the column with HelloWork's id, or status_url with its URL. {likely}"),
        ("status", f"the label that people in the ATS read: {' or '.join(status) or 'see the list of columns'}?"),
        ("job_id", "the job's id or reference in the ATS, as HelloWork has it: see the list of columns"),
        ("created", "when the application was created in the ATS: see the list of columns"),
    ]


def _dated(table: Table, kind: Literal["created", "changed"]) -> Column | None:
    """The only column with the best name for a time."""
    other = "changed" if kind == "created" else "created"
    never = known("never_a_date") + known(other) + known("status")
    places: dict[int, list[Column]] = {}
    for column in table.columns:
        place = place_among(column.name, kind)
        if column.kind == "instant" and place is not None and not mentions(column.name, never):
            places.setdefault(place, []).append(column)
    best = places[min(places)] if places else []
    return best[0] if len(best) == 1 else None


def _of_event(table: Table) -> Column | None:
    """The time of the last change of the status, else of the row; with a time of day, or the change's own is better."""
    of_status = [
        column
        for column in table.columns
        if column.kind == "instant" and all(mentions(column.name, known(word)) for word in ("status", "changed"))
    ]
    column = of_status[0] if len(of_status) == 1 else _dated(table, "changed")
    return None if column is None or column.type == "date" else column


def _job(table: Table, tables: tuple[Table, ...]) -> tuple[Column, Table] | None:
    """The only foreign key to a table of jobs without people, and the table: by the key's name, else by the table's."""
    without_people = {other.name: other for other in tables if not other.has_people}
    leading = [
        (column, without_people[column.reference.table])
        for column in table.columns
        if column.reference is not None and column.reference.table in without_people
    ]
    by_name = [found for found in leading if _is_of_job(found[0].name)]
    by_table = [found for found in leading if _is_of_job(found[1].name.name)]
    found = by_name or by_table
    return found[0] if len(found) == 1 else None


def _is_of_job(name: str) -> bool:
    return mentions(name, known("job")) and not mentions(name, known("status"))


def _which_reference(column: Column, jobs: Table) -> str | None:
    """What must be asked where a job has a published reference beside its key."""
    found = [each.name for each in jobs.columns if each.kind == "text" and mentions(each.name, known("published"))]
    if not found:
        return None
    return f"does HelloWork know the job by {written(column.name)}, or by its {', '.join(map(written, found))}?"


def _time_zone(
    table: Table, tables: Iterable[Table], values: Mapping[str, Value], watermark: str | None
) -> tuple[str, str | None]:
    """Why dates are taken for UTC, and what must be asked."""
    names = [*(values[field].column for field in ("created", "event_date") if field in values), watermark]
    used = [table.column(name or "") for name in names]
    zoneless = [written(column.name) for column in used if column is not None and not column.has_zone]
    if not zoneless:
        return "nothing mapped has dates without one", None
    framework = next((_IN_UTC[table.name.name] for table in tables if table.name.name in _IN_UTC), None)
    if framework is not None:
        return f"{framework} writes UTC", None
    why = f"the zone of {', '.join(dict.fromkeys(zoneless))}, whose values have none"
    return why, "in which zone does the ATS write dates without one? Look at a row that was changed just now"


# The list of columns.


def listing(table: Table, tables: Iterable[Table], samples: Mapping[str, Iterable[str]]) -> list[str]:
    """What a person needs to see of a table; `samples` are labels by column."""
    tables = tuple(tables)
    lines = [f"{table.name}: {table.size}"]
    for column in table.columns:
        marks = [column.type, *(["unique"] if column.unique else []), *(["key"] if column.name in table.key else [])]
        if column.reference is not None:
            marks.append(f"leads to {column.reference.table}")
        if is_personal(column.name):
            marks.append("a person's")
        seen = ", ".join(samples.get(column.name, ()))
        lines.append(f"  {written(column.name)}: {', '.join(marks)}{f' ({seen})' if seen else ''}")
    return lines + [f"{other} refers to it by {written(name)}" for other, name in referring(table, tables)]


def expressions(table: Table, tables: Iterable[Table]) -> list[str]:
    """The labels behind foreign keys, ready for the file."""
    lines = list[str]()
    for column, label in status_like(table, tables):
        if label is not None:
            value = Value(column.name, label.sql, (column.name,))
            lines += [value.entry("status"), f"related: [{related(label.table)}]"]
    return lines


def status_like(table: Table, tables: Iterable[Table]) -> list[tuple[Column, Label | None]]:
    """The columns that may have the status, with the label behind the foreign key."""
    found = []
    for column in table.columns:
        names = [column.name, *([column.reference.table.name] if column.reference else [])]
        is_like = any(mentions(name, known("status")) for name in names)
        if is_like and not mentions(column.name, known("no_label")) and column.kind in {"text", "number", "uuid"}:
            found.append((column, label_behind(column, tables)))
    return found


def referring(table: Table, tables: Iterable[Table]) -> list[tuple[QualifiedName, str]]:
    """The tables with a foreign key to a table, and its column."""
    return [
        (other.name, column.name)
        for other in tables
        for column in other.columns
        if column.reference is not None and column.reference.table == table.name and other.name != table.name
    ]

"""Whether HelloWork would receive a label, and no number or other table's key, for `cdc-sync check`."""

from contextlib import suppress
from typing import NamedTuple

from psycopg import sql

from cdc_sync.ats import expressions
from cdc_sync.ats.checked import Checked, Shared
from cdc_sync.ats.connection import rows_of
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.expressions import catalog, sections
from cdc_sync.ats.facts import asking_shortly
from cdc_sync.ats.granting import granting
from cdc_sync.ats.survey import Column, Reference, label_behind, mapped, related
from cdc_sync.config.columns import bare_column
from cdc_sync.config.meanings import is_bare_number, known
from cdc_sync.core.findings import Finding
from cdc_sync.core.identifiers import QualifiedName, written

_MOST_CODES = 1000

_BY_MAP = 'map each value in status.map, such as {"1": "Reçue"}, and write status.unmapped: reject'


class _Status(NamedTuple):
    """The column of the status, its type, and the labels that status.map translates."""

    column: str
    type_: str
    mapped: frozenset[str]

    @property
    def is_number(self) -> bool:
        return Column(self.column, self.type_).kind in {"number", "uuid"}


async def is_label(one: Checked, shared: Shared) -> Finding | None:
    """The finding about a status that is read from a column."""
    status = _status_of(one)
    if status is None:
        return None
    about = {"column": written(status.column), "type": status.type_}
    if status.mapped and one.watch.status.unmapped != "send":
        return one.found("status/mapped", **about) if status.is_number else None
    reference = None if status.is_number else await _reference(one, status.column)
    codes = None if reference is None else await _codes(one, reference)
    are_labels = reference is None or (codes and codes <= status.mapped | set(known("hellowork")))
    if are_labels and not status.is_number:
        return None
    remedy = await _reading_label(one, shared, status)
    if remedy is None:
        return None  # its values are all that can be read
    if reference is not None and codes is None:
        remedy += _letting_read(one, reference)
    what = "key" if not status.is_number else "in-part" if status.mapped else "number"
    return one.found(f"status/{what}", remedy, **about)


def _status_of(one: Checked) -> _Status | None:
    """None if the status is an expression, or its column is missing."""
    column = bare_column(one.watch.columns.status)
    if column is None or column not in one.facts.columns:
        return None
    type_ = one.facts.columns[column]
    is_numeric = Column(column, type_).kind == "number"
    labels = (label for label in one.watch.status.map if label.strip())
    return _Status(column, type_, frozenset(each for each in labels if not is_numeric or is_bare_number(each)))


async def _reference(one: Checked, column: str) -> Reference | None:
    """Where a foreign key of the column leads."""
    references = await rows_of(one.connection, catalog("references"), {"tables": [one.facts.oid]})
    found = (Reference(QualifiedName(*to), key) for _, name, *to, key in references if name == column)
    return next(found, None)


async def _codes(one: Checked, reference: Reference) -> set[str] | None:
    """A foreign key's values; None if we may not read them, or they are too many for codes."""
    column, table = sql.Identifier(reference.key), expressions.table(reference.table)
    query = sql.SQL(sections("reading.sql")["values"]).format(column=column, table=table, most=_MOST_CODES)
    with suppress(SourceError):
        async with asking_shortly(one.connection, f"reading the codes of {reference.table}"):
            codes = {code for (code,) in await rows_of(one.connection, query)}
            return codes if len(codes) < _MOST_CODES else None
    return None


async def _reading_label(one: Checked, shared: Shared, status: _Status) -> str | None:
    """What gives a label in place of the column's value."""
    tables = (await shared.survey(one.connection)).tables
    own = next((each for each in tables if each.name == one.facts.qualified), None)
    column = None if own is None else own.column(status.column)
    label = None if column is None else label_behind(column, tables)
    if label is not None:
        expression = mapped("status", label.sql, [status.column])
        return f"columns:\n  {expression}\nrelated:\n  - {related(label.table)}\n# or {_BY_MAP}"
    if status.is_number:
        return f"Read the label from its table by an expression (columns.status.sql), or {_BY_MAP}."
    return None


def _letting_read(one: Checked, reference: Reference) -> str:
    user = sql.Identifier(one.connection.info.user)
    lines = granting(reference.table, "SELECT", [reference.key], user)
    return "\n".join(["\n# or, if each is mapped, or one of HelloWork's own statuses, let `check` see that:", *lines])

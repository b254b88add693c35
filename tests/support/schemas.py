"""Schemas of other ATSs, written down as `cdc-sync init` sees them."""

from pathlib import Path

import yaml

from cdc_sync.ats.facts import Column, Reference
from cdc_sync.ats.survey import Survey, Table
from cdc_sync.core.identifiers import QualifiedName, parse_qualified


def a_column(text: str) -> Column:
    """`name type [unique] [enum] [->table.key]`; `_` in the type is a blank."""
    name, type_, *marks = text.split()
    reference = None
    for mark in marks:
        if mark.startswith("->"):
            table, _, key = mark[2:].rpartition(".")
            reference = Reference(parse_qualified(table), key)
    return Column(name, type_.replace("_", " "), is_enum="enum" in marks, unique="unique" in marks, reference=reference)


def a_table(name: str, *columns: str, key: str | None = "id", kind: str = "r", rows: int = 1000) -> Table:
    """A table; its key is one column, or None."""
    schema, _, plain = name.rpartition(".")
    return Table(
        QualifiedName(schema or "public", plain), kind, rows, (key,) if key else (), tuple(map(a_column, columns))
    )


def a_survey(*tables: Table) -> Survey:
    """A database with these tables, as a superuser sees it."""
    return Survey(
        version=150000,
        in_recovery=False,
        identity="ats",
        position="",
        prepares_transactions=False,
        waits_for_standbys=False,
        user="postgres",
        database="ats",
        timezone="UTC",
        is_superuser=True,
        tables=tables,
        left_out=(),
    )


def _of(ats: str) -> tuple[Table, ...]:
    tables = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))[ats]
    named = ((title.split(" key "), columns) for title, columns in tables.items())
    return tuple(a_table(name, *columns, key=key[0] if key else "id") for (name, *key), columns in named)


ODOO = _of("odoo")
FRENCH = _of("french")
RAILS = _of("rails")
LEGACY = _of("legacy")
PRISMA = _of("prisma")
HORILLA = _of("horilla")
OPENATS = _of("openats")

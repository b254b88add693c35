"""A database's tables, for `cdc-sync init` and `check`; no daemon loads this module."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg import sql

from cdc_sync.ats.connection import Connection, rows_of
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.expressions import catalog, composed, sections
from cdc_sync.ats.expressions import table as quoted
from cdc_sync.ats.facts import ServerFacts, asking_shortly, server_facts
from cdc_sync.config.guessing import MOST_VALUES, Column, Reference, Table, flags
from cdc_sync.core.identifiers import QualifiedName, usable, written


@dataclass(frozen=True, slots=True)
class Survey(ServerFacts):
    """A database and its tables, without PostgreSQL's own and names that cannot be configured (`left_out`)."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


async def survey(connection: Connection) -> Survey:
    """Look at a database."""
    async with asking_shortly(connection, "looking at the database's tables"):
        server = await server_facts(connection)
        relations = await rows_of(connection, catalog("relations"), {"kinds": list("rpvm")})
        described = await rows_of(connection, catalog("tables"), {"tables": [oid for oid, *_ in relations]})
    facts = {oid: json.loads(each) for oid, each in described}
    tables: list[Table] = []
    left_out: list[str] = []
    for schema, table, kind, rows, (key, columns) in [(*each, facts[oid]) for oid, *each in relations if oid in facts]:
        name = QualifiedName(schema, table)
        if not (usable(schema) and usable(table)):
            left_out.append(str(name))
            continue
        left_out += sorted(f"{name}.{written(column)}" for column in columns if not usable(column))
        named = tuple(_column(column, **about) for column, about in columns.items() if usable(column))
        tables.append(Table(name, kind, rows, tuple(key) if all(map(usable, key)) else (), named))
    return Survey(**asdict(server), tables=tuple(tables), left_out=tuple(left_out))


def _column(name: str, *, reference: list[str] | None, **about: Any) -> Column:
    if reference is None or not all(map(usable, reference)):
        return Column(name, **about)
    *table, key = reference
    return Column(name, reference=Reference(QualifiedName(*table), key), **about)


async def with_values(connection: Connection, table: Table) -> Table:
    """Add the values of possible flags, as far as we may read them."""
    seen: dict[str, tuple[str, ...]] = {}
    values = sections("reading.sql")["values"]
    for name in flags(table):
        query = composed(values, column=sql.Identifier(name), table=quoted(table.name), most=MOST_VALUES)
        # `init` comes before the grants.
        with suppress(SourceError):
            async with asking_shortly(connection, f"looking at the values of {written(name)}"):
                seen[name] = tuple(value for (value,) in await rows_of(connection, query))
    return replace(table, columns=tuple(replace(one, values=seen.get(one.name)) for one in table.columns))

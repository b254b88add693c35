"""Which tables a database has, for `cdc-sync init`. Apart from `source.facts`: no daemon has to load it."""

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg import sql

from cdc_sync.config.guessing import MOST_VALUES, Column, Reference, Table, flags
from cdc_sync.core.identifiers import QualifiedName, usable, written
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import SourceError
from cdc_sync.source.expressions import catalog, sections
from cdc_sync.source.expressions import table as quoted
from cdc_sync.source.facts import ServerFacts, asking_shortly, rows_of, server_facts


@dataclass(frozen=True, slots=True)
class Survey(ServerFacts):
    """A database.

    Attributes:
        tables: all that are not PostgreSQL's own.
        left_out: tables and columns whose names cannot be configured.
    """

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


async def survey(connection: Connection) -> Survey:
    """Look at a database.

    Raises:
        SourceError: the catalog cannot be read.
    """
    async with asking_shortly(connection, "looking at the database's tables"):
        server = await server_facts(connection)
        relations = await rows_of(connection, catalog("relations"), {"kinds": list("rpvm")})
        parameters = {"tables": [oid for oid, *_ in relations]}
        columns = await rows_of(connection, catalog("columns"), parameters)
        different = await rows_of(connection, catalog("different_values"), parameters)
        indexes = await rows_of(connection, catalog("indexes"), parameters)
        references = await rows_of(connection, catalog("references"), parameters)
    described: dict[int, dict[str, dict[str, Any]]] = {oid: {} for oid, *_ in relations}
    for oid, name, type_, is_enum, not_null, _ in columns:
        described[oid][name] = {"type": type_, "is_enum": is_enum, "not_null": not_null}
    for oid, name, distinct in different:
        described[oid][name]["distinct"] = distinct
    keys: dict[int, tuple[str, ...]] = {}
    # Not those of system columns: before PostgreSQL 12 a table WITH OIDS may have one.
    for oid, is_primary, is_unique, names in [each for each in indexes if described[each[0]].keys() >= set(each[3])]:
        own = described[oid]
        if is_primary or (is_unique and oid not in keys and all(own[name]["not_null"] for name in names)):
            keys[oid] = tuple(names)
        own[names[0]]["indexed"] = True
        if is_unique and len(names) == 1:
            own[names[0]]["unique"] = True
    for oid, name, *to, key in [each for each in references if all(map(usable, each[2:]))]:
        described[oid][name]["reference"] = Reference(QualifiedName(*to), key)
    tables: list[Table] = []
    left_out: list[str] = []
    for oid, schema, table, kind, rows, _ in relations:
        name, own = QualifiedName(schema, table), described[oid]
        if not own:
            continue
        if not (usable(schema) and usable(table)):
            left_out.append(str(name))
            continue
        left_out += sorted(f"{name}.{written(column)}" for column in own if not usable(column))
        key = keys.get(oid, ())
        named = tuple(Column(column, **facts) for column, facts in own.items() if usable(column))
        tables.append(Table(name, kind, rows, key if all(map(usable, key)) else (), named))
    return Survey(**asdict(server), tables=tuple(tables), left_out=tuple(left_out))


async def with_values(connection: Connection, table: Table) -> Table:
    """Look at the different values of what may be a flag, among the first rows, as far as we may read it."""
    seen: dict[str, tuple[str, ...]] = {}
    values = sql.SQL(sections("reading.sql")["values"])
    for name in flags(table):
        query = values.format(column=sql.Identifier(name), table=quoted(table.name), most=MOST_VALUES)
        # Often it may not: `init` comes before the grants.
        with suppress(SourceError):
            async with asking_shortly(connection, f"looking at the values of {written(name)}"):
                seen[name] = tuple(value for (value,) in await rows_of(connection, query))
    return replace(table, columns=tuple(replace(one, values=seen.get(one.name)) for one in table.columns))

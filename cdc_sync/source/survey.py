"""What a database's catalog says of its tables, for `cdc-sync init`: no row is read.

Of the planner's statistics only the number of different values is asked for: `most_common_vals` and the histograms are
values of rows.
"""

from dataclasses import dataclass, replace
from typing import Any

from cdc_sync.core.guessing import Column, Reference, Table
from cdc_sync.core.identifiers import QualifiedName, usable, written
from cdc_sync.source.check.shortly import asking_shortly
from cdc_sync.source.connection import Connection

_SERVER = """
SELECT current_user::text, current_database()::text, current_setting('TimeZone'), pg_is_in_recovery(),
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""

_TABLES = """
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, greatest(c.reltuples, 0)::bigint
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cdc_sync') AND n.nspname NOT LIKE 'pg\\_%'
 ORDER BY n.nspname, c.relname
 LIMIT 5000
"""

_COLUMNS = """
WITH RECURSIVE base (relation, number, name, mandatory, type, typmod, depth) AS (
    SELECT a.attrelid, a.attnum, a.attname, a.attnotnull, a.atttypid, a.atttypmod, 0
      FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = ANY (%(tables)s) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.relation, b.number, b.name, b.mandatory, t.typbasetype, t.typtypmod, b.depth + 1
      FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type
     WHERE t.typtype = 'd'
), described AS (
    SELECT DISTINCT ON (relation, number) *
      FROM base
     ORDER BY relation, number, depth DESC
)
SELECT d.relation, d.name::text, pg_catalog.format_type(d.type, d.typmod), t.typtype = 'e', d.mandatory,
       -- Above zero a number, below zero a share of the rows.
       CASE WHEN s.n_distinct >= 0 THEN s.n_distinct ELSE -s.n_distinct * greatest(c.reltuples, 0) END::bigint
  FROM described d
  JOIN pg_catalog.pg_type t ON t.oid = d.type
  JOIN pg_catalog.pg_class c ON c.oid = d.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = d.name
                                  AND NOT s.inherited
 ORDER BY d.relation, d.number
"""

# The names of an index's columns in its order, without those that it only carries along (INCLUDE, since PostgreSQL 11).
_INDEXES = """
SELECT i.indrelid, i.indisprimary, i.indisunique AND i.indpred IS NULL, parts.names
  FROM pg_catalog.pg_index i
 CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY part.position) AS names
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part (number, position)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.number
     WHERE part.position <= coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts)
 ) parts
 WHERE i.indrelid = ANY (%(tables)s) AND i.indisvalid AND i.indexprs IS NULL
 ORDER BY i.indrelid, NOT i.indisprimary, i.indexrelid
"""

_REFERENCES = """
SELECT f.conrelid, own.attname::text, n.nspname::text, c.relname::text, other.attname::text
  FROM pg_catalog.pg_constraint f
  JOIN pg_catalog.pg_class c ON c.oid = f.confrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute own ON own.attrelid = f.conrelid AND own.attnum = f.conkey[1]
  JOIN pg_catalog.pg_attribute other ON other.attrelid = f.confrelid AND other.attnum = f.confkey[1]
 WHERE f.contype = 'f' AND f.conrelid = ANY (%(tables)s) AND cardinality(f.conkey) = 1
"""


@dataclass(frozen=True, slots=True)
class Survey:
    """A database.

    Attributes:
        user: whom we are logged in as.
        database: its name.
        timezone: the server's, as the session has it.
        in_recovery: whether the server is a standby.
        is_superuser: whether we may do everything.
        tables: all that are not PostgreSQL's own.
        left_out: tables and columns whose names cannot be configured.
    """

    user: str
    database: str
    timezone: str
    in_recovery: bool
    is_superuser: bool
    tables: tuple[Table, ...]
    left_out: tuple[str, ...] = ()


async def survey(connection: Connection) -> Survey:
    """Look at a database.

    Raises:
        SourceError: the catalog cannot be read.
    """
    async with asking_shortly(connection, "looking at the database's tables"):
        row = await (await connection.execute(_SERVER)).fetchone()
        found = await (await connection.execute(_TABLES)).fetchall()
        parameters = {"tables": [oid for oid, *_ in found]}
        columns = await (await connection.execute(_COLUMNS, parameters)).fetchall()
        indexes = await (await connection.execute(_INDEXES, parameters)).fetchall()
        references = await (await connection.execute(_REFERENCES, parameters)).fetchall()
    user, database, timezone, in_recovery, is_superuser = row or ("", "", "UTC", False, False)
    tables: dict[int, Table] = {
        oid: Table(QualifiedName(schema, name), kind, rows, (), ()) for oid, schema, name, kind, rows in found
    }
    for oid, name, type_, is_enum, mandatory, distinct in columns:
        table = tables[oid]
        column = Column(name, type_, is_enum=bool(is_enum), not_null=mandatory, distinct=distinct)
        tables[oid] = replace(table, columns=(*table.columns, column))
    for oid, is_primary, is_unique, names in indexes:
        table = tables[oid]
        never_null = {column.name for column in table.columns if column.not_null} >= set(names)
        if is_primary or (is_unique and not table.key and never_null):
            table = replace(table, key=tuple(names))
        unique = {"unique": True} if is_unique and len(names) == 1 else {}
        tables[oid] = _with(table, names[0], indexed=True, **unique)
    for oid, name, *other in references:
        schema, other_table, key = other
        tables[oid] = _with(tables[oid], name, reference=Reference(QualifiedName(schema, other_table), key))
    left_out: list[str] = []
    whole = tuple(_usable(table, left_out) for table in tables.values() if table.columns)
    named = tuple(table for table in whole if usable(table.name.name) and usable(table.name.schema or "-"))
    left_out += [str(table.name) for table in whole if table not in named]
    return Survey(user, database, timezone, in_recovery, is_superuser, named, tuple(left_out))


def _usable(table: Table, left_out: list[str]) -> Table:
    """A table without the columns whose names cannot be configured; these are added to `left_out`."""
    unusable = {column.name for column in table.columns if not usable(column.name)}
    if not unusable and all(_leads_to_usable(column) for column in table.columns):
        return table
    left_out += [f"{table.name}.{written(name)}" for name in sorted(unusable)]
    columns = (column for column in table.columns if column.name not in unusable)
    return replace(
        table,
        key=() if unusable & set(table.key) else table.key,
        columns=tuple(each if _leads_to_usable(each) else replace(each, reference=None) for each in columns),
    )


def _leads_to_usable(column: Column) -> bool:
    to = column.reference
    return to is None or all(map(usable, (to.table.schema or "-", to.table.name, to.key)))


def _with(table: Table, name: str, **facts: Any) -> Table:
    columns = tuple(replace(column, **facts) if column.name == name else column for column in table.columns)
    return replace(table, columns=columns)

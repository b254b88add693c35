"""The catalog's answers about a table, also for a role that may not use its schema yet.

`to_regclass` refuses to look into such a schema, and the whole check would end with that refusal.
"""

from dataclasses import dataclass

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.connection import Connection

_FIND = """
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = %(name)s
   AND CASE WHEN %(schema)s::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = %(schema)s END
"""

_COLUMNS = """
SELECT a.attname::text, a.attnotnull, pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

# Since PostgreSQL 11 an index may carry further columns along (INCLUDE), which its uniqueness does not concern.
_UNIQUE = """
SELECT (SELECT array_agg(a.attname::text)
          FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part (number, position)
          JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.number
         WHERE part.position <= coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts))
  FROM pg_catalog.pg_index i
 WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
"""


@dataclass(frozen=True, slots=True)
class ColumnSeen:
    """A column: whether it may be NULL, and whether we may read it."""

    name: str
    not_null: bool
    readable: bool


@dataclass(frozen=True, slots=True)
class TableSeen:
    """A table as the catalog has it.

    Attributes:
        name: its name, schema included.
        kind: `pg_class.relkind`.
        usable: whether we have USAGE on its schema.
        columns: its columns in order.
        unique: the columns of each index that makes them unique.
    """

    oid: int
    name: QualifiedName
    kind: str
    usable: bool
    columns: tuple[ColumnSeen, ...]
    unique: tuple[frozenset[str], ...]

    def column(self, name: str) -> ColumnSeen | None:
        """A column by its name."""
        return next((column for column in self.columns if column.name == name), None)


async def look_up(connection: Connection, table: QualifiedName) -> TableSeen | None:
    """Look a table up; None if there is none, or without a schema none that the search_path leads to.

    Raises:
        psycopg.Error: the catalog cannot be read.
    """
    found = await connection.execute(_FIND, {"name": table.name, "schema": table.schema})
    row = await found.fetchone()
    if row is None:
        return None
    oid, schema, name, kind, usable = row
    columns = await (await connection.execute(_COLUMNS, (oid,))).fetchall()
    unique = await (await connection.execute(_UNIQUE, (oid,))).fetchall()
    return TableSeen(
        oid,
        QualifiedName(schema, name),
        kind,
        usable,
        tuple(ColumnSeen(*column) for column in columns),
        tuple(frozenset(names) for (names,) in unique if names),
    )

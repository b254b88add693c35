"""The catalog's answers about a table, also for a role that may not use its schema yet, and the GRANTs that it lacks.

`to_regclass` refuses to look into such a schema, and the whole check would end with that refusal.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from psycopg import sql

from cdc_sync.config import Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source import expressions
from cdc_sync.source.columns_of import Dependencies, columns_of_related
from cdc_sync.source.connection import Connection
from cdc_sync.source.grants import read_columns
from cdc_sync.source.recorders import bell_of, missed_of, render

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

# Whatever is not there yet is no matter of privileges.
_OURS = """
SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), c.relname::text,
       pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       pg_catalog.has_table_privilege(c.oid, 'DELETE') AND pg_catalog.has_table_privilege(c.oid, 'TRUNCATE'),
       CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'UPDATE') END
  FROM pg_catalog.pg_namespace n
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = ANY (%s)
 WHERE n.nspname = 'cdc_sync'
"""


@dataclass(frozen=True, slots=True)
class TableSeen:
    """A table as the catalog has it.

    Attributes:
        name: its name, schema included.
        kind: `pg_class.relkind`.
        usable: whether we have USAGE on its schema.
        columns: its columns in order.
        not_null: those that are never NULL.
        readable: those that we may read.
        unique: the columns of each index that makes them unique.
    """

    oid: int
    name: QualifiedName
    kind: str
    usable: bool
    columns: tuple[str, ...]
    not_null: frozenset[str]
    readable: frozenset[str]
    unique: tuple[frozenset[str], ...]


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
        tuple(column for column, _, _ in columns),
        frozenset(column for column, not_null, _ in columns if not_null),
        frozenset(column for column, _, readable in columns if readable),
        tuple(frozenset(names) for (names,) in unique if names),
    )


async def missing_grants(connection: Connection, name: str, watch: Watch, table: TableSeen) -> list[str]:
    """The GRANTs that our role lacks for a watch, as SQL; none if it has all.

    Args:
        connection: ours, in a transaction.
        name: the watch's name.
        watch: the watch.
        table: its table.

    Raises:
        psycopg.Error: the catalog cannot be read.
    """
    row = await (await connection.execute("SELECT current_user::text")).fetchone()
    to = sql.Identifier(row[0] if row else "")
    lines = list(_on_table(table, read_columns(watch), to))
    for related in watch.related:
        seen = await look_up(connection, related.table)
        if seen is not None:
            lines += _on_table(seen, columns_of_related(watch, related.table), to)
    if watch.capture.mode == "notify":
        lines += [line async for line in _on_ours(connection, name, to)]
    return list(dict.fromkeys(lines))


def _on_table(table: TableSeen, needed: Dependencies, to: sql.Identifier) -> Iterator[str]:
    if not table.usable:
        yield render("GRANT USAGE ON SCHEMA {schema} TO {to};", schema=sql.Identifier(table.name.schema or ""), to=to)
    on = expressions.table(table.name)
    missing = [column for column in needed.columns if column in table.columns and column not in table.readable]
    if needed.complete:
        if missing:
            yield render(
                "GRANT SELECT ({columns}) ON {on} TO {to};",
                columns=sql.SQL(", ").join(map(sql.Identifier, missing)),
                on=on,
                to=to,
            )
    elif missing or not table.readable:
        yield whole_table(table, to)


def whole_table(table: TableSeen, to: sql.Identifier) -> str:
    """The GRANT that an expression needs whose columns cannot be told from its text."""
    return render("GRANT SELECT ON {on} TO {to};", on=expressions.table(table.name), to=to)


async def _on_ours(connection: Connection, watch: str, to: sql.Identifier) -> AsyncIterator[str]:
    bell, missed = bell_of(watch), missed_of(watch)
    for usable, name, selects, empties, updates in await (
        await connection.execute(_OURS, (["changes", bell, missed],))
    ).fetchall():
        if not usable:
            yield render("GRANT USAGE ON SCHEMA cdc_sync TO {to};", to=to)
        if name == "changes" and not (selects and empties):
            yield render("GRANT SELECT, DELETE, TRUNCATE ON cdc_sync.changes TO {to};", to=to)
        if name == bell and not (selects and updates):
            yield render("GRANT SELECT, UPDATE ON SEQUENCE cdc_sync.{bell} TO {to};", bell=sql.Identifier(bell), to=to)
        if name == missed and not selects:
            yield render("GRANT SELECT ON SEQUENCE cdc_sync.{missed} TO {to};", missed=sql.Identifier(missed), to=to)

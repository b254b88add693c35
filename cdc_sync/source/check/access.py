"""Privileges: which are missing, as the GRANTs that would give them."""

from collections.abc import AsyncIterator, Iterable, Iterator

from psycopg import sql

from cdc_sync.config import Watch
from cdc_sync.source import expressions
from cdc_sync.source.check.lookup import TableSeen, look_up
from cdc_sync.source.columns_of import Dependencies
from cdc_sync.source.columns_of_related import columns_of_related
from cdc_sync.source.connection import Connection
from cdc_sync.source.grants import read_columns
from cdc_sync.source.recorders import bell_of, missed_of, render

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
    wanted = [column for name in needed.columns if (column := table.column(name)) is not None]
    if needed.complete:
        missing = [column.name for column in wanted if not column.readable]
        if missing:
            yield render("GRANT SELECT ({columns}) ON {on} TO {to};", columns=_names(missing), on=on, to=to)
    elif not all(column.readable for column in wanted) or not any(column.readable for column in table.columns):
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


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))

"""The least privileges of the role that the daemon runs as, as a script for the DBA."""

from psycopg import sql

from cdc_sync.config import Config, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.source import expressions
from cdc_sync.source.columns_of import Dependencies, watched
from cdc_sync.source.columns_of_related import columns_of_related
from cdc_sync.source.recorders import bell_of, missed_of, render


def grants(config: Config, role: str) -> str:
    """Column-level SELECT, and in notify mode the right to take the log and to arm the bell; nothing more."""
    to = sql.Identifier(role)
    lines = [
        "-- cdc-sync: what the daemon's role needs, and nothing more. Run it after the installation script, as the",
        "-- owner of the tables. The ATS's own roles need nothing.",
        "",
        render(
            "DO $cdc_sync$ BEGIN\n"
            "    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {role});\n"
            "END $cdc_sync$;",
            role=sql.Literal(role),
        ),
    ]
    for name, watch in config.watches.items():
        lines += ["", f"-- Watch {name}", *_read_grants(watch, to)]
        if watch.capture.mode == "notify":
            bell, missed = sql.Identifier(bell_of(name)), sql.Identifier(missed_of(name))
            lines += [
                render("GRANT USAGE ON SCHEMA cdc_sync TO {to};", to=to),
                render("GRANT SELECT, DELETE ON cdc_sync.changes TO {to};", to=to),
                render("GRANT SELECT, UPDATE ON SEQUENCE cdc_sync.{bell} TO {to};", bell=bell, to=to),
                render("GRANT SELECT ON SEQUENCE cdc_sync.{missed} TO {to};", missed=missed, to=to),
            ]
    return "\n".join(lines) + "\n"


def read_columns(watch: Watch) -> Dependencies:
    """The columns of its table that the daemon reads for a watch."""
    needed = watched(watch)
    if watch.capture.mode == "poll" and watch.capture.watermark is not None:
        needed = Dependencies(tuple(dict.fromkeys((*needed.columns, watch.capture.watermark))), needed.complete)
    return needed


def _read_grants(watch: Watch, to: sql.Identifier) -> list[str]:
    needed = read_columns(watch)
    tables = [watch.table, *(related.table for related in watch.related)]
    schemas = dict.fromkeys(table.schema for table in tables if table.schema is not None)
    lines = [render("GRANT USAGE ON SCHEMA {schema} TO {to};", schema=sql.Identifier(s), to=to) for s in schemas]
    table = expressions.table(watch.table)
    if needed.complete:
        columns = sql.SQL(", ").join(map(sql.Identifier, needed.columns))
        lines.append(render("GRANT SELECT ({columns}) ON {table} TO {to};", columns=columns, table=table, to=to))
    else:
        lines += [
            "-- An expression of this watch uses columns that cannot be told from its text: give it depends_on, or",
            "-- write t.column throughout, to get column-level privileges here.",
            render("GRANT SELECT ON {table} TO {to};", table=table, to=to),
        ]
    for related in watch.related:
        lines += _related_grants(watch, related.table, to)
    policy = render("CREATE POLICY cdc_sync ON {table} FOR SELECT TO {to} USING (true);", table=table, to=to)
    return [
        *lines,
        "-- If the table has row-level security: a row hidden from the daemon looks like a deleted one, so that every",
        "-- deletion waits for a person. Then also:",
        f"-- {visible(policy)}",
    ]


def _related_grants(watch: Watch, related: QualifiedName, to: sql.Identifier) -> list[str]:
    needed, table = columns_of_related(watch, related), expressions.table(related)
    if needed.complete:
        columns = sql.SQL(", ").join(map(sql.Identifier, needed.columns))
        return [render("GRANT SELECT ({columns}) ON {table} TO {to};", columns=columns, table=table, to=to)]
    return [
        "-- Which columns of this table the watch's expressions read cannot be told from their text: give it an alias",
        "-- (FROM table alias) and write alias.column throughout, to get column-level privileges here.",
        render("GRANT SELECT ON {table} TO {to};", table=table, to=to),
    ]

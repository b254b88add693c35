"""The least privileges of the role that the daemon runs as, as a script for the DBA."""

from psycopg import sql

from cdc_sync import rights
from cdc_sync.config import Config, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.source import expressions
from cdc_sync.source.columns_of import Dependencies, columns_of_related, watched
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
                render("GRANT SELECT, DELETE, TRUNCATE ON cdc_sync.changes TO {to};", to=to),
                render("GRANT SELECT, UPDATE ON SEQUENCE cdc_sync.{bell} TO {to};", bell=bell, to=to),
                render("GRANT SELECT ON SEQUENCE cdc_sync.{missed} TO {to};", missed=missed, to=to),
            ]
    lines += ["", "-- GRANT only warns of what it leaves out.", _block(rights.all_granted(_granted(config, role)))]
    return "\n".join(lines) + "\n"


def revokes(config: Config, role: str) -> str:
    """What takes back all that `grants` gives, so that the role can be dropped."""
    lines = [
        "-- cdc-sync: take back what `cdc-sync sql grants` gave the daemon's role, after the uninstallation script or",
        "-- before it. USAGE on a schema, and CONNECT, stay as long as the role has something else there. DROP ROLE",
        "-- goes through then, if the role has nothing else. Run it as the owner of the tables and of the database.",
        _block(rights.take_back(_granted(config, role))),
        "-- If a policy was made for it:",
    ]
    lines += [
        f"-- {visible(render('DROP POLICY cdc_sync ON {};', expressions.table(watch.table)))}"
        for watch in config.watches.values()
    ]
    return "\n".join(lines) + "\n"


def _block(body: str) -> str:
    return render("DO $cdc_sync$\n{body}\n$cdc_sync$;", body=sql.SQL(body))


def _granted(config: Config, role: str) -> rights.Grants:
    """The same as data."""
    tables: dict[tuple[str, str, str], None] = {}
    ours: dict[tuple[str, str], None] = {}
    schemas: dict[str, None] = {}
    for name, watch in config.watches.items():
        needs = [(watch.table, read_columns(watch))]
        needs += [(related.table, columns_of_related(watch, related.table)) for related in watch.related]
        for table, needed in needs:
            columns = (
                f"ARRAY[{', '.join(map(_literal, needed.columns))}]::pg_catalog.name[]" if needed.complete else "NULL"
            )
            tables[_literal(table.schema), _literal(table.name), columns] = None
            if table.schema is not None:
                schemas[_literal(table.schema)] = None
        if watch.capture.mode == "notify":
            ours[_literal("changes"), _literal("SELECT, DELETE, TRUNCATE")] = None
            ours[_literal(bell_of(name)), _literal("SELECT, UPDATE")] = None
            ours[_literal(missed_of(name)), _literal("SELECT")] = None
            schemas[_literal("cdc_sync")] = None
    return rights.Grants(_literal(role), list(tables), list(ours), list(schemas))


def _literal(value: str | None) -> str:
    return sql.Literal(value).as_string()


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

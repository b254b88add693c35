"""The DBA's scripts: rendered from the .sql files beside this module, without a connection.

Identifiers and literals are put in with `psycopg.sql`. Each function carries a fingerprint of its definition in its
comment, by which the daemon sees whether what is installed is what this version and configuration would install.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from psycopg import sql

from cdc_sync.config import Config, Related, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source import expressions
from cdc_sync.source.columns_of import Dependencies, compared, watched

_WAKE = """
    IF (SELECT last_value FROM cdc_sync.{bell}) > extract(epoch FROM clock_timestamp()) THEN
        PERFORM pg_notify('cdc_sync', '');
    END IF;"""


def install(config: Config) -> str:
    """The installation script for every watch in notify mode."""
    watches = {name: watch for name, watch in config.watches.items() if watch.capture.mode == "notify"}
    backlog = ", ".join(f"{name}: {watch.capture.max_backlog:,} bytes" for name, watch in watches.items())
    parts = [_text("install.sql").replace("{backlog}", backlog or "no watch is in notify mode")]
    for name, watch in watches.items():
        parts += [section for _, section in sections(name, watch)]
    return "".join([*parts, "\nCOMMIT;\n"])


def uninstall() -> str:
    """The script that removes everything, whatever is configured."""
    return _text("uninstall.sql")


def grants(config: Config, role: str) -> str:
    """The least privileges of the role that the daemon runs as."""
    to = sql.Identifier(role)
    lines = [
        "-- cdc-sync: what the daemon's role needs, and nothing more. Run it after the installation script, as the",
        "-- owner of the tables. The ATS's own roles need nothing.",
        "",
        "DO $cdc_sync$ BEGIN",
        _render(
            "    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {role});",
            role=sql.Literal(role),
        ),
        "END $cdc_sync$;",
    ]
    for name, watch in config.watches.items():
        lines += ["", f"-- Watch {name}", *_read_grants(watch, to)]
        if watch.capture.mode == "notify":
            lines += [
                _render("GRANT USAGE ON SCHEMA cdc_sync TO {to};", to=to),
                _render("GRANT SELECT, DELETE ON cdc_sync.changes TO {to};", to=to),
                _render("GRANT SELECT, UPDATE ON SEQUENCE cdc_sync.{bell} TO {to};", bell=_bell(name), to=to),
            ]
    return "\n".join(lines) + "\n"


def _read_grants(watch: Watch, to: sql.Identifier) -> list[str]:
    needed = watched(watch)
    if watch.capture.mode == "poll" and watch.capture.watermark is not None:
        needed = Dependencies(tuple(dict.fromkeys((*needed.columns, watch.capture.watermark))), needed.complete)
    tables = [watch.table, *(related.table for related in watch.related)]
    schemas = dict.fromkeys(table.schema for table in tables if table.schema is not None)
    lines = [_render("GRANT USAGE ON SCHEMA {schema} TO {to};", schema=sql.Identifier(s), to=to) for s in schemas]
    table = expressions.table(watch.table)
    if needed.complete:
        columns = sql.SQL(", ").join(map(sql.Identifier, needed.columns))
        lines.append(_render("GRANT SELECT ({columns}) ON {table} TO {to};", columns=columns, table=table, to=to))
    else:
        lines += [
            "-- An expression of this watch uses columns that cannot be told from its text: give it depends_on, or",
            "-- write t.column throughout, to get column-level privileges here.",
            _render("GRANT SELECT ON {table} TO {to};", table=table, to=to),
        ]
    for related in watch.related:
        lines.append(_render("GRANT SELECT ON {table} TO {to};", table=expressions.table(related.table), to=to))
    return lines


def sections(name: str, watch: Watch) -> list[tuple[str, str]]:
    """What is installed for a watch: (function name, SQL) for its table and each related one."""
    own = _section(
        _Target("watch.sql", name, f"record_{name}", watch.table, watch),
        changed=_changed(compared(watch)),
        old_key=_key("OLD", watch.key),
        new_key=_key("NEW", watch.key),
    )
    return [own, *(_related(number, name, watch, related) for number, related in enumerate(watch.related, start=1))]


def fingerprint(section: str) -> str:
    """What the installed function's comment must be."""
    return "cdc-sync " + hashlib.sha256(section.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Target:
    template: str
    name: str
    function: str
    table: QualifiedName
    watch: Watch


def _related(number: int, name: str, watch: Watch, related: Related) -> tuple[str, str]:
    # Without a key a row of this table may concern any application: ask for a sweep.
    nothing = sql.SQL("NULL")
    # No watch's name has a `$`, so no other function or trigger has this name.
    return _section(
        _Target("related.sql", name, f"record_{name}${number}", related.table, watch),
        changed=_changed(Dependencies((), complete=False)),
        operation=sql.Literal("U" if related.key else "T"),
        old_key=sql.SQL("ARRAY[{}]").format(_key("OLD", related.key)) if related.key else nothing,
        new_key=sql.SQL("ARRAY[{}]").format(_key("NEW", related.key)) if related.key else nothing,
    )


def _section(target: _Target, **parts: sql.Composable) -> tuple[str, str]:
    bell = _bell(target.name)
    wake = sql.SQL(_WAKE).format(bell=bell) if target.watch.capture.wakeup == "notify" else sql.SQL("")
    trigger = target.function.replace("record_", "cdc_sync_", 1)
    rendered = _render(
        _text(target.template),
        watch_name=sql.SQL(target.name),
        watch=sql.Literal(target.name),
        table=expressions.table(target.table),
        bell=bell,
        function=sql.Identifier(target.function),
        max_backlog=sql.Literal(target.watch.capture.max_backlog),
        wake=wake,
        trigger_row=sql.Identifier(f"{trigger}_row"),
        trigger_update=sql.Identifier(f"{trigger}_update"),
        trigger_truncate=sql.Identifier(f"{trigger}_truncate"),
        fingerprint=sql.SQL("{fingerprint}"),
        **parts,
    )
    return target.function, rendered.replace("{fingerprint}", f"'{fingerprint(rendered)}'")


def _changed(dependencies: Dependencies) -> sql.Composable:
    """The UPDATE trigger's condition.

    `*<>` compares the stored bytes: it works for types that have no equality (json, point), and sees the change of case
    that citext's own equality does not.
    """
    if not dependencies.complete:
        return sql.SQL("OLD.* OPERATOR(pg_catalog.*<>) NEW.*")
    old, new = (
        sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.SQL(row), sql.Identifier(name)) for name in dependencies.columns)
        for row in ("OLD", "NEW")
    )
    # The casts keep PostgreSQL from taking it for a row-wise comparison, which knows =, < and their like only.
    return sql.SQL("ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record").format(old, new)


def _key(row: str, columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(
        expressions.key_text(sql.SQL("{}.{}").format(sql.SQL(row), sql.Identifier(name))) for name in columns
    )


def _bell(name: str) -> sql.Identifier:
    return sql.Identifier(f"bell_{name}")


def _render(template: str, **parts: sql.Composable) -> str:
    return sql.SQL(template).format(**parts).as_string()


def _text(file: str) -> str:
    return files("cdc_sync.source").joinpath("sql", file).read_text(encoding="utf-8")

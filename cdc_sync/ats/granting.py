"""The scripts that grant the daemon's role what it needs, and take it back."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.ats.by_schema import by_schema
from cdc_sync.ats.expressions import among, composed, render, sections, template, watched
from cdc_sync.ats.expressions import table as quoted
from cdc_sync.ats.recorders import BELL, missed_of, tables_of, tables_of_all
from cdc_sync.config import Config, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR

_PARTS = sections("parts.sql")

_OUR_ROLE = sql.SQL("current_user")

_UNKNOWN = """\
-- An expression of this watch has no depends_on. With it (`cdc-sync check` prints the list) a few columns
-- are enough here."""


def grants(config: Config, role: str) -> str:
    """The GRANTs for the daemon's role: columns to read, and in notify mode the log, the bell and the counters."""
    to = sql.Identifier(role)
    granted = _of_watches(config, partial(granting_watch, to=to))
    end = render(template("granted.sql"), role=sql.SQL(visible(to.as_string())))
    return f"{_head('grants.sql', config, role)}{granted}\n{end}\nCOMMIT;\n"


def _head(file: str, config: Config, role: str) -> str:
    return render(template(file), role=role, begin=sql.SQL(own_path.begin(tables_of_all(config.watches))))


class _Need(NamedTuple):
    """What the daemon's role needs: as GRANT has it, and whether a role has it, in SQL.

    `table` is one that the configuration names.
    """

    what: str
    has: sql.Composable
    table: QualifiedName | None = None


def granting_watch(name: str, watch: Watch, to: sql.Identifier) -> str:
    """The GRANTs for a watch."""
    lines = [_UNKNOWN] if watched(watch) is None else []
    for need in _needs(name, watch, _OUR_ROLE):
        grant = render("GRANT {} TO {};", sql.SQL(need.what), to)
        lines.append(grant if need.table is None else own_path.naming(need.table, grant).rstrip())
    return "\n".join(lines)


def missing_grants(name: str, watch: Watch, role: str | None = None) -> str:
    """The query of the GRANTs that a role (None: ours) lacks for a watch; what does not exist, it does not lack."""
    whose = _OUR_ROLE if role is None else sql.Literal(role)
    rows = [composed("({}, {})", need.what, need.has) for need in _needs(name, watch, whose)]
    return composed(_PARTS["missing_grants"], rows=rows, role=whose).as_string()


def _needs(name: str, watch: Watch, role: sql.Composable) -> Iterator[_Need]:
    """What a role needs for a watch."""
    needed, watermark = watched(watch), watch.capture.needs.watermark
    if needed is not None and watermark is not None:
        needed = tuple(dict.fromkeys((*needed, watermark)))
    # Which of the related tables' columns an expression reads, only the server knows.
    for table, columns in [(watch.table, needed or ()), *((each.table, ()) for each in watch.related)]:
        if table.schema is not None:
            yield _schema(table.schema, role)
        part = _PARTS["has_columns" if columns else "has_some_column"]
        has = composed(part, table=own_path.oid_of(table), columns=map(sql.Literal, columns), role=role)
        yield _Need(_on("SELECT", table, columns), has, table)
    if watch.capture.needs.log:
        yield _schema("cdc_sync", role)._replace(what="USAGE ON SCHEMA cdc_sync")
        yield _relation("table", "changes", ("SELECT", "DELETE", "TRUNCATE"), role)
        yield _relation("sequence", BELL, ("SELECT", "UPDATE"), role)
        yield _relation("sequence", missed_of(name), ("SELECT",), role)


def _schema(schema: str, role: sql.Composable) -> _Need:
    return _Need(_usage(schema), composed(_PARTS["has_schema"], schema=schema, role=role))


def _usage(schema: str) -> str:
    return composed("USAGE ON SCHEMA {}", sql.Identifier(schema)).as_string()


def _on(privileges: str, table: QualifiedName, columns: Sequence[str]) -> str:
    which = composed(" ({})", map(sql.Identifier, columns)) if columns else sql.SQL("")
    return composed("{}{} ON {}", sql.SQL(privileges), which, quoted(table)).as_string()


def _relation(kind: Literal["table", "sequence"], name: str, privileges: Sequence[str], role: sql.Composable) -> _Need:
    what = f"{', '.join(privileges)} ON {'SEQUENCE ' if kind == 'sequence' else ''}cdc_sync.{name}"
    each = [composed(f"has_{kind}_privilege({{}}, c.oid, {{}})", role, privilege) for privilege in privileges]
    return _Need(what, composed(_PARTS["has_relation"], name=name, each=sql.SQL(" AND ").join(each)))


def granting(table: QualifiedName, privileges: str, columns: Sequence[str], to: sql.Identifier) -> list[str]:
    """The GRANTs of privileges on a table, or on columns."""
    usage = [] if table.schema is None else [_usage(table.schema)]
    return [render("GRANT {} TO {};", sql.SQL(what), to) for what in (*usage, _on(privileges, table, columns))]


def revokes(config: Config, role: str) -> str:
    """The script that revokes what `grants` gives, so that the role can be dropped."""
    revoked = _of_watches(config, partial(_revoking_watch, role=sql.Identifier(role)))
    end = render(template("revoked.sql"), role=role, counters=among(map(missed_of, config.watches)))
    return f"{_head('revokes.sql', config, role)}{revoked}\n{end}\nCOMMIT;\n"


def _revoking_watch(_: str, watch: Watch, role: sql.Identifier) -> str:
    """The REVOKEs on a watch's tables, also of columns that an earlier configuration named."""
    lines = list[str]()
    for table in tables_of(watch):
        lines.append(own_path.naming(table, render("REVOKE SELECT ON {} FROM {};", quoted(table), role)).rstrip())
        if table.schema is not None:
            lines.append(render("REVOKE USAGE ON SCHEMA {} FROM {};", sql.Identifier(table.schema), role))
    return "\n".join(lines)


def _of_watches(config: Config, statements: Callable[[str, Watch], str]) -> str:
    """Statements for each watch; for tenants that differ by their schema only once, in a loop."""
    loops = {name: of for name in config.templates if (of := by_schema(config, name, statements)) is not None}
    schemas = {name: list[str]() for name in loops}
    script = ""
    for name, watch in config.watches.items():
        kind = name.partition(SEPARATOR)[0]
        schema = loops[kind].schema_of(name) if kind in loops else None
        if schema is None:
            script += f"\n-- Watch {visible(name)}\n{statements(name, watch)}\n"
        else:
            schemas[kind].append(schema)
    for kind, of in loops.items():
        if schemas[kind]:
            script += render(
                template("each_schema.sql"),
                kind=sql.SQL(of.prefix),
                schemas=map(sql.Literal, schemas[kind]),
                statements=sql.SQL(render("$cdc_sync${}$cdc_sync$", sql.SQL(of.script))),
                placeholder=of.placeholder,
            )
    return script

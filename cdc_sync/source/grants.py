"""The least privileges of the role that the daemon runs as: as a script for the DBA, and which of them are missing."""

from collections.abc import Iterator, Sequence

from psycopg import sql

from cdc_sync import rights
from cdc_sync.config import Config, Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.source import expressions
from cdc_sync.source.connection import Connection
from cdc_sync.source.expressions import Dependencies, catalog, columns_of_related, template, watched
from cdc_sync.source.facts import TableFacts, look_up, rows_of
from cdc_sync.source.recorders import bell_of, missed_of, render

_UNTOLD = """\
-- An expression of this watch uses columns that cannot be told from its text: give it depends_on, or
-- write t.column throughout, to get column-level privileges here."""

_UNTOLD_OF_RELATED = """\
-- Which columns of this table the watch's expressions read cannot be told from their text: give it an alias
-- (FROM table alias) and write alias.column throughout, to get column-level privileges here."""

_IF_ROWS_ARE_HIDDEN = """\
-- If the table has row-level security: a row hidden from the daemon looks like a deleted one, so that every
-- deletion waits for a person. Then also:"""


def read_columns(watch: Watch) -> Dependencies:
    """The columns of its table that the daemon reads for a watch."""
    needed, watermark = watched(watch), watch.capture.needs.watermark
    if watermark is None:
        return needed
    return Dependencies(tuple(dict.fromkeys((*needed.columns, watermark))), needed.complete)


def grants(config: Config, role: str) -> str:
    """Column-level SELECT, and in notify mode the right to take the log and to arm the bell; nothing more."""
    to = sql.Identifier(role)
    lines = [render(template("grants.sql").rstrip(), role=sql.Literal(role))]
    for name, watch in config.watches.items():
        lines += ["", f"-- Watch {name}", *_read_grants(watch, to)]
        if ours := _ours(name, watch):
            lines.append(_usage("cdc_sync", to))
            lines += [_on_ours(each, privileges, to) for each, privileges in ours.items()]
    lines += ["", "-- GRANT only warns of what it leaves out.", _block(rights.all_granted(_granted(config, role)))]
    return "\n".join(lines) + "\n"


def revokes(config: Config, role: str) -> str:
    """What takes back all that `grants` gives, so that the role can be dropped."""
    head = template("revokes.sql").replace("{revoked}", _block(rights.take_back(_granted(config, role))))
    policies = (
        render("DROP POLICY cdc_sync ON {};", expressions.table(each.table)) for each in config.watches.values()
    )
    return head + "".join(f"-- {visible(policy)}\n" for policy in policies)


async def missing_grants(connection: Connection, name: str, watch: Watch, table: TableFacts) -> list[str]:
    """The GRANTs that our role lacks for a watch, as SQL; none if it has all.

    Args:
        connection: ours, in a transaction.
        name: the watch's name.
        watch: the watch.
        table: its table.

    Raises:
        psycopg.Error: the catalog cannot be read.
    """
    ((role,),) = await rows_of(connection, "SELECT current_user::text")
    to = sql.Identifier(role)
    lines = list(_lacking(table, read_columns(watch), to))
    for related in watch.related:
        if (seen := await look_up(connection, related.table)) is not None:
            lines += _lacking(seen, columns_of_related(watch, related.table), to)
    if ours := _ours(name, watch):
        for usable, each, held in await rows_of(connection, catalog("privileges_held"), (list(ours),)):
            if not usable:
                lines.append(_usage("cdc_sync", to))
            if each is not None and not set(ours[each].split(", ")) <= set(held):
                lines.append(_on_ours(each, ours[each], to))
    return list(dict.fromkeys(lines))


def whole_table(table: QualifiedName, to: sql.Identifier) -> str:
    """The GRANT that an expression needs whose columns cannot be told from its text."""
    return _select(table, Dependencies((), complete=False), to)


def granting(table: QualifiedName, privileges: str, columns: Sequence[str], to: sql.Identifier) -> list[str]:
    """The GRANTs of privileges on a table, or on some of its columns."""
    usage = [] if table.schema is None else [_usage(table.schema, to)]
    return [*usage, _grant(privileges, expressions.table(table), to, columns)]


def _tables(watch: Watch) -> list[tuple[QualifiedName, Dependencies]]:
    """What is read of tables for a watch: of its own first."""
    related = [(each.table, columns_of_related(watch, each.table)) for each in watch.related]
    return [(watch.table, read_columns(watch)), *related]


def _ours(name: str, watch: Watch) -> dict[str, str]:
    """What a watch needs of the schema cdc_sync, as it stands in GRANT."""
    if not watch.capture.needs.log:
        return {}
    return {"changes": "SELECT, DELETE, TRUNCATE", bell_of(name): "SELECT, UPDATE", missed_of(name): "SELECT"}


def _grant(privileges: str, on: sql.Composable, to: sql.Identifier, columns: Sequence[str] = ()) -> str:
    which = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL("")
    return render(f"GRANT {privileges}{{which}} ON {{on}} TO {{to}};", which=which, on=on, to=to)


def _usage(schema: str, to: sql.Identifier) -> str:
    shown = sql.SQL("cdc_sync") if schema == "cdc_sync" else sql.Identifier(schema)
    return _grant("USAGE", sql.SQL("SCHEMA {}").format(shown), to)


def _on_ours(name: str, privileges: str, to: sql.Identifier) -> str:
    on = sql.SQL("cdc_sync.changes" if name == "changes" else "SEQUENCE cdc_sync.{}").format(sql.Identifier(name))
    return _grant(privileges, on, to)


def _select(table: QualifiedName, needed: Dependencies, to: sql.Identifier) -> str:
    return _grant("SELECT", expressions.table(table), to, needed.columns if needed.complete else ())


def _lacking(table: TableFacts, needed: Dependencies, to: sql.Identifier) -> Iterator[str]:
    if not table.usable:
        yield _usage(table.schema, to)
    lacks = tuple(column for column in needed.columns if column in table.columns and column not in table.readable)
    if lacks or not (needed.complete or table.readable):
        yield _select(table.qualified, Dependencies(lacks, needed.complete), to)


def _block(body: str) -> str:
    return render("DO $cdc_sync$\n{body}\n$cdc_sync$;", body=sql.SQL(body))


def _granted(config: Config, role: str) -> rights.Grants:
    """The same as data."""
    watches = config.watches
    read = [each for watch in watches.values() for each in _tables(watch)]
    ours = [each for name, watch in watches.items() for each in _ours(name, watch).items()]
    schemas = [table.schema for table, _ in read if table.schema is not None] + (["cdc_sync"] if ours else [])
    tables = [(_literal(table.schema), _literal(table.name), _columns(needed)) for table, needed in read]
    return rights.granted(
        _literal(role),
        list(dict.fromkeys(tables)),
        list(dict.fromkeys((_literal(name), _literal(privileges)) for name, privileges in ours)),
        list(map(_literal, dict.fromkeys(schemas))),
    )


def _columns(needed: Dependencies) -> str:
    return f"ARRAY[{', '.join(map(_literal, needed.columns))}]::pg_catalog.name[]" if needed.complete else "NULL"


def _literal(value: str | None) -> str:
    return sql.Literal(value).as_string()


def _read_grants(watch: Watch, to: sql.Identifier) -> Iterator[str]:
    tables = _tables(watch)
    schemas = dict.fromkeys(table.schema for table, _ in tables)
    yield from (_usage(schema, to) for schema in schemas if schema is not None)
    for number, (table, needed) in enumerate(tables):
        if not needed.complete:
            yield _UNTOLD_OF_RELATED if number else _UNTOLD
        yield _select(table, needed, to)
    on = expressions.table(watch.table)
    yield _IF_ROWS_ARE_HIDDEN
    yield f"-- {visible(render('CREATE POLICY cdc_sync ON {} FOR SELECT TO {} USING (true);', on, to))}"

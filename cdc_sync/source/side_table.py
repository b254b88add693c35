"""The side table of HelloWork's ids for an ATS without them: its script, and how it is filled."""

from collections.abc import Sequence
from typing import NamedTuple

import psycopg
import yaml
from psycopg import errors, sql

from cdc_sync import own_path
from cdc_sync.config import Watch
from cdc_sync.core.failures import OperationError
from cdc_sync.core.identifiers import LONGEST, QualifiedName, written
from cdc_sync.core.rows import Key
from cdc_sync.core.visible import visible
from cdc_sync.source import expressions
from cdc_sync.source.connection import Connection, rows_of
from cdc_sync.source.errors import translate
from cdc_sync.source.expressions import Part, SideTable, composed, render, sections, side_table, template
from cdc_sync.source.facts import TableFacts, look_up
from cdc_sync.source.scripts import granting
from cdc_sync.source.statements import id_in_url
from cdc_sync.source.unreadable import columns_of, halved

_SUFFIX = "_hellowork"


class IdTable(NamedTuple):
    """Where a watch has HelloWork's ids, or could have (not `is_configured`), and maybe status URLs."""

    side: SideTable
    url: str | None
    is_configured: bool

    @classmethod
    def of(cls, watch: Watch) -> "IdTable":
        """The table that the watch reads, else the one that it could have."""
        side = side_table(watch, watch.columns.application_id)
        if side is None:
            name = watch.table.name.encode()[: LONGEST - len(_SUFFIX)].decode(errors="ignore") + _SUFFIX
            side = SideTable(QualifiedName(watch.table.schema, name), "hellowork_id", watch.key)
            return cls(side, "status_url", is_configured=False)
        url = side_table(watch, watch.columns.status_url)
        has_url = url is not None and (url.table, url.key) == (side.table, side.key)
        return cls(side, url.column if url is not None and has_url else None, is_configured=True)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the daemon reads."""
        return (*self.side.key, self.side.column, *([] if self.url is None else [self.url]))

    def configuration(self, watch: Watch) -> str:
        """The watch's keys for this table, as YAML."""
        keys = zip(self.side.key, watch.key, strict=True)
        on = " AND ".join(f"h.{written(own)} = t.{written(key)}" for own, key in keys)
        looked_up = "(SELECT h.{column} FROM {table} h WHERE {on})"
        columns = {"application_id": self.side.column, "status_url": self.url}
        document = {
            "columns": {
                field: {
                    "sql": looked_up.format(column=written(column), table=self.side.table, on=on),
                    "depends_on": list(map(written, watch.key)),
                }
                for field, column in columns.items()
                if column is not None
            },
            "related": [{"table": str(self.side.table), "key": list(map(written, self.side.key))}],
        }
        dumped: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None)
        return dumped.rstrip("\n")


def script(watch: Watch, role: str) -> str:
    """The script that creates a watch's side table, for the daemon's role to read."""
    ids = IdTable.of(watch)
    side, watched = ids.side, expressions.table(watch.table)
    writer = sql.Identifier("the_writer")
    url = index = composed("")
    if ids.url is not None:
        column = sql.Identifier(ids.url)
        url = composed("\n        {} text,", column)
        index = composed(
            "\n    EXECUTE pg_catalog.format('CREATE INDEX ON %s (%s)', side, {});", id_in_url(column).as_string()
        )
    rest = render(
        sections("parts.sql")["id_table"],
        value=sql.Identifier(side.column),
        url=url,
        key=map(sql.Identifier, side.key),
    )
    end = render(sections("parts.sql")["id_table_end"], watched_key=map(sql.Identifier, watch.key))
    granted = granting(side.table, "SELECT", ids.columns, sql.Identifier(role))
    made = render(
        template("id_table.sql"),
        side=sql.SQL(visible(str(side.table))),
        watched=sql.SQL(visible(str(watch.table))),
        writer=sql.SQL("\n".join(f"--             {visible(line)}" for line in _to_fill(ids, watch, writer))),
        begin=sql.SQL(own_path.begin([watch.table, side.table])),
        rest=rest,
        end=end,
        index=index,
        side_oid=own_path.oid_of(side.table),
        new_side=own_path.new_name(side.table),
        side_keys=map(sql.Literal, side.key),
        watched_oid=own_path.oid_of(watch.table),
        watched_name=watched.as_string(),
        watched_keys=map(sql.Literal, watch.key),
        grants=sql.SQL(own_path.naming(side.table, "\n".join(granted))),
    )
    if ids.is_configured:
        return made
    wanted = "".join(f"--   {visible(line)}\n" for line in ids.configuration(watch).splitlines())
    return f"{made}\n-- In the watch's configuration, then `cdc-sync sql install` once more in notify mode:\n{wanted}"


def _to_fill(ids: IdTable, watch: Watch, to: sql.Identifier) -> list[str]:
    grants = granting(ids.side.table, "SELECT, INSERT, UPDATE", (), to) + granting(watch.table, "SELECT", watch.key, to)
    return list(dict.fromkeys(grants))


class Link(NamedTuple):
    """An id for a row, maybe with the status URL; `place` is where it stands, as "line 7"."""

    place: str
    key: Key
    application_id: str
    url: str | None = None


class Linked(NamedTuple):
    """How many ids are new, replaced another one (or its URL), or existed already."""

    new: int
    changed: int
    unchanged: int


async def link(connection: Connection, watch: Watch, links: Sequence[Link], *, replace: bool) -> Linked:
    """Put ids, of different rows, into the side table that the watch reads: all of them or none.

    With `replace` a row's other id is replaced. Raises `OperationError` with each wrong link.
    """
    ids = IdTable.of(watch)
    if not links:
        return Linked(0, 0, 0)
    try:
        async with connection.transaction():
            await connection.execute(sections("link.sql")["patience"].encode())
            side, watched = [await _looked_up(connection, table) for table in (ids.side.table, watch.table)]
            types = [expressions.fragment(watched.columns[column]) for column in watch.key]
            await _insist_on_convertible(connection, links, types, expressions.fragment(side.columns[ids.side.column]))
            parts = _parts(ids, side, watched, watch.key, types)
            given = list(map(list, zip(*((*each.key, each.application_id, each.url) for each in links), strict=True)))
            wrong = await rows_of(connection, _statement("wrong", parts), [*given, *given, replace])
            if problems := [_problem(links[place - 1], watch, *found) for place, *found in wrong]:
                raise OperationError(as_message(problems))
            await connection.execute(_statement("set_aside", parts), [*given, given[-2]])
            statement = _statement("link" if ids.url is None else "link_with_url", parts)
            written_ = await rows_of(connection, statement, given)
    except psycopg.Error as error:
        raise _refused(error, connection, ids, watch) from error
    new = sum(is_new for (is_new,) in written_)
    return Linked(new, len(written_) - new, len(links) - len(written_))


def _statement(name: str, parts: dict[str, Part]) -> sql.Composed:
    return composed(sections("link.sql")[name], **parts)


def as_message(problems: Sequence[str]) -> str:
    """Problems as one message, the first ones if they are many."""
    most = 20
    more = [f"… and {len(problems) - most} more"] if len(problems) > most else []
    return "\n  ".join(["nothing was changed:", *problems[:most], *more])


async def _looked_up(connection: Connection, table: QualifiedName) -> TableFacts:
    found = await look_up(connection, table)
    if found is None:
        raise OperationError(
            f"There is no table {visible(str(table))} in this database. A side table is made by what `cdc-sync sql "
            f"id-table` prints; correct the watch's configuration or the connection if it is another one."
        )
    return found


async def _insist_on_convertible(
    connection: Connection, links: Sequence[Link], keys: Sequence[sql.Composable], id_: sql.Composable
) -> None:
    query = composed("SELECT {}", [composed("%s::text[]::{}[]", type_) for type_ in (*keys, id_)])
    by_value = {(*each.key, each.application_id): each for each in links}

    async def ask(some: Sequence[Key]) -> bool | None:
        try:
            async with connection.transaction():
                await connection.execute(query, columns_of(some))
        except psycopg.DataError:
            return None
        return True

    _, wrong = await halved(list(by_value), ask)
    if wrong:
        kinds, of_id = ", ".join(type_.as_string() for type_ in keys), id_.as_string()
        links = [by_value[value] for value in wrong]
        rows = ((each.place, "/".join(each.key), each.application_id) for each in links)
        raise OperationError(
            as_message(
                [f"{place}: the key {key} is no {kinds}, or the id {id_!r} no {of_id}" for place, key, id_ in rows]
            )
        )


def _parts(
    ids: IdTable, side: TableFacts, watched: TableFacts, key: Sequence[str], types: Sequence[sql.Composable]
) -> dict[str, Part]:
    def of(alias: str, columns: Sequence[str], cast: str = "") -> list[sql.Composed]:
        return [composed(f"{alias}.{{}}{cast}", expressions.name(column)) for column in columns]

    names = [sql.Identifier(f"k{number}") for number in range(len(key))]
    return {
        "names": names,
        "lists": [sql.SQL("%s::text[]")] * (len(key) + 2),
        "values": [composed("given.{}::{}", name, type_) for name, type_ in zip(names, types, strict=True)],
        "watched": expressions.name(watched.schema, watched.name),
        "watched_key": of("t", key),
        "first": expressions.name(key[0]),
        "equals": expressions.operator("=", expressions.common_schema(watched.operators[column] for column in key)),
        "side": expressions.name(side.schema, side.name),
        "key": list(map(expressions.name, ids.side.key)),
        "own_key": of("own", ids.side.key),
        "side_key": of("s", ids.side.key),
        "key_texts": of("s", ids.side.key, "::text"),
        "value": expressions.name(ids.side.column),
        "type": expressions.fragment(side.columns[ids.side.column]),
        "url": expressions.name(ids.url or ""),
    }


def _problem(link: Link, watch: Watch, is_there: bool, others: Sequence[str] | None, former: str | None) -> str:  # noqa: FBT001 - a row of the statement
    key = "/".join(link.key)
    if not is_there:
        return f"{link.place}: {watch.table} has no row with the key {key}"
    if others is not None:
        return f"{link.place}: the id {link.application_id!r} is that of the row {'/'.join(others)}"
    return (
        f"{link.place}: the row {key} has the id {former!r}. If that is wrong: --replace, and then HelloWork is sent "
        f"that {former!r} is deleted"
    )


_AT_THIS_MOMENT = (
    "Nothing was changed: another session has put one of these ids in, or has deleted a row, at this very moment "
    "({why}). Run the command again."
)
_REFUSALS: dict[type[psycopg.Error], str] = {
    errors.InsufficientPrivilege: "The role {user} may not fill {side}: {why}. Nothing was changed. Name the login of "
    "the table's owner with --dsn; or that of a role which fills it, not the daemon's, after:\n{grants}",
    errors.LockNotAvailable: "Nothing was changed: a transaction of the ATS holds one of the rows, or a lock on the "
    "table. Run the command again in a moment.",
    errors.CardinalityViolation: "Nothing was changed: two of the keys are of one row, which is written in two ways.",
    errors.InvalidColumnReference: "{side} has no primary key. `cdc-sync check` shows the repair.",
    errors.UniqueViolation: _AT_THIS_MOMENT,
    errors.ForeignKeyViolation: _AT_THIS_MOMENT,
}


def _refused(error: psycopg.Error, connection: Connection, ids: IdTable, watch: Watch) -> OperationError:
    side, user = ids.side.table, connection.info.user
    if (text := _REFUSALS.get(type(error))) is None:
        return translate(error, f"filling {side}")
    grants = "\n".join(_to_fill(ids, watch, sql.Identifier(user)))
    return OperationError(text.format(user=user, side=side, why=error.diag.message_primary, grants=grants))

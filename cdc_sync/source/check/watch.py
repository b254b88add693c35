"""One watch: its table, columns and types, key, privileges, policies, indexes, triggers.

What builds on what failed is left out: of a table that does not exist there is nothing more to tell.

Of indexes the planner tells, which is asked about the daemon's own statements. Nothing is executed: EXPLAIN alone
plans. Sequential scans and sorts are forbidden while it does, so that the answer is about the indexes that there are,
and not about the size that the table has today.
"""

import json
from collections.abc import Awaitable, Callable, Collection
from difflib import get_close_matches
from typing import Any, TypeVar

from psycopg import errors, sql

from cdc_sync.config import Config, PlainColumn, Watch
from cdc_sync.core import query_plan
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.core.identifiers import written
from cdc_sync.core.query_plan import Plan
from cdc_sync.source import expressions, row_security
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import TableFacts, asking_shortly, look_up, rows_of, table_facts
from cdc_sync.source.grants import missing_grants, read_columns, whole_table
from cdc_sync.source.mapping import Mapping, check_time_zone
from cdc_sync.source.polling import watermark_type
from cdc_sync.source.recorders import PARTITIONED_SINCE, render, untriggered
from cdc_sync.source.scripts import verify, verify_watches
from cdc_sync.source.session import is_worked
from cdc_sync.source.statements import Statements, id_in_url
from cdc_sync.source.triggers import Verified, installation, verified

T = TypeVar("T")

_PARTITIONED, _TABLES = "p", "rp"

_HOLDERS = """\
SELECT a.pid, a.usename, a.state, a.xact_start FROM pg_stat_activity a
 WHERE EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.mode = 'AccessExclusiveLock');"""
"""The query that tells who holds a lock that keeps readers out."""

_ONLY_BY_INDEX = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off
"""

_LEADING = """
SELECT c.relname::text, CASE WHEN i.indkey[0] > 0 THEN pg_catalog.pg_get_indexdef(c.oid, 1, false) END
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
 WHERE c.relname::text = ANY (%s)
"""

# Partitions of partitions, which have none of their own either, are looked through.
_ON_EACH_PARTITION = sql.SQL("""DO $cdc_sync$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        WITH RECURSIVE parts (part) AS (
            SELECT {table}::regclass::oid
            UNION ALL
            SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.part
        )
        SELECT c.oid FROM parts p JOIN pg_class c ON c.oid = p.part WHERE c.relkind = 'r'
    LOOP
        EXECUTE 'CREATE INDEX ON ' || part || {columns};
    END LOOP;
END
$cdc_sync$;""")

_INSTALL = """\
cdc-sync sql install > install.sql   # read it, then run it as the tables' owner:
psql -v ON_ERROR_STOP=1 -f install.sql"""

_ON_EXPRESSION = (
    "Create an index on the expression, cast to text and without `t.`, if all its functions are IMMUTABLE; or keep the "
    "value in a column of its own, with an index."
)

_BIG = 10_000
"""Rows, by the planner's estimate, from which on reading all of them every few seconds is a burden."""


async def check_watch(connection: Connection, name: str, watch: Watch, tell: Tell) -> None:
    """Tell of a watch, one precondition after the other."""
    one = _Watch(connection, name, watch, tell)
    await one.check_time_zone()
    table = await one.check_table()
    if table is None:
        return
    await one.check_related()
    complete = one.check_columns(table)
    one.check_key(table)
    allowed = await one.check_privileges(table)
    if complete and allowed:
        mapping = await one.check_types(table)
        if mapping is not None:
            await one.check_policies(mapping)
            await one.check_indexes(mapping)
    if watch.capture.mode == "notify":
        await one.check_triggers(table)


async def check_left_over(connection: Connection, config: Config, tell: Tell) -> None:
    """Tell of triggers of watches that this configuration does not have in notify mode.

    They may be another installation's; if they are nobody's, they go on filling the log.
    """
    try:
        async with asking_shortly(connection, "looking for the triggers"):
            found = await verified(connection, verify(config))
            names = [
                each.function.removeprefix("record_") for each in found if each.state == "left over" and each.function
            ]
            watches = list(dict.fromkeys(name.partition("$")[0] for name in names))
            worked = {watch: await is_worked(connection, watch) for watch in watches}
    except SourceError as error:
        tell(Finding("left-over", "failed", error.message, "cdc-sync sql verify --apply"))
        return
    for watch, is_at_work in worked.items():
        remove = f"cdc-sync sql uninstall --watch {watch} > uninstall.sql   # read it, then run it as the tables' owner"
        message = f"there are triggers of a watch {watch}, which is not in this configuration"
        if watch in config.watches:
            message = f"triggers of the watch {watch}, which is in capture.mode poll, go on recording changes that "
            tell(Finding("left-over", "warning", f"{message}nobody takes", remove))
        elif is_at_work:
            message = f"{message}; a daemon works it now, so they are another installation's"
            tell(Finding("left-over", "ok", message))
        else:
            message = f"{message}; no daemon works it now, and what they record stays in the log"
            start = "If the watch is another installation's: start its daemon. If it is nobody's any more:"
            tell(Finding("left-over", "warning", message, f"{start}\n{remove}"))
    if not worked:
        tell(Finding("left-over", "ok", "no triggers of other watches"))


class _Watch:
    def __init__(self, connection: Connection, name: str, watch: Watch, tell: Tell) -> None:
        self._connection = connection
        self._version = connection.info.server_version
        self._name = name
        self._watch = watch
        self._tell_all = tell

    def _tell(self, check: str, state: State, message: str, remedy: str | None = None) -> None:
        self._tell_all(Finding(check, state, message, remedy, self._name))

    async def _asked(
        self, check: str, doing: str, asked: Callable[[], Awaitable[T]], remedy: str | None = None
    ) -> T | None:
        """What is asked; None if that fails, which is told, with what to look at."""
        try:
            async with asking_shortly(self._connection, doing):
                return await asked()
        except SourceError as error:
            look = f"\\d {self._watch.table}   -- in psql: the columns and their types"
            if error.code == "table-locked":
                look = _HOLDERS
            if check == "columns" and isinstance(error.__cause__, errors.InsufficientPrivilege):
                look = whole_table(self._watch.table, sql.Identifier(self._connection.info.user))
            self._tell(check, "failed", error.message, remedy or look)
        return None

    async def check_time_zone(self) -> None:
        zone = self._watch.timezone

        async def asked() -> bool:
            await check_time_zone(self._connection, zone)
            return True

        similar = render(
            "SELECT name FROM pg_timezone_names WHERE name ILIKE {};", sql.Literal(f"%{zone.rpartition('/')[2]}%")
        )
        if await self._asked("timezone", "looking up the time zone", asked, similar):
            self._tell("timezone", "ok", f"the server knows the time zone {zone}")

    async def check_table(self) -> TableFacts | None:
        table = self._watch.table
        doing, remedy = f"looking up the table {table}", _tables_named(table.name)
        found = await self._asked("table", doing, lambda: table_facts(self._connection, table), remedy)
        if found is not None:
            self._tell("table", "ok", f"{found.qualified} is there")
        return found

    async def check_related(self) -> None:
        for related in self._watch.related:
            async with asking_shortly(self._connection, f"looking up the table {related.table}"):
                seen = await look_up(self._connection, related.table)
            missing = [] if seen is None else [name for name in related.key if name not in seen.columns]
            if seen is None:
                message = f"the related table {related.table} does not exist"
                self._tell("related", "failed", message, _tables_named(related.table.name))
            elif missing:
                self._tell("related", "failed", *_no_such_column(missing, seen, f"related ({related.table}): key"))
            else:
                self._tell("related", "ok", f"{related.table} is there")

    def check_columns(self, table: TableFacts) -> bool:
        """Whether every column is there that is named."""
        capture = self._watch.capture
        named = {f"key[{number}]": column for number, column in enumerate(self._watch.key)}
        for place, mapped in expressions.mapped(self._watch).items():
            if isinstance(mapped, PlainColumn):
                named[place if place.startswith("extra.") else f"columns.{place}"] = mapped.name
        if capture.mode == "poll" and capture.watermark is not None:
            named["capture.watermark"] = capture.watermark
        named |= {
            f"{column}, which an expression uses,": column
            for column in read_columns(self._watch).columns
            if column not in named.values()
        }
        missing = {place: column for place, column in named.items() if column not in table.columns}
        if missing:
            said = ", ".join(f"{place}: {written(column)}" for place, column in missing.items())
            self._tell("columns", "failed", *_no_such_column(missing.values(), table, said))
        return not missing

    def check_key(self, table: TableFacts) -> None:
        key = self._watch.key
        if not set(key) <= set(table.columns):
            return  # said already
        shown, names = str(table.qualified), ", ".join(map(written, key))
        doubles = render(
            "SELECT {key}, count(*) FROM {table} GROUP BY {key} HAVING count(*) > 1 LIMIT 10;",
            key=sql.SQL(", ").join(map(sql.Identifier, key)),
            table=expressions.table(table.qualified),
        )
        nullable = [name for name in key if name not in table.not_null]
        if table.kind not in _TABLES:
            self._tell("key", "warning", f"{shown} is no table, so whether its key is unique cannot be told", doubles)
        elif table.kind == _PARTITIONED and self._version < PARTITIONED_SINCE:
            message = f"before PostgreSQL 11 nothing can make the key of a partitioned table unique, as {shown} is"
            self._tell("key", "warning", message, doubles)
        elif not any(unique <= set(key) for unique in table.unique):
            self._tell(
                "key",
                "failed",
                f"nothing makes the key ({names}) unique: of two rows with the same one, one may not be seen",
                f"CREATE UNIQUE INDEX{'' if table.kind == _PARTITIONED else ' CONCURRENTLY'} ON {shown} ({names});\n"
                f"-- if that fails, these are there twice:\n{doubles}",
            )
        elif nullable:
            self._tell(
                "key",
                "warning",
                f"the key's {', '.join(map(written, nullable))} may be NULL, and rows where it is are not seen",
                "\n".join(f"ALTER TABLE {shown} ALTER COLUMN {written(name)} SET NOT NULL;" for name in nullable),
            )
        else:
            self._tell("key", "ok", f"the key ({names}) is unique and never NULL")

    async def check_privileges(self, table: TableFacts) -> bool:
        """Whether we may read the table and its schema: what the daemon has of its own is another matter."""
        missing = await self._asked(
            "privileges",
            "looking up privileges",
            lambda: missing_grants(self._connection, self._name, self._watch, table),
        )
        if missing:
            self._tell("privileges", "failed", f"the role lacks {len(missing)} privilege(s)", "\n".join(missing))
        elif missing is not None:
            self._tell("privileges", "ok", "the role has what it needs")
        ours = ("cdc_sync.", "GRANT USAGE ON SCHEMA cdc_sync ")
        return missing is not None and all(any(part in line for part in ours) for line in missing)

    async def check_types(self, table: TableFacts) -> Mapping | None:
        """The mapping, if the daemon could read the table through it."""
        mapping = await self._asked(
            "columns",
            f"preparing to read {self._watch.table}",
            lambda: Mapping.prepare(self._connection, self._watch, table),
        )
        if mapping is not None:
            message = f"every mapped column is there, of a type that fits (the table has {len(table.columns)})"
            self._tell("columns", "ok", message)
        return mapping

    async def check_policies(self, mapping: Mapping) -> None:
        async def asked() -> tuple[row_security.Hiding, ...]:
            # What the statement touches is locked by it, by which the policies are found.
            await self._connection.execute(Statements(mapping).first_page, [0])
            return await row_security.hiding(self._connection)

        found = await self._asked("row-security", f"reading no rows of {self._watch.table}", asked)
        if found:
            remedy = "\n".join(one.script for one in found)
            self._tell("row-security", "failed", row_security.warning(found), remedy)
        elif found is not None:
            self._tell("row-security", "ok", "no policy hides rows from the role")

    async def check_indexes(self, mapping: Mapping) -> None:
        """Tell of each way in which the daemon looks for rows whether an index serves it."""
        statements, columns, capture = Statements(mapping), self._watch.columns, self._watch.capture

        async def check(name: str, what: str, without: str, on: sql.Composable | None, query: sql.Composable) -> None:
            # Of lists, one of NULL is of every type, and unlike an empty one leaves the planner something to look for.
            value = {"key-index": 1000, "application-id-index": [None], "watermark-index": "infinity"}[name]
            served = await self._asked("indexes", "asking how rows would be found", lambda: self._serves(query, value))
            if served:
                self._tell(name, "ok", f"{what}, and an index serves that")
            elif served is not None:
                rows = mapping.facts.estimate
                state: State = "failed" if name == "watermark-index" and rows >= _BIG else "warning"
                message = f"{what}, and no index serves that: {without} (of about {rows} rows now)"
                self._tell(name, state, message, self._index(mapping.facts, on))

        def where(condition: sql.Composable | None) -> sql.Composed:
            # Bare: an order that is asked for as well could be had by another index, at the cost of reading it all.
            return sql.SQL("SELECT FROM {} WHERE {}").format(mapping.table, condition)

        await check(
            "key-index",
            "a sweep reads the table in pages, in the key's order",
            "each page sorts the whole table",
            sql.SQL(", ").join(map(sql.Identifier, self._watch.key)),
            statements.first_page,
        )
        by, mapped, given = "its id", columns.application_id, statements.id_is_given
        if given is None:
            by, mapped, given = "the id in its status URL", columns.status_url, statements.url_is_given
        on: sql.Composable | None = sql.Identifier(mapped.name) if isinstance(mapped, PlainColumn) else None
        await check(
            "application-id-index",
            f"an application's rows are looked for by {by}",
            "each such look reads the whole table, and a change may take one",
            id_in_url(on) if on is not None and statements.id_is_given is None else on,
            where(given),
        )
        if capture.mode == "poll" and capture.watermark is not None:
            mark, type_ = expressions.column(capture.watermark), watermark_type(mapping, capture.watermark)
            await check(
                "watermark-index",
                f"changed rows are looked for by {written(capture.watermark)}",
                f"the whole table is read every {capture.poll_interval.total_seconds():g} s",
                sql.Identifier(capture.watermark),
                where(sql.SQL("{} >= %s::{}").format(mark, sql.SQL(type_))),
            )

    async def _serves(self, query: sql.Composable, value: Any) -> bool:
        """Whether an index serves a query: its condition, or of a page its order."""
        await self._connection.execute(_ONLY_BY_INDEX)
        explain = sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query)
        ((answer,),) = await rows_of(self._connection, explain, [value])
        plan: Plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
        if isinstance(value, int):
            return query_plan.is_in_order(plan)
        return query_plan.seeks(plan, dict(await rows_of(self._connection, _LEADING, [list(query_plan.indexes(plan))])))

    def _index(self, facts: TableFacts, on: sql.Composable | None) -> str:
        """How an index is made that serves."""
        table = sql.Identifier(facts.schema, facts.name)
        if facts.kind not in _TABLES:
            return f"{table.as_string()} is no table: let its owner create the index on the table beneath it."
        if on is None:
            return _ON_EXPRESSION
        if facts.kind == _PARTITIONED and self._version < PARTITIONED_SINCE:
            columns = sql.Literal(sql.SQL(" ({})").format(on).as_string())
            return _ON_EACH_PARTITION.format(table=sql.Literal(table.as_string()), columns=columns).as_string()
        # On a partitioned table as a whole PostgreSQL builds no index concurrently.
        how = sql.SQL("" if facts.kind == _PARTITIONED else " CONCURRENTLY")
        return sql.SQL("CREATE INDEX{} ON {} ({});").format(how, table, on).as_string()

    async def check_triggers(self, table: TableFacts) -> None:
        never = untriggered(table.kind, self._version)
        if never is not None:
            self._tell("triggers", "failed", f"{table.qualified} {never.reason}", never.remedy)
            return

        async def asked() -> tuple[list[Verified], list[str]]:
            found = await verified(self._connection, verify_watches({self._name: self._watch}))
            return found, list((await installation(self._connection, self._name, self._watch)).problems)

        told = await self._asked("triggers", "looking for the triggers", asked)
        if told is None:
            return
        found, wrong = told
        for state, what in (
            ("exposed", "another role has rights by which it could act as their owner"),
            ("unreadable", "pg_dump by the owner of a watched table fails"),
        ):
            if of_state := sorted(f"{each.table}: {each.name}" for each in found if each.state == state):
                wrong.append(f"{what} ({'; '.join(of_state)})")
        remedy = _INSTALL
        amiss = [each for each in found if each.state not in {"ok", "left over"}]
        if amiss and all(each.state == "disabled" for each in amiss):
            always = "ALWAYS " if self._watch.capture.replicated else ""
            remedy = "\n".join(
                f"ALTER TABLE {each.table} ENABLE {always}TRIGGER {written(each.name)};" for each in amiss
            )
        if wrong:
            self._tell("triggers", "failed", "; ".join(wrong), remedy)
        else:
            self._tell("triggers", "ok", "the triggers are there, fire, and are what this version installs")


def _no_such_column(missing: Collection[str], table: TableFacts, said: str) -> tuple[str, str]:
    close = {name: get_close_matches(name, table.columns, n=1) for name in missing}
    hints = [f"{written(name)} → {written(similar[0])}" for name, similar in close.items() if similar]
    message = f"{table.qualified} has no such column ({said}); it has {', '.join(map(written, table.columns))}"
    return message, f"Correct the watch: {', '.join(hints)}?" if hints else "Correct the names in the watch."


def _tables_named(name: str) -> str:
    query = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name ILIKE {};"
    return render(query, sql.Literal(f"%{name}%"))

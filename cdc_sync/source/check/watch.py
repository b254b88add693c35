"""One watch: its table, columns and types, key, privileges, policies, indexes, triggers.

What builds on what failed is left out: of a table that does not exist there is nothing more to tell.

Of indexes the planner tells, which is asked about the daemon's own statements. Nothing is executed: EXPLAIN alone
plans. Sequential scans and sorts are forbidden while it does, so that the answer is about the indexes that there are,
and not about the size that the table has today.
"""

import json
from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

from psycopg import errors, sql

from cdc_sync.config import Config, SqlColumn, Watch, first
from cdc_sync.config.watch import Related, bare_column
from cdc_sync.core import query_plan
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.core.guessing import Column, propose
from cdc_sync.core.hellowork_statuses import is_bare_number
from cdc_sync.core.identifiers import written
from cdc_sync.core.query_plan import Plan
from cdc_sync.source import expressions, row_security
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import SourceError
from cdc_sync.source.expressions import SideTable, catalog, sections
from cdc_sync.source.facts import TableFacts, asking_shortly, look_up, rows_of, table_facts
from cdc_sync.source.grants import missing_grants, whole_table
from cdc_sync.source.mapping import Mapping, check_time_zone
from cdc_sync.source.polling import watermark_type
from cdc_sync.source.recorders import PARTITIONED_SINCE, render, untriggered
from cdc_sync.source.scripts import verify, verify_watches
from cdc_sync.source.session import is_worked
from cdc_sync.source.statements import Statements, id_in_url, in_side_table, is_given_url
from cdc_sync.source.survey import survey
from cdc_sync.source.triggers import installation, verified

_PARTITIONED, _TABLES = "p", "rp"

_GRANTS = "cdc-sync sql grants > grants.sql   # read it, then run it as the tables' owner"
_REFERRED_SINCE = 120000
"""The first version in which a foreign key may lead to a partitioned table."""

_HOLDERS = """\
SELECT a.pid, a.usename, a.state, a.xact_start FROM pg_stat_activity a
 WHERE EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.mode = 'AccessExclusiveLock');"""
"""The query that tells who holds a lock that keeps readers out."""

_ONLY_BY_INDEX = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off
"""


_INSTALL = """\
cdc-sync sql install > install.sql   # read it, then run it as the tables' owner:
psql -v ON_ERROR_STOP=1 -f install.sql"""

_ON_EXPRESSION = (
    "Create an index on the expression, cast to text and without `t.`, if all its functions are IMMUTABLE; or keep the "
    "value in a column of its own, with an index."
)

_BIG = 10_000
"""Rows, by the planner's estimate, from which on reading all of them every few seconds is a burden."""


class PreconditionError(Exception):
    """A precondition does not hold.

    Attributes:
        message: what was found.
        remedy: what to do.
        state: how bad it is.
    """

    def __init__(self, message: str, remedy: str, state: State = "failed") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.state: State = state


Question = Callable[[], Awaitable[str]]
"""Returns what is well, nothing if that is not worth a finding.

Raises:
    PreconditionError: it is not.
    SourceError: the database cannot answer.
"""


async def tell_of(
    tell: Tell, check: str, question: Question, watch: str | None = None, look: str | None = None
) -> bool:
    """Ask, and tell the answer; returns whether the precondition holds.

    Args:
        tell: takes the finding.
        check: the check's name.
        question: the question.
        watch: the watch that it is about.
        look: what to look at if the database cannot answer; None if that ends all.
    """
    try:
        well = await question()
    except PreconditionError as error:
        tell(Finding(check, error.state, error.message, error.remedy, watch))
        return False
    except SourceError as error:
        if look is None:
            raise
        known = {"table-locked": _HOLDERS, "privilege-missing": _GRANTS}
        tell(Finding(check, "failed", error.message, known.get(error.code, look), watch))
        return False
    if well:
        tell(Finding(check, "ok", well, None, watch))
    return True


async def check_watch(connection: Connection, name: str, watch: Watch, tell: Tell) -> None:
    """Tell of a watch, one precondition after the other."""
    one = _Watch(connection, name, watch)
    columns = f"\\d {watch.table}   -- in psql: the columns and their types"

    async def holds(check: str, doing: str, question: Question, look: str = "") -> bool:
        async def asked() -> str:
            async with asking_shortly(connection, doing):
                return await question()

        return await tell_of(tell, check, asked, name, look or columns)

    looking, zones = f"looking up the table {watch.table}", "SELECT name FROM pg_timezone_names WHERE name ILIKE {};"
    similar = render(zones, sql.Literal(f"%{watch.timezone.rpartition('/')[2]}%"))
    await holds("timezone", "looking up the time zone", one.time_zone, similar)
    if not await holds("table", looking, one.look_up, _tables_named(watch.table.name)):
        return
    for related in watch.related:
        await holds("related", f"looking up the table {related.table}", partial(one.related, related))
    complete = await holds("columns", looking, one.columns)
    await tell_of(tell, "status", one.status, name, columns)
    await holds("key", looking, one.key)
    await holds("privileges", "looking up privileges", one.privileges)
    if complete and one.may_read and await holds("columns", f"preparing to read {watch.table}", one.types):
        await holds("row-security", f"reading no rows of {watch.table}", one.policies)
        explaining = "asking how rows would be found"
        await holds("key-index", explaining, one.key_index)
        await holds("application-id-index", explaining, one.id_index)
        if (watermark := watch.capture.needs.watermark) is not None:
            await holds("watermark-index", explaining, partial(one.watermark_index, watermark))
    # With other columns than the watch's they would be taken for edited ones.
    if watch.capture.needs.log and complete:
        await holds("triggers", "looking for the triggers", one.triggers)


async def check_left_over(connection: Connection, config: Config, tell: Tell) -> None:
    """Tell of triggers of watches that this configuration does not have in notify mode.

    They may be another installation's; if they are nobody's, they go on filling the log.
    """
    worked: dict[str, bool] = {}

    async def asked() -> str:
        async with asking_shortly(connection, "looking for the triggers"):
            for each in await verified(connection, verify(config)):
                if each.state == "left over" and each.function:
                    watch = each.function.removeprefix("record_").partition("$")[0]
                    worked[watch] = worked.get(watch) or await is_worked(connection, watch)
        return "" if worked else "no triggers of other watches"

    async def of(watch: str) -> str:
        remove = f"cdc-sync sql uninstall --watch {watch} > uninstall.sql   # read it, then run it as the tables' owner"
        if watch in config.watches:
            polled = (
                f"triggers of the watch {watch}, which is in capture.mode poll, go on recording changes that nobody"
            )
            raise PreconditionError(f"{polled} takes", remove, "warning")
        theirs = f"there are triggers of a watch {watch}, which is not in this configuration"
        if worked[watch]:
            return f"{theirs}; a daemon works it now, so they are another installation's"
        start = "If the watch is another installation's: start its daemon. If it is nobody's any more:"
        resting = f"{theirs}; no daemon works it now, and what they record stays in the log"
        raise PreconditionError(resting, f"{start}\n{remove}", "warning")

    await tell_of(tell, "left-over", asked, look="cdc-sync sql verify --apply")
    for watch in worked:
        await tell_of(tell, "left-over", partial(of, watch))


class _Watch:
    """The questions about a watch. Each relies on the ones before it."""

    facts: TableFacts
    mapping: Mapping
    may_read = False

    def __init__(self, connection: Connection, name: str, watch: Watch) -> None:
        self._connection = connection
        self._version = connection.info.server_version
        self._name = name
        self._watch = watch

    async def time_zone(self) -> str:
        await check_time_zone(self._connection, self._watch.timezone)
        return f"the server knows the time zone {self._watch.timezone}"

    async def look_up(self) -> str:
        self.facts = await table_facts(self._connection, self._watch.table)
        return f"{self.facts.qualified} is there"

    async def related(self, related: Related) -> str:
        seen = await look_up(self._connection, related.table)
        if seen is None:
            remedy = _tables_named(related.table.name)
            raise PreconditionError(f"the related table {related.table} does not exist", remedy)
        _insist_on_columns([(f"related ({related.table}): key", column) for column in related.key], seen)
        columns = self._watch.columns
        for mapped in (columns.application_id, columns.status_url):
            side = expressions.side_table(self._watch, mapped)
            if side is not None and side.is_named(related.table):
                await self._side_table(side, seen)
        return f"{related.table} is there"

    async def _side_table(self, side: SideTable, seen: TableFacts) -> None:
        """Whether a row has one id at most, which goes with it."""
        _insist_on_columns([(f"related ({side.table})", column) for column in (*side.key, side.column)], seen)
        shown, watched = seen.qualified, self.facts.qualified
        if not any(unique <= set(side.key) for unique in seen.unique):
            raise PreconditionError(
                f"nothing makes the key of {shown} unique: a second id of one row keeps it from being read",
                _making_unique(seen, side.key, "" if seen.kind == _PARTITIONED else " CONCURRENTLY"),
            )
        if self.facts.kind not in _TABLES or (self.facts.kind == _PARTITIONED and self._version < _REFERRED_SINCE):
            return  # no foreign key can lead to it
        names = [seen.schema, seen.name, self.facts.schema, self.facts.name]
        keys = await rows_of(self._connection, catalog("foreign_keys"), names)
        found = {name: action for name, action, columns in keys if set(columns) == set(side.key)}
        if "c" in found.values():
            return
        drop = sql.SQL("").join(sql.SQL("DROP CONSTRAINT {}, ").format(sql.Identifier(name)) for name in found)
        remedy = render(
            sections("parts.sql")["cascade"],
            side=expressions.table(shown),
            key=sql.SQL(", ").join(map(sql.Identifier, side.key)),
            watched=expressions.table(watched),
            watched_key=sql.SQL(", ").join(map(sql.Identifier, self._watch.key)),
            drop=drop,
        )
        if {"a", "r"} & set(found.values()):
            raise PreconditionError(f"{shown} keeps the ATS from deleting a row of {watched} that has an id", remedy)
        lost = "a deletion in two steps may be lost, and a key that is used again brings another application's id"
        raise PreconditionError(f"what is deleted from {watched} stays in {shown}: {lost}", remedy, "warning")

    async def columns(self) -> str:
        """Whether every column is there that is named."""
        named = [(f"key[{number}]", column) for number, column in enumerate(self._watch.key)]
        for name, mapped in expressions.mapped(self._watch).items():
            place = name if name.startswith("extra.") else f"columns.{name}"
            named += [(place, column) for column in expressions.columns_of(mapped).columns]
        named += [("where", column) for column in expressions.columns_in(self._watch.where or "").columns]
        if (watermark := self._watch.capture.needs.watermark) is not None:
            named.append(("capture.watermark", watermark))
        _insist_on_columns(named, self.facts)
        return ""

    async def status(self) -> str:
        """Whether HelloWork would receive a label: a number, or another table's key, means nothing to it."""
        column, table = bare_column(self._watch.columns.status), self.facts
        if column is None or column not in table.columns:
            return ""
        labels = filter(str.strip, self._watch.status.map)
        kind = Column(column, table.columns[column]).kind
        is_number = kind in {"number", "uuid"}
        if any(kind != "number" or is_bare_number(label) for label in labels):
            if is_number and self._watch.status.unmapped == "send":
                raise PreconditionError(
                    f"values of {written(column)}, of type {table.columns[column]}, that status.map does not have are "
                    "sent as they are, and are no labels",
                    "Map each value in status.map, and write status.unmapped: reject for any that is new.",
                    "warning",
                )
            return f"status.map translates {written(column)}" if is_number else ""
        if not is_number and column not in await self._references():
            return ""
        seen = await survey(self._connection)
        own = next((one for one in seen.tables if one.name == table.qualified), None)
        guess = propose(own, seen.tables, {"status": column}).guesses["status"] if own is not None else None
        by_map = 'map each value in status.map, such as {"1": "Reçue"}'
        if guess is None or guess.related is None:
            if not is_number:
                return ""  # its values are all that there is to read
            remedy = f"Read the label from its table by an expression (columns.status.sql), or {by_map}."
        else:
            entry = first.related(str(guess.related))
            remedy = f"columns:\n  {first.mapped('status', guess)}\nrelated:\n  - {entry}\n# or {by_map}"
        what = f"of type {table.columns[column]}" if is_number else "another table's key"
        message = f"the status, {written(column)}, is {what}: HelloWork would receive it as it is, and no label"
        raise PreconditionError(message, remedy, "failed" if is_number else "warning")

    async def _references(self) -> set[str]:
        """The columns that are foreign keys."""
        table = {"name": self.facts.name, "schema": self.facts.schema}
        async with asking_shortly(self._connection, "looking up foreign keys"):
            oids = [oid for oid, *_ in await rows_of(self._connection, catalog("relation"), table)]
            found = await rows_of(self._connection, catalog("references"), {"tables": oids})
        return {name for _, name, *_ in found}

    async def key(self) -> str:
        key, table = self._watch.key, self.facts
        if not set(key) <= set(table.columns):
            return ""  # said already
        shown, names = str(table.qualified), ", ".join(map(written, key))
        doubles = _doubles(table, key)
        if table.kind not in _TABLES:
            message = f"{shown} is no table, so whether its key is unique cannot be told"
            raise PreconditionError(message, doubles, "warning")
        if table.kind == _PARTITIONED and self._version < PARTITIONED_SINCE:
            message = f"before PostgreSQL 11 nothing can make the key of a partitioned table unique, as {shown} is"
            raise PreconditionError(message, doubles, "warning")
        if not any(unique <= set(key) for unique in table.unique):
            how = "" if table.kind == _PARTITIONED else " CONCURRENTLY"
            raise PreconditionError(
                f"nothing makes the key ({names}) unique: of two rows with the same one, one may not be seen",
                _making_unique(table, key, how),
            )
        if nullable := [written(name) for name in key if name not in table.not_null]:
            raise PreconditionError(
                f"the key's {', '.join(nullable)} may be NULL, and rows where it is are not seen",
                "\n".join(f"ALTER TABLE {shown} ALTER COLUMN {name} SET NOT NULL;" for name in nullable),
                "warning",
            )
        return f"the key ({names}) is unique and never NULL"

    async def privileges(self) -> str:
        """Whether we may read the table and its schema: what the daemon has of its own is another matter."""
        missing = await missing_grants(self._connection, self._name, self._watch, self.facts)
        ours = ("cdc_sync.", "GRANT USAGE ON SCHEMA cdc_sync ")
        self.may_read = all(any(part in line for part in ours) for line in missing)
        if missing:
            raise PreconditionError(f"the role lacks {len(missing)} privilege(s)", "\n".join(missing))
        return "the role has what it needs"

    async def types(self) -> str:
        """Whether the daemon could read the table."""
        try:
            self.mapping = await Mapping.prepare(self._connection, self._watch, self.facts)
        except SourceError as error:
            if not isinstance(error.__cause__, errors.InsufficientPrivilege):
                raise
            user = sql.Identifier(self._connection.info.user)
            grant = whole_table(self.facts.qualified, user)
            if self.facts.readable == self.facts.columns.keys():
                # Then it is a function or a table that an expression names, and the server says which.
                grant = render("GRANT USAGE ON SCHEMA … TO {};   -- or SELECT, or EXECUTE, on what is named", user)
            raise PreconditionError(error.message, grant) from error
        return f"every mapped column is there, of a type that fits (the table has {len(self.facts.columns)})"

    async def policies(self) -> str:
        # What the statement touches is locked by it, by which the policies are found.
        await self._connection.execute(Statements(self.mapping).first_page, [0])
        if found := await row_security.hiding(self._connection):
            raise PreconditionError(row_security.warning(found), "\n".join(one.script for one in found))
        return "no policy hides rows from the role"

    async def key_index(self) -> str:
        what, without = "a sweep reads the table in pages, in the key's order", "each page sorts the whole table"
        key = sql.SQL(", ").join(map(sql.Identifier, self._watch.key))
        return await self._index(what, without, key, Statements(self.mapping).first_page, 1000)

    async def id_index(self) -> str:
        statements, columns = Statements(self.mapping), self._watch.columns
        by_id = ("its id", columns.application_id, statements.id_is_given, statements.is_given_id)
        by_url = ("the id in its status URL", columns.status_url, statements.url_is_given, is_given_url)
        well = ""
        for by, mapped, given, condition in (by_id, by_url):
            if given is None:
                continue
            side = expressions.side_table(self._watch, mapped)
            table = self.facts if side is None else await table_facts(self._connection, side.table)
            column = side or mapped
            on: sql.Composable | None = None
            if column is not None and not isinstance(column, SqlColumn):
                on = sql.Identifier(column.column if isinstance(column, SideTable) else column.name)
                on = on if mapped is columns.application_id else id_in_url(on)
            what = f"an application's rows are looked for by {by}"
            without = "each such look reads the whole table, and a change may take one"
            # A list of NULL is one of every type, and unlike an empty one leaves the planner something to look for.
            query = sql.SQL("SELECT {}").format(in_side_table(side, condition)) if side else self._where(given)
            well = await self._index(what, without, on, query, [None], table=table)
        return well

    async def watermark_index(self, watermark: str) -> str:
        mark, type_ = expressions.column(watermark), watermark_type(self.mapping, watermark)
        since = self._where(sql.SQL("{} >= %s::{}").format(mark, sql.SQL(type_)))
        what = f"changed rows are looked for by {written(watermark)}"
        without = f"the whole table is read every {self._watch.capture.poll_interval.total_seconds():g} s"
        return await self._index(what, without, sql.Identifier(watermark), since, "infinity", often=True)

    def _where(self, condition: sql.Composable | None) -> sql.Composed:
        # Bare: an order that is asked for as well could be had by another index, at the cost of reading it all.
        return sql.SQL("SELECT FROM {} WHERE {}").format(self.mapping.table, condition)

    async def _index(
        self,
        what: str,
        without: str,
        on: sql.Composable | None,
        query: sql.Composable,
        value: Any,
        *,
        often: bool = False,
        table: TableFacts | None = None,
    ) -> str:
        """Whether an index serves a query: its condition, or of a page, whose value is a number, its order.

        The index would be on this table, else the watch's.
        """
        await self._connection.execute(_ONLY_BY_INDEX)
        explain = sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query)
        ((answer,),) = await rows_of(self._connection, explain, [value])
        plan: Plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
        leading = await rows_of(self._connection, catalog("leading_columns"), [list(query_plan.indexes(plan))])
        is_page = isinstance(value, int)
        if query_plan.is_in_order(plan) if is_page else query_plan.seeks(plan, dict(leading)):
            return f"{what}, and an index serves that"
        rows = self.facts.estimate
        size = f"of about {rows} rows now" if rows else "of an unknown number of rows"
        raise PreconditionError(
            f"{what}, and no index serves that: {without} ({size})",
            self._making_index(on, table or self.facts),
            "failed" if often and rows >= _BIG else "warning",
        )

    def _making_index(self, on: sql.Composable | None, facts: TableFacts) -> str:
        kind, table = facts.kind, sql.Identifier(facts.schema, facts.name)
        if kind not in _TABLES:
            return f"{table.as_string()} is no table: let its owner create the index on the table beneath it."
        if on is None:
            return _ON_EXPRESSION
        if kind == _PARTITIONED and self._version < PARTITIONED_SINCE:
            columns = sql.Literal(sql.SQL(" ({})").format(on).as_string())
            each = sql.SQL(sections("parts.sql")["index_on_each_partition"])
            return each.format(table=sql.Literal(table.as_string()), columns=columns).as_string()
        # On a partitioned table as a whole PostgreSQL builds no index concurrently.
        how = sql.SQL("" if kind == _PARTITIONED else " CONCURRENTLY")
        return sql.SQL("CREATE INDEX{} ON {} ({});").format(how, table, on).as_string()

    async def triggers(self) -> str:
        never = untriggered(self.facts.kind, self._version)
        if never is not None:
            raise PreconditionError(f"{self.facts.qualified} {never.reason}", never.remedy)
        found = await verified(self._connection, verify_watches({self._name: self._watch}))
        wrong = list((await installation(self._connection, self._name, self._watch)).problems)
        for state, what in (
            ("exposed", "another role has rights by which it could act as their owner"),
            ("unreadable", "pg_dump by the owner of a watched table fails"),
        ):
            if of_state := sorted(f"{each.table}: {each.name}" for each in found if each.state == state):
                wrong.append(f"{what} ({'; '.join(of_state)})")
        if not wrong:
            return "the triggers are there, fire, and are what this version installs"
        remedy, enable = _INSTALL, f"ENABLE {'ALWAYS ' if self._watch.capture.replicated else ''}TRIGGER"
        amiss = [each for each in found if each.state not in {"ok", "left over"}]
        if amiss and all(each.state == "disabled" for each in amiss):
            remedy = "\n".join(f"ALTER TABLE {each.table} {enable} {written(each.name)};" for each in amiss)
        raise PreconditionError("; ".join(wrong), remedy)


def _doubles(table: TableFacts, columns: tuple[str, ...]) -> str:
    return render(
        "SELECT {columns}, count(*) FROM {table} GROUP BY {columns} HAVING count(*) > 1 LIMIT 10;",
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        table=expressions.table(table.qualified),
    )


def _making_unique(table: TableFacts, columns: tuple[str, ...], how: str) -> str:
    create = f"CREATE UNIQUE INDEX{how} ON {table.qualified} ({', '.join(map(written, columns))});"
    return f"{create}\n-- if that fails, these are there twice:\n{_doubles(table, columns)}"


def _insist_on_columns(named: list[tuple[str, str]], table: TableFacts) -> None:
    """Raise a PreconditionError if a table lacks columns, which are given behind the places that name them."""
    missing = [(place, column) for place, column in named if column not in table.columns]
    if not missing:
        return
    folded = {name.lower(): name for name in table.columns}
    close = {name: get_close_matches(name.lower(), folded, n=1) for _, name in missing}
    hints = [f"{written(name)} → {written(folded[similar[0]])}" for name, similar in close.items() if similar]
    said = ", ".join(f"{place}: {written(column)}" for place, column in missing)
    remedy = f"Correct the watch: {', '.join(hints)}?" if hints else "Correct the names in the watch."
    if unquoted := next((written(folded[name]) for name in close if name in folded), None):
        remedy += f" A name without double quotes is folded to lower case; in YAML: '{unquoted}'."
    raise PreconditionError(
        f"{table.qualified} has no such column ({said}); it has {', '.join(map(written, table.columns))}",
        remedy,
    )


def _tables_named(name: str) -> str:
    query = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name ILIKE {};"
    return render(query, sql.Literal(f"%{name}%"))

"""One watch: its table, columns and types, key, privileges, policies, indexes, triggers.

What builds on what failed is left out: of a table that does not exist there is nothing more to tell.
"""

from collections.abc import Sequence
from difflib import get_close_matches

from psycopg import errors, sql

from cdc_sync.config import Config, PlainColumn, Watch
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.core.identifiers import written
from cdc_sync.source import expressions, row_security
from cdc_sync.source.check.indexes import check_indexes
from cdc_sync.source.check.lookup import TableSeen, look_up, missing_grants, whole_table
from cdc_sync.source.check.shortly import HOLDERS, asking_shortly, is_about_a_lock
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import table_facts
from cdc_sync.source.grants import read_columns
from cdc_sync.source.mapping import Mapping, check_time_zone
from cdc_sync.source.recorders import render
from cdc_sync.source.scripts import verify, verify_watches
from cdc_sync.source.session import is_worked
from cdc_sync.source.statements import Statements
from cdc_sync.source.triggers import Verified, exposures, installation, undumpable, verified
from cdc_sync.source.unrecorded import PARTITIONED_INDEXES_SINCE, untriggered

_TABLES = "rp"


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
        tell(_others_triggers(watch, is_ours=watch in config.watches, is_worked=is_at_work))
    if not watches:
        tell(Finding("left-over", "ok", "no triggers of other watches"))


def _others_triggers(watch: str, *, is_ours: bool, is_worked: bool) -> Finding:
    remove = f"cdc-sync sql uninstall --watch {watch} > uninstall.sql   # read it, then run it as the tables' owner"
    if is_ours:
        message = (
            f"triggers of the watch {watch}, which is in capture.mode poll, go on recording changes that nobody takes"
        )
        return Finding("left-over", "warning", message, remove)
    theirs = f"there are triggers of a watch {watch}, which is not in this configuration"
    if is_worked:
        return Finding("left-over", "ok", f"{theirs}; a daemon works it now, so they are another installation's")
    return Finding(
        "left-over",
        "warning",
        f"{theirs}; no daemon works it now, and what they record stays in the log",
        f"If the watch is another installation's: start its daemon. If it is nobody's any more:\n{remove}",
    )


class _Watch:
    def __init__(self, connection: Connection, name: str, watch: Watch, tell: Tell) -> None:
        self._connection = connection
        self._name = name
        self._watch = watch
        self._tell_all = tell

    def _tell(self, check: str, state: State, message: str, remedy: str | None = None) -> None:
        self._tell_all(Finding(check, state, message, remedy, self._name))

    def _fail(self, check: str, error: SourceError) -> None:
        """Tell of what has its remedy in its message, with what to look at."""
        look = f"\\d {self._watch.table}   -- in psql: the columns and their types"
        self._tell(check, "failed", error.message, HOLDERS if is_about_a_lock(error) else look)

    async def check_time_zone(self) -> None:
        zone = self._watch.timezone
        try:
            async with asking_shortly(self._connection, "looking up the time zone"):
                await check_time_zone(self._connection, zone)
        except SourceError as error:
            similar = sql.Literal(f"%{zone.rpartition('/')[2]}%")
            remedy = sql.SQL("SELECT name FROM pg_timezone_names WHERE name ILIKE {};").format(similar)
            self._tell("timezone", "failed", error.message, remedy.as_string())
        else:
            self._tell("timezone", "ok", f"the server knows the time zone {zone}")

    async def check_table(self) -> TableSeen | None:
        table = self._watch.table
        try:
            async with asking_shortly(self._connection, f"looking up the table {table}"):
                seen = await look_up(self._connection, table)
                if seen is None:
                    await table_facts(self._connection, table)  # says which names are similar
        except SourceError as error:
            self._tell("table", "failed", error.message, _tables_named(table.name))
            return None
        if seen is not None:
            self._tell("table", "ok", f"{seen.name} is there")
        return seen

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

    def check_columns(self, table: TableSeen) -> bool:
        """Whether every column is there that is named."""
        capture = self._watch.capture
        named = {f"key[{number}]": column for number, column in enumerate(self._watch.key)}
        for field in type(self._watch.columns).model_fields:
            mapped = getattr(self._watch.columns, field)
            if isinstance(mapped, PlainColumn):
                named[f"columns.{field}"] = mapped.name
        for field, extra in self._watch.extra.items():
            if isinstance(extra.column, PlainColumn):
                named[f"extra.{field}"] = extra.column.name
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
            message, remedy = _no_such_column(list(missing.values()), table, said)
            self._tell("columns", "failed", message, remedy)
        return not missing

    def check_key(self, table: TableSeen) -> None:
        key = self._watch.key
        if not set(key) <= set(table.columns):
            return  # said already
        shown, names = str(table.name), ", ".join(map(written, key))
        doubles = render(
            "SELECT {key}, count(*) FROM {table} GROUP BY {key} HAVING count(*) > 1 LIMIT 10;",
            key=sql.SQL(", ").join(map(sql.Identifier, key)),
            table=expressions.table(table.name),
        )
        nullable = [name for name in key if name not in table.not_null]
        if table.kind not in _TABLES:
            self._tell("key", "warning", f"{shown} is no table, so whether its key is unique cannot be told", doubles)
        elif table.kind == "p" and self._connection.info.server_version < PARTITIONED_INDEXES_SINCE:
            message = f"before PostgreSQL 11 nothing can make the key of a partitioned table unique, as {shown} is"
            self._tell("key", "warning", message, doubles)
        elif not any(unique <= set(key) for unique in table.unique):
            self._tell(
                "key",
                "failed",
                f"nothing makes the key ({names}) unique: of two rows with the same one, one may not be seen",
                f"CREATE UNIQUE INDEX{'' if table.kind == 'p' else ' CONCURRENTLY'} ON {shown} ({names});\n"
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

    async def check_privileges(self, table: TableSeen) -> bool:
        """Whether we may read the table and its schema: what the daemon has of its own is another matter."""
        try:
            async with asking_shortly(self._connection, "looking up privileges"):
                missing = await missing_grants(self._connection, self._name, self._watch, table)
        except SourceError as error:
            self._fail("privileges", error)
            return False
        if not missing:
            self._tell("privileges", "ok", "the role has what it needs")
            return True
        self._tell("privileges", "failed", f"the role lacks {len(missing)} privilege(s)", "\n".join(missing))
        return not any(
            "cdc_sync." not in line and not line.startswith("GRANT USAGE ON SCHEMA cdc_sync ") for line in missing
        )

    async def check_types(self, table: TableSeen) -> Mapping | None:
        """The mapping, if the daemon could read the table through it."""
        try:
            async with asking_shortly(self._connection, f"preparing to read {self._watch.table}"):
                facts = await table_facts(self._connection, self._watch.table)
                mapping = await Mapping.prepare(self._connection, self._watch, facts)
        except SourceError as error:
            if isinstance(error.__cause__, errors.InsufficientPrivilege):
                remedy = whole_table(table, sql.Identifier(self._connection.info.user))
                self._tell("columns", "failed", error.message, remedy)
            else:
                self._fail("columns", error)
            return None
        message = f"every mapped column is there, of a type that fits (the table has {len(facts.columns)})"
        self._tell("columns", "ok", message)
        return mapping

    async def check_policies(self, mapping: Mapping) -> None:
        try:
            async with asking_shortly(self._connection, f"reading no rows of {self._watch.table}"):
                # What the statement touches is locked by it, by which the policies are found.
                await self._connection.execute(Statements(mapping).first_page, [0])
                found = await row_security.hiding(self._connection)
        except SourceError as error:
            self._fail("row-security", error)
            return
        if found:
            remedy = "\n".join(one.script for one in found)
            self._tell("row-security", "failed", row_security.warning(found), remedy)
        else:
            self._tell("row-security", "ok", "no policy hides rows from the role")

    async def check_indexes(self, mapping: Mapping) -> None:
        try:
            await check_indexes(self._connection, self._name, mapping, self._tell_all)
        except SourceError as error:
            self._fail("indexes", error)

    async def check_triggers(self, table: TableSeen) -> None:
        never = untriggered(table.kind, self._connection.info.server_version)
        if never is not None:
            self._tell("triggers", "failed", f"{table.name} {never.reason}", never.remedy)
            return
        try:
            async with asking_shortly(self._connection, "looking for the triggers"):
                found = await verified(self._connection, verify_watches({self._name: self._watch}))
                problems = (await installation(self._connection, self._name, self._watch)).problems
        except SourceError as error:
            self._fail("triggers", error)
            return
        wrong = list(problems)
        if exposed := exposures(found):
            wrong.append(f"another role has rights by which it could act as their owner ({'; '.join(exposed)})")
        if undumped := undumpable(found):
            wrong.append(f"pg_dump by the owner of a watched table fails ({'; '.join(undumped)})")
        if wrong:
            self._tell("triggers", "failed", "; ".join(wrong), self._remedy(found))
        else:
            self._tell("triggers", "ok", "the triggers are there, fire, and are what this version installs")

    def _remedy(self, found: Sequence[Verified]) -> str:
        wrong = [each for each in found if each.state not in {"ok", "left over"}]
        if wrong and all(each.state == "disabled" for each in wrong):
            always = "ALWAYS " if self._watch.capture.replicated else ""
            return "\n".join(f"ALTER TABLE {each.table} ENABLE {always}TRIGGER {written(each.name)};" for each in wrong)
        return (
            "cdc-sync sql install > install.sql   # read it, then run it as the tables' owner:\n"
            "psql -v ON_ERROR_STOP=1 -f install.sql"
        )


def _no_such_column(missing: list[str], table: TableSeen, said: str) -> tuple[str, str]:
    close = {name: get_close_matches(name, table.columns, n=1) for name in missing}
    hints = [f"{written(name)} → {written(similar[0])}" for name, similar in close.items() if similar]
    message = f"{table.name} has no such column ({said}); it has {', '.join(map(written, table.columns))}"
    return message, f"Correct the watch: {', '.join(hints)}?" if hints else "Correct the names in the watch."


def _tables_named(name: str) -> str:
    query = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name ILIKE {};"
    return render(query, sql.Literal(f"%{name}%"))

"""The questions of `cdc-sync check` to the ATS's database, beside a running daemon; `findings.yaml` has the texts.

Each is a short transaction, whose settings end with it: a pooler may hand the session on. The catalog, the planner and
LIMIT 0 are enough. All are read-only but those of `depends_on`, which are rolled back.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from cdc_sync import own_path
from cdc_sync.config import Column, Config, PlainColumn, SqlColumn, Watch
from cdc_sync.config.meanings import is_bare_number
from cdc_sync.config.models import Sessions, sessions_at_server
from cdc_sync.config.watch import Related
from cdc_sync.config.yaml_text import block
from cdc_sync.core import findings
from cdc_sync.core.findings import Finding, Plan, Tell, plan_is_in_order, plan_names, plan_seeks
from cdc_sync.core.identifiers import written
from cdc_sync.core.visible import HIDDEN
from cdc_sync.packaged import data
from cdc_sync.store.clock import WORTH_REPORTING
from cdc_sync.wall_clock import wall_clock

from . import expressions
from .connection import Connection, ReplicaGuard, connected, look_at_own_schemas, on_own_path, rows_of
from .errors import SourceError
from .expressions import catalog, composed
from .facts import ServerFacts, TableFacts, asking_shortly, server_facts, table_facts
from .mapping import OfValue, Statements, id_in_url, in_side_table, is_given_url
from .poll import watermark_type
from .reading import hiding, warning_of
from .scripts import missing_grants
from .session import own_session, primary_session
from .triggers import PARTITIONED_SINCE, installation, left_over, noticed, untriggered

_OLDEST, _NEWEST = 10, 18
"""PostgreSQL's versions."""

_BIG = 10_000
"""Estimated rows that are a burden to read every few seconds."""

# A comparison with NULL gives every expression a type that a view's column can have.
_VIEW = "CREATE TEMPORARY VIEW cdc_sync_expression AS SELECT {} IS NOT NULL AS is_there FROM {} AS t"


_TEXTS = data("ats/findings.yaml")

_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"

PARTITIONED, TABLES = "p", "rp"
"""The kinds of a partitioned table, and of all that can have indexes."""

found = partial(findings.found, _TEXTS)
"""A finding with a text of `findings.yaml`."""


@dataclass(eq=False)
class Checked:
    """A watch; each question relies on those before it.

    Attributes:
        facts: set once the table is there.
        mapping: with the daemon's own statements; set once the daemon could read the table.
        may_read: whether the role lacks at most rights on our own objects.
    """

    connection: Connection
    name: str
    watch: Watch
    report: Tell
    facts: TableFacts = field(init=False)
    mapping: Statements = field(init=False)
    may_read: bool = field(init=False, default=False)

    @property
    def version(self) -> int:
        """The server's."""
        return self.connection.info.server_version

    def found(self, name: str, remedy: str | None = None, **facts: object) -> Finding:
        """A finding about the watch."""
        return found(name, remedy, watch=self.name, **facts)

    async def holds(self, check: str, question: Callable[["Checked"], Awaitable[Finding | None]]) -> bool:
        """Report the answer to a question, asked in a transaction of its own; returns whether nothing is wrong.

        A question raises `SourceError` if the database does not answer.
        """
        try:
            async with asking_shortly(self.connection, f"checking {check} of {self.watch.table}"):
                finding = await question(self)
        except SourceError as error:
            finding = Finding(check, "failed", error.message, self._remedy(error), self.name)
        if finding is not None:
            self.report(finding)
        return finding is None or finding.state == "ok"

    def _remedy(self, error: SourceError) -> str:
        helps = _TEXTS["unanswered"]
        text: str = helps.get(error.code, helps["else"])["remedy"]
        city = self.watch.timezone.rpartition("/")[2]
        return text.format(table=self.watch.table, zone=Literal(f"%{city}%").as_string())


def how(table: TableFacts) -> str:
    """PostgreSQL builds no index CONCURRENTLY on a partitioned table."""
    return "" if table.kind == PARTITIONED else " CONCURRENTLY"


def listed(names: Iterable[str]) -> str:
    """Names as SQL writes them, in one line."""
    return ", ".join(map(written, names))


async def check_watch(connection: Connection, name: str, watch: Watch, report: Tell) -> None:
    """Report on a watch, one precondition after the other."""
    one = Checked(connection, name, watch, report)
    if not await one.holds("table", _table):
        return
    for related in watch.related:
        await one.holds("related", partial(_related, related=related))
    await one.holds("status", _status)
    await one.holds("key", _key)
    await one.holds("privileges", _privileges)
    if one.may_read and not await one.holds("columns", _columns):
        return
    await _depends_on(one)
    if one.may_read:
        await one.holds("row-security", _policies)
        await one.holds("key-index", _key_index)
        await _application_id_indexes(one)
        await one.holds("watermark-index", _watermark_index)
    if watch.capture.needs_log:
        await one.holds("triggers", _triggers)


async def _table(one: Checked) -> Finding:
    one.facts = await table_facts(one.connection, one.watch.table)
    return one.found("table/there", table=one.facts.qualified)


async def _related(one: Checked, related: Related) -> Finding:
    seen = await table_facts(one.connection, related.table)
    if missing := [name for name in (*related.key, *related.columns) if name not in seen.columns]:
        return one.found("related/column-missing", table=related.table, missing=listed(missing))
    unseen = [name for name in related.columns if name in seen.virtual]
    if unseen and one.watch.capture.needs_log:
        return one.found("related/unseen", table=related.table, columns=listed(unseen))
    return one.found("related/there", table=related.table)


async def _depends_on(one: Checked) -> None:
    """Report whether depends_on has what PostgreSQL finds in each expression; in transactions of its own."""
    mapped = expressions.by_place(one.watch)
    expected = {place: each for place, each in mapped.items() if isinstance(each, SqlColumn)}
    try:
        columns = {place: await used(one.connection, one.facts, each) for place, each in expected.items()}
    except SourceError as error:
        one.report(one.found("depends-on/unknown", reason=error.message))
    else:
        if expected:
            one.report(_declared(one, expected, columns))


async def used(connection: Connection, table: TableFacts, expression: SqlColumn) -> tuple[str, ...]:
    """The watched table's columns that an expression uses; a whole row has all of them.

    PostgreSQL notes which columns a view's rule uses. So the expression becomes a temporary view, in a transaction that
    is rolled back.

    Raises:
        SourceError: the expression is wrong, the role may create no temporary view, or the server is a standby.
    """
    watched = expressions.name(table.schema, table.name)
    view = composed(_VIEW, expressions.expression(expression), watched)
    async with asking_shortly(connection, "finding the columns of an expression", writes=True):
        await on_own_path(connection, view, ())
        ((columns,),) = await rows_of(connection, catalog("used_by_view"), {"table": table.oid})
    return tuple(columns)


def _declared(one: Checked, expected: Mapping[str, SqlColumn], columns: Mapping[str, tuple[str, ...]]) -> Finding:
    compared = expressions.compared_by_place(one.watch) if one.watch.capture.needs_log else {}
    wrong = [
        place
        for place, each in expected.items()
        if place in compared and (each.depends_on is None or set(columns[place]) - set(each.depends_on))
    ]
    if wrong:
        remedy = _as_yaml({place: columns[place] for place in wrong})
        return one.found("depends-on/wrong", remedy, places=", ".join(wrong))
    if optional := [place for place, each in expected.items() if each.depends_on is None]:
        shown = "; ".join(f"{place}: [{listed(columns[place])}]" for place in optional)
        return one.found("depends-on/optional", columns=shown)
    return one.found("depends-on/named")


async def _status(one: Checked) -> Finding | None:
    """Whether HelloWork would receive a label, and no number or other table's key."""
    rules, mapped = one.watch.status, one.watch.columns.status
    column = one.facts.columns.get(mapped.name) if isinstance(mapped, PlainColumn) else None
    if column is None:
        return None
    is_number = column.kind in {"number", "uuid"}
    translated = any(label.strip() and (not is_number or is_bare_number(label)) for label in rules.map)
    about = {"column": written(column.name), "type": column.type}
    if translated and rules.unmapped != "send":
        return one.found("status/mapped", **about)
    if is_number:
        return one.found("status/number", **about)
    return None if column.reference is None else one.found("status/key", **about)


async def _key(one: Checked) -> Finding | None:
    key, table = one.watch.key, one.facts
    if not set(key) <= set(table.columns):
        return None  # reported already
    about: dict[str, Any] = {"table": table.qualified, "names": listed(key), "how": how(table)}
    if table.kind not in TABLES or (table.kind == PARTITIONED and one.version < PARTITIONED_SINCE):
        return one.found("key/without-index", **about)
    if not any(set(unique) <= set(key) for unique in table.unique):
        return one.found("key/not-unique", **about)
    if nullable := [written(name) for name in key if not table.columns[name].not_null]:
        set_ = (f"ALTER TABLE {table.qualified} ALTER COLUMN {name} SET NOT NULL;" for name in nullable)
        return one.found("key/nullable", "\n".join(set_), names=", ".join(nullable))
    return one.found("key/unique", **about)


async def _privileges(one: Checked) -> Finding:
    missing = [line for (line,) in await rows_of(one.connection, missing_grants(one.name, one.watch))]
    ours = (" ON cdc_sync.", 'GRANT USAGE ON SCHEMA "cdc_sync" ')
    one.may_read = all(any(part in line for part in ours) for line in missing)
    if missing:
        return one.found("privileges/lacking", "\n".join(missing), number=len(missing))
    return one.found("privileges/enough")


async def _columns(one: Checked) -> Finding:
    """Whether the daemon could read the table."""
    one.mapping = await Statements.prepare(one.connection, one.watch, one.facts)
    return one.found("columns/fit", number=len(one.facts.columns))


async def _policies(one: Checked) -> Finding:
    await on_own_path(one.connection, one.mapping.by_keys.first.rows, [None, 0])
    if hides := await hiding(one.connection):
        scripts = "\n".join(each.remedy for each in hides)
        return one.found("row-security/hides", scripts, reason=warning_of(hides))
    return one.found("row-security/none")


async def _triggers(one: Checked) -> Finding:
    never = untriggered(one.facts.kind, one.version)
    if never is not None:
        return one.found("triggers/never-fire", never.remedy, table=one.facts.qualified, reason=never.reason)
    if unseen := [name for name in expressions.compared(one.watch) or () if name in one.facts.virtual]:
        return one.found("triggers/unseen", table=one.facts.qualified, columns=listed(unseen))
    installed = await installation(one.connection, one.name, one.watch)
    if not installed.problems:
        return one.found("triggers/fire")
    return one.found("triggers/wrong", problems="; ".join(installed.problems))


def _as_yaml(columns: Mapping[str, tuple[str, ...]]) -> str:
    """The keys `depends_on` of these places, to put beside each `sql`."""
    document: dict[str, Any] = {}
    for place, names in columns.items():
        section, _, field = place.partition(".")
        parent = document.setdefault(section, {}) if field else document
        parent[field or section] = {"depends_on": list(map(written, names))}
    return f"# in the watch, beside each sql:\n{block(document)}"


# Whether indexes serve the daemon's own statements. The planner answers: EXPLAIN without sequential scans and sorts, so
# that the table's size today does not matter.


async def _key_index(one: Checked) -> Finding:
    """Whether an index gives the pages of a sweep in their order."""
    columns = composed("{}", map(Identifier, one.watch.key))
    plan = await _plan(one, SQL(one.mapping.by_keys.first.rows), None, 1000)
    return _finding(one, "key-index", _making_index(one, columns, one.facts), served=plan_is_in_order(plan))


async def _application_id_indexes(one: Checked) -> None:
    """Report whether an index finds an application's rows, by its id and by its status URL."""
    columns = one.watch.columns
    by_id = partial(_application_id_index, by="its id", is_given=one.mapping.is_given_id, indexed=lambda id_: id_)
    by_url = partial(_application_id_index, by="the id in its status URL", is_given=is_given_url, indexed=id_in_url)
    for mapped, question in ((columns.application_id, by_id), (columns.status_url, by_url)):
        if mapped is not None:
            await one.holds("application-id-index", partial(question, mapped=mapped))


async def _application_id_index(one: Checked, by: str, mapped: Column, is_given: OfValue, indexed: OfValue) -> Finding:
    side = expressions.side_table(one.watch, mapped)
    table = one.facts if side is None else await table_facts(one.connection, side.table)
    column = side.column if side is not None else mapped.name if isinstance(mapped, PlainColumn) else None
    if side is None:
        query = _where(one, is_given(expressions.expression(mapped)))
    else:
        query = composed("SELECT {}", in_side_table(side, is_given))
    making = _making_index(one, None if column is None else indexed(Identifier(column)), table)
    # NULL has every type; for an empty list the planner would look for nothing.
    return _finding(one, "application-id-index", making, served=await _seeks(one, query, None), by=by)


async def _watermark_index(one: Checked) -> Finding | None:
    """Whether an index finds the rows behind the watermark."""
    if (watermark := one.watch.capture.needed_watermark) is None:
        return None
    mark, type_ = expressions.column(watermark), watermark_type(one.mapping, watermark)
    since = _where(one, composed("{} {} %s::{}", mark, expressions.operator(">="), SQL(type_)))
    about = {"column": written(watermark), "pause": one.watch.capture.poll_interval.total_seconds()}
    making = _making_index(one, Identifier(watermark), one.facts)
    missing = "burden" if one.facts.estimate >= _BIG else "missing"
    served = await _seeks(one, since, "infinity")
    return _finding(one, "watermark-index", making, served=served, missing=missing, **about)


def _where(one: Checked, condition: Composable) -> Composed:
    # No order, which another index could provide by reading the whole table.
    return composed("SELECT FROM {} WHERE {}", one.mapping.table, condition)


async def _plan(one: Checked, query: Composable, *values: Any) -> Plan:
    await one.connection.execute(catalog("only_by_index"))
    explain = composed("EXPLAIN (VERBOSE, FORMAT JSON) {}", query)
    (((explained,),),) = await rows_of(one.connection, explain, values, own_path=True)
    plan: Plan = explained["Plan"]
    return plan


async def _seeks(one: Checked, query: Composable, value: Any) -> bool:
    """Whether an index serves a query's condition."""
    plan = await _plan(one, query, value)
    met = {"indexes": plan_names(plan, "Index Name"), "schemas": plan_names(plan, "Schema")}
    leading = await rows_of(one.connection, catalog("leading_columns"), met)
    return plan_seeks(plan, dict(leading))


def _finding(
    one: Checked, check: str, making: str | None, *, served: bool, missing: str = "missing", **about: Any
) -> Finding:
    if served:
        return one.found(f"{check}/there", **about)
    rows = one.facts.estimate
    size = f"about {rows} rows now" if rows else "an unknown number of rows"
    return one.found(f"{check}/{missing}", making, size=size, **about)


def _making_index(one: Checked, on: Composable | None, facts: TableFacts) -> str | None:
    """What creates an index; None for an expression of the configuration."""
    table = Identifier(facts.schema, facts.name)
    if facts.kind not in TABLES:
        return f"{table.as_string()} is no table: let its owner create the index on the table beneath it."
    if on is None:
        return None
    if facts.kind == PARTITIONED and one.version < PARTITIONED_SINCE:
        return composed("CREATE INDEX ON … ({});   -- of each partition of {}", on, table).as_string()
    return composed("CREATE INDEX{} ON {} ({});", SQL(how(facts)), table, on).as_string()


async def check_database(
    whole: Config, name: str, report: Tell, *, read: Mapping[str, str], only: Collection[str]
) -> bool:
    """Report on a database of the ATS; returns whether it can be reached.

    Args:
        whole: the configuration of all databases.
        name: the database's.
        report: takes each finding.
        read: the store's replica positions, by watch.
        only: the watches to check.
    """
    config = whole.of_database(name)
    dsn = config.dsn_of(name)
    # The reader replaces what may not be shown.
    shown = config.database.shown()
    psql = f"psql '{'…' if shown == HIDDEN else shown}'" if dsn.strip() else "psql"
    try:
        async with connected(dsn) as connection:
            version = connection.info.server_version // 10_000
            what = "old" if version < _OLDEST else "new" if version > _NEWEST else "known"
            report(found(f"server/{what}", version=version, oldest=_OLDEST))
            facts = await _server(connection, shown, psql, report)
            await _search_path(connection, facts.user, report)
            report(await _session(dsn))
            report(await _connections(connection, sessions_at_server(whole, name), facts.user))
            report(await _clock(connection))
            await _standby(config, dsn, facts, report)
            for watch_name in config.watches:
                if watch_name in read:
                    report(_replica_position(facts, watch_name, read[watch_name]))
            for watch_name, watch in config.watches.items():
                if watch_name in only:
                    await check_watch(connection, watch_name, watch, report)
            await _left_over(connection, config, report)
            return True
    except SourceError as error:
        report(found("connection/failed", reason=error.message, psql=psql))
        return False


async def _server(connection: Connection, shown: str, psql: str, report: Tell) -> ServerFacts:
    """Report where the connection leads, and for whom."""
    async with asking_shortly(connection, "asking the server for its version and identity"):
        facts = await server_facts(connection)
    report(found("connection/made", database=facts.database, user=facts.user, shown=shown))
    report(found(f"role/{'superuser' if facts.is_superuser else 'ordinary'}", user=facts.user, psql=psql))
    return facts


async def _standby(config: Config, dsn: str, facts: ServerFacts, report: Tell) -> None:
    """Report what a standby cannot do; a primary can do everything."""
    stuck = noticed(config.watches) if facts.in_recovery else {}
    for name in stuck:
        report(found("standby/notified", watch=name))
    if not stuck:
        report(found("standby/polled" if facts.in_recovery else "standby/primary"))
    # A standby's own locks are unknown elsewhere. A shared store decides itself.
    if facts.in_recovery and config.state.backend != "postgres":
        async with primary_session(dsn) as primary:
            report(found("standby/locked-here" if primary is None else "standby/locked-on-the-primary"))


async def _search_path(connection: Connection, user: str, report: Tell) -> None:
    """Report each schema of the search_path in which others may make what an unqualified name could mean."""
    async with asking_shortly(connection, "asking who may create in the schemas of the search_path"):
        # Behind a pooler the session may be another one by now.
        await connection.execute(own_path.session_start().encode())
        await look_at_own_schemas(connection)
        creators: dict[str, list[str] | None] = dict(await rows_of(connection, catalog("creators")))
    if not any(creators.values()):
        report(found("search-path/owners", schemas=", ".join(creators) or "none"))
    for schema, roles in creators.items():
        if not roles:
            continue
        remedy = "\n".join(f"REVOKE CREATE ON SCHEMA {schema} FROM {role};" for role in roles)
        report(found("search-path/open", remedy, roles=", ".join(roles), schema=schema, user=user))


async def _session(dsn: str) -> Finding:
    """Whether the daemon's lasting session would be its own."""
    try:
        async with own_session(dsn) as session:
            return found(f"session/{'pooled' if session.is_pooled else 'direct'}")
    except SourceError as error:
        if error.code != "pooled":
            raise
        return found("session/shared")


async def _connections(connection: Connection, needed: Sessions, user: str) -> Finding:
    async with asking_shortly(connection, "asking how many connections there are"):
        ((limit, has),) = await rows_of(connection, catalog("limits"))
    least, most = needed
    taken = (
        f"the daemon takes {least} to {most} connections of the database; max_connections without the reserved ones is "
        f"{limit}, of which others have {has}"
    )
    left = limit - has
    what = "few" if left < least else "last" if left < most else "enough"
    return found(f"connections/{what}", taken=taken, role=written(user), least=least)


async def _clock(connection: Connection) -> Finding:
    async with asking_shortly(connection, "asking for the time"):
        before = wall_clock()
        ((theirs,),) = await rows_of(connection, _CLOCK)
    # It was read between two readings of ours: only what lies outside is skew.
    ahead = theirs - min(max(theirs, before), wall_clock())
    return found(f"clock/{'wrong' if abs(ahead) > WORTH_REPORTING else 'right'}", ahead=round(ahead / 1000))


def _replica_position(facts: ServerFacts, watch: str, read: str) -> Finding:
    guard = ReplicaGuard()
    guard.load(read)
    try:
        guard.check(facts.position)
    except SourceError as error:
        return found("replica-position/behind", watch=watch, reason=error.message)
    return found("replica-position/reached", watch=watch)


async def _left_over(connection: Connection, config: Config, report: Tell) -> None:
    """Report triggers of watches that are not configured in notify mode."""
    names = await left_over(connection, config.watches)
    if not names:
        report(found("left-over/none"))
    for name in names:
        report(found("left-over/triggers", of=name))

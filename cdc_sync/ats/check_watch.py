"""Checks of one watch, without those that depend on a failed one.

About indexes the planner answers: EXPLAIN of the daemon's own statements, without sequential scans and sorts, so that
the table's size today does not matter.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from typing import Any

import yaml
from psycopg import errors, sql

from cdc_sync.ats import expressions, row_security
from cdc_sync.ats.connection import Connection, on_own_path, rows_of, rows_on_own_path
from cdc_sync.ats.depends_on import used, why_not
from cdc_sync.ats.errors import SourceError, texts
from cdc_sync.ats.expressions import SideTable, catalog, composed, render, sections
from cdc_sync.ats.facts import TableFacts, asking_shortly, look_up, table_facts
from cdc_sync.ats.granting import granting, missing_grants
from cdc_sync.ats.mapping import Mapping, check_time_zone
from cdc_sync.ats.reading import watermark_type
from cdc_sync.ats.recorders import PARTITIONED_SINCE, untriggered
from cdc_sync.ats.session import being_captured
from cdc_sync.ats.statements import Statements, id_in_url, in_side_table, is_given_url
from cdc_sync.ats.survey import survey
from cdc_sync.ats.triggers import Triggers
from cdc_sync.config import Config, PlainColumn, SqlColumn, Watch, first
from cdc_sync.config.columns import bare_column
from cdc_sync.config.guessing import Column, Reference, propose
from cdc_sync.config.meanings import is_bare_number, known
from cdc_sync.config.watch import Related
from cdc_sync.core import findings
from cdc_sync.core.findings import Finding, Plan, Tell, plan_indexes, plan_is_in_order, plan_seeks
from cdc_sync.core.identifiers import QualifiedName, written

_FINDINGS = "findings.yaml"

_PARTITIONED, _TABLES = "p", "rp"

_REFERRED_SINCE = 120000
"""The first version in which a foreign key may lead to a partitioned table."""

_MOST_CODES = 1000
_BIG = 10_000
"""Estimated rows that are a burden to read every few seconds."""

found = partial(findings.found, texts(_FINDINGS))
"""A finding with a text of `findings.yaml`."""

Question = Callable[[], Awaitable[Finding | None]]
"""Returns a finding, if there is one; raises `SourceError` if the database does not answer."""


async def check_watch(
    connection: Connection, name: str, watch: Watch, triggers: Triggers | SourceError, report: Tell
) -> None:
    """Report on a watch, one precondition after the other."""
    one = _Watch(connection, name, watch)
    zone = watch.timezone.rpartition("/")[2]
    known = {"table": watch.table, "zone": _like(zone), "similar": _like(watch.table.name)}

    async def holds(check: str, doing: str, question: Question) -> bool:
        """Report the answer."""
        try:
            async with asking_shortly(connection, doing):
                finding = await question()
        except SourceError as error:
            helps = texts(_FINDINGS)["unanswered"]
            remedy = (helps.get(error.code) or helps.get(check) or helps["else"])["remedy"].format(**known)
            finding = Finding(check, "failed", error.message, remedy, name)
        if finding is not None:
            report(finding)
        return finding is None or finding.state == "ok"

    looking = f"looking up the table {watch.table}"
    await holds("timezone", "looking up the time zone", one.time_zone)
    if not await holds("table", looking, one.look_up):
        return
    for related in watch.related:
        await holds("related", f"looking up the table {related.table}", partial(one.related, related))
    complete = await holds("columns", looking, one.columns)
    if complete and (finding := await one.depends_on()) is not None:
        report(finding)
    await holds("status", looking, one.status)
    await holds("key", looking, one.key)
    await holds("privileges", "looking up privileges", one.privileges)
    if complete and one.may_read and await holds("columns", f"preparing to read {watch.table}", one.types):
        await holds("row-security", f"reading no rows of {watch.table}", one.policies)
        explaining = "asking how rows would be found"
        await holds("key-index", explaining, one.key_index)
        await holds("application-id-index", explaining, one.id_index)
        if (watermark := watch.capture.needs.watermark) is not None:
            await holds("watermark-index", explaining, partial(one.watermark_index, watermark))
    # With missing columns they would look outdated.
    if watch.capture.needs.log and complete:
        await holds("triggers", "looking for the triggers", partial(one.triggers, triggers))


async def check_left_over(
    connection: Connection, config: Config, triggers: Triggers | SourceError, report: Tell
) -> None:
    """Report triggers of watches that are not configured in notify mode.

    They may be another installation's; otherwise they keep filling the log.
    """
    try:
        left_over = _found_triggers(triggers).left_over
        async with asking_shortly(connection, "looking for the triggers"):
            at_work = await being_captured(connection, left_over) if left_over else ()
    except SourceError as error:
        report(Finding("left-over", "failed", error.message, "cdc-sync sql verify --apply"))
        return
    if not left_over:
        report(found("left-over/none"))
    for name in left_over:
        what = "polled" if name in config.watches else "captured" if name in at_work else "resting"
        report(found(f"left-over/{what}", of=name))


def _found_triggers(triggers: Triggers | SourceError) -> Triggers:
    if isinstance(triggers, SourceError):
        raise triggers
    return triggers


class _Watch:
    """The questions about a watch; each relies on those before it."""

    facts: TableFacts
    mapping: Mapping
    may_read = False

    def __init__(self, connection: Connection, name: str, watch: Watch) -> None:
        self._connection = connection
        self._version = connection.info.server_version
        self._name = name
        self._watch = watch
        self._found = partial(found, watch=name)

    async def time_zone(self) -> Finding:
        await check_time_zone(self._connection, self._watch.timezone)
        return self._found("timezone/known", zone=self._watch.timezone)

    async def look_up(self) -> Finding:
        self.facts = await table_facts(self._connection, self._watch.table)
        return self._found("table/there", table=self.facts.qualified)

    async def related(self, related: Related) -> Finding:
        seen = await look_up(self._connection, related.table)
        if seen is None:
            return self._found("related/missing", table=related.table, similar=_like(related.table.name))
        named = [(f"related ({related.table}): key", column) for column in related.key]
        named += [(f"related ({related.table}): columns", column) for column in related.columns]
        if missing := self._missing("related", named, seen):
            return missing
        columns = self._watch.columns
        for mapped in (columns.application_id, columns.status_url):
            side = expressions.side_table(self._watch, mapped)
            if (
                side is not None
                and expressions.same(side.table, related.table)
                and (wrong := await self._side_table(side, seen))
            ):
                return wrong
        return self._found("related/there", table=related.table)

    async def _side_table(self, side: SideTable, seen: TableFacts) -> Finding | None:
        """Whether a row can have several ids, or an id outlives its row."""
        named = [(f"related ({side.table})", column) for column in (*side.key, side.column)]
        if missing := self._missing("related", named, seen):
            return missing
        shown, watched = seen.qualified, self.facts.qualified
        if not any(set(unique) <= set(side.key) for unique in seen.unique):
            return self._found("related/several-ids", table=shown, names=_listed(side.key), how=_how(seen))
        if self.facts.kind not in _TABLES or (self.facts.kind == _PARTITIONED and self._version < _REFERRED_SINCE):
            return None  # no foreign key can lead to it
        names = [seen.schema, seen.name, self.facts.schema, self.facts.name]
        keys = await rows_of(self._connection, catalog("foreign_keys"), names)
        actions = {name: action for name, action, columns in keys if set(columns) == set(side.key)}
        if "c" in actions.values():
            return None
        return self._found(
            f"related/{'kept' if {'a', 'r'} & set(actions.values()) else 'stays'}",
            table=shown,
            key=_listed(side.key),
            watched=watched,
            watched_key=_listed(self._watch.key),
            drop="".join(f"DROP CONSTRAINT {written(name)}, " for name in actions),
        )

    def _missing(self, check: str, named: list[tuple[str, str]], table: TableFacts) -> Finding | None:
        """The columns that a table lacks, of (place that names it, column)."""
        missing = [(place, column) for place, column in named if column not in table.columns]
        if not missing:
            return None
        folded = {name.lower(): name for name in table.columns}
        close = {name: get_close_matches(name.lower(), folded, n=1) for _, name in missing}
        hints = [f"{written(name)} → {written(folded[similar[0]])}" for name, similar in close.items() if similar]
        remedy = f"Correct the watch: {', '.join(hints)}?" if hints else "Correct the names in the watch."
        if unquoted := next((written(folded[name]) for name in close if name in folded), None):
            remedy += f" A name without double quotes is folded to lower case; in YAML: '{unquoted}'."
        lacks = ", ".join(f"{place}: {written(column)}" for place, column in missing)
        has = _listed(table.columns)
        return self._found(f"{check}/column-missing", remedy, table=table.qualified, missing=lacks, columns=has)

    async def columns(self) -> Finding | None:
        """Whether every named column exists."""
        named = [(f"key[{number}]", column) for number, column in enumerate(self._watch.key)]
        for place, mapped in expressions.by_place(self._watch).items():
            named += [(place, column) for column in expressions.columns_of(mapped) or ()]
        if (watermark := self._watch.capture.needs.watermark) is not None:
            named.append(("capture.watermark", watermark))
        return self._missing("columns", named, self.facts)

    async def depends_on(self) -> Finding | None:
        """Whether depends_on has what PostgreSQL finds in each expression; in transactions of its own."""
        of_watch = expressions.by_place(self._watch)
        expected = {place: one for place, one in of_watch.items() if isinstance(one, SqlColumn)}
        if not expected:
            return None
        columns: dict[str, tuple[str, ...]] = {}
        try:
            for place, one in expected.items():
                columns[place], _ = await used(self._connection, self.facts, one)
        except SourceError as error:
            return self._found("depends-on/unknown", reason=why_not(error))
        compared = expressions.compared_by_place(self._watch) if self._watch.capture.needs.log else {}
        problems = {
            place: problem
            for place, one in expected.items()
            if place in compared and (problem := _undeclared(one.depends_on, columns[place]))
        }
        if problems:
            remedy = _as_yaml({place: columns[place] for place in problems})
            shown = "; ".join(f"{place} {problem}" for place, problem in problems.items())
            return self._found("depends-on/wrong", remedy, problems=shown)
        if optional := [place for place, one in expected.items() if one.depends_on is None]:
            shown = "; ".join(f"{place}: [{_listed(columns[place])}]" for place in optional)
            return self._found("depends-on/optional", columns=shown)
        return self._found("depends-on/named")

    async def status(self) -> Finding | None:
        """Whether HelloWork would receive a label, and no number or other table's key."""
        rules, column, table = self._watch.status, bare_column(self._watch.columns.status), self.facts
        if column is None or column not in table.columns:
            return None
        type_ = table.columns[column]
        kind, about = Column(column, type_).kind, {"column": written(column), "type": type_}
        is_number = kind in {"number", "uuid"}
        mapped = {label for label in rules.map if label.strip() and (kind != "number" or is_bare_number(label))}
        if mapped and rules.unmapped != "send":
            return self._found("status/mapped", **about) if is_number else None
        reference = None if is_number else await self._reference(column)
        codes = None if reference is None else await self._codes(reference)
        if not is_number and (reference is None or (codes and codes <= mapped | known().hellowork.keys())):
            return None
        seen = await survey(self._connection)
        own = next((one for one in seen.tables if one.name == table.qualified), None)
        guess = propose(own, seen.tables, {"status": column}).guesses["status"] if own is not None else None
        by_map = 'map each value in status.map, such as {"1": "Reçue"}, and write status.unmapped: reject'
        if guess is not None and guess.related is not None:
            entry = first.related(str(guess.related))
            remedy = f"columns:\n  {first.mapped('status', guess)}\nrelated:\n  - {entry}\n# or {by_map}"
        elif is_number:
            remedy = f"Read the label from its table by an expression (columns.status.sql), or {by_map}."
        else:
            return None  # its values are all that can be read
        if reference is not None and codes is None:
            user = sql.Identifier(self._connection.info.user)
            lines = granting(reference.table, "SELECT", [reference.key], user)
            remedy += "\n# or, if each is mapped, or one of HelloWork's own statuses, let `check` see that:\n"
            remedy += "\n".join(lines)
        what = "key" if not is_number else "in-part" if mapped else "number"
        return self._found(f"status/{what}", remedy, **about)

    async def _reference(self, column: str) -> Reference | None:
        references = await rows_of(self._connection, catalog("references"), {"tables": [self.facts.oid]})
        found = (Reference(QualifiedName(*to), key) for _, name, *to, key in references if name == column)
        return next(found, None)

    async def _codes(self, reference: Reference) -> set[str] | None:
        """A foreign key's values; None if we may not read them, or they are too many for codes."""
        column, table = sql.Identifier(reference.key), expressions.table(reference.table)
        query = sql.SQL(sections("reading.sql")["values"]).format(column=column, table=table, most=_MOST_CODES)
        with suppress(SourceError):
            async with asking_shortly(self._connection, f"reading the codes of {reference.table}"):
                codes = {code for (code,) in await rows_of(self._connection, query)}
                return codes if len(codes) < _MOST_CODES else None
        return None

    async def key(self) -> Finding | None:
        key, table = self._watch.key, self.facts
        if not set(key) <= set(table.columns):
            return None  # reported already
        about: dict[str, Any] = {"table": table.qualified, "names": _listed(key), "how": _how(table)}
        if table.kind not in _TABLES:
            return self._found("key/not-of-a-table", **about)
        if table.kind == _PARTITIONED and self._version < PARTITIONED_SINCE:
            return self._found("key/of-partitions", **about)
        if not any(set(unique) <= set(key) for unique in table.unique):
            return self._found("key/not-unique", **about)
        if nullable := [written(name) for name in key if name not in table.not_null]:
            set_ = (f"ALTER TABLE {table.qualified} ALTER COLUMN {name} SET NOT NULL;" for name in nullable)
            return self._found("key/nullable", "\n".join(set_), names=", ".join(nullable))
        return self._found("key/unique", **about)

    async def privileges(self) -> Finding:
        """Whether the role has what it needs; `may_read` if it lacks rights on our own objects only."""
        missing = [line for (line,) in await rows_of(self._connection, missing_grants(self._name, self._watch))]
        ours = ("cdc_sync.", "GRANT USAGE ON SCHEMA cdc_sync ")
        self.may_read = all(any(part in line for part in ours) for line in missing)
        if missing:
            return self._found("privileges/lacking", "\n".join(missing), number=len(missing))
        return self._found("privileges/enough")

    async def types(self) -> Finding:
        """Whether the daemon could read the table."""
        try:
            self.mapping = await Mapping.prepare(self._connection, self._watch, self.facts)
        except SourceError as error:
            if not isinstance(error.__cause__, errors.InsufficientPrivilege):
                raise
            user = sql.Identifier(self._connection.info.user)
            grant = granting(self.facts.qualified, "SELECT", (), user)[-1]
            if set(self.facts.readable) == self.facts.columns.keys():
                # An expression uses a function or a table, which the server names.
                grant = render("GRANT USAGE ON SCHEMA … TO {};   -- or SELECT, or EXECUTE, on what is named", user)
            return self._found("columns/not-granted", grant, reason=error.message)
        return self._found("columns/fit", number=len(self.facts.columns))

    async def policies(self) -> Finding:
        # Policies are found by the statement's locks.
        await on_own_path(self._connection, Statements(self.mapping).first_page, [0])
        if hides := await row_security.hiding(self._connection):
            scripts = "\n".join(one.script for one in hides)
            return self._found("row-security/hides", scripts, reason=row_security.warning(hides))
        return self._found("row-security/none")

    async def key_index(self) -> Finding:
        page = Statements(self.mapping).first_page
        making = self._making_index(composed("{}", map(sql.Identifier, self._watch.key)), self.facts)
        return await self._index("key-index", page, 1000, making)

    async def id_index(self) -> Finding | None:
        statements, columns = Statements(self.mapping), self._watch.columns
        finding = None
        for by, mapped, given, condition, indexed in (
            ("its id", columns.application_id, statements.id_is_given, statements.is_given_id, lambda on: on),
            ("the id in its status URL", columns.status_url, statements.url_is_given, is_given_url, id_in_url),
        ):
            if given is None or (finding is not None and finding.state != "ok"):
                continue
            side = expressions.side_table(self._watch, mapped)
            table = self.facts if side is None else await table_facts(self._connection, side.table)
            column = side.column if side is not None else mapped.name if isinstance(mapped, PlainColumn) else None
            # NULL has every type; for an empty list the planner would look for nothing.
            query = composed("SELECT {}", in_side_table(side, condition)) if side else self._where(given)
            making = self._making_index(None if column is None else indexed(sql.Identifier(column)), table)
            finding = await self._index("application-id-index", query, [None], making, by=by)
        return finding

    async def watermark_index(self, watermark: str) -> Finding:
        mark, type_ = expressions.column(watermark), watermark_type(self.mapping, watermark)
        since = self._where(composed("{} {} %s::{}", mark, expressions.operator(">="), sql.SQL(type_)))
        about = {"column": written(watermark), "pause": self._watch.capture.poll_interval.total_seconds()}
        making = self._making_index(sql.Identifier(watermark), self.facts)
        return await self._index("watermark-index", since, "infinity", making, **about)

    def _where(self, condition: sql.Composable) -> sql.Composed:
        # No order, which another index could provide by reading the whole table.
        return composed("SELECT FROM {} WHERE {}", self.mapping.table, condition)

    async def _index(self, check: str, query: sql.Composable, value: Any, making: str | None, **about: Any) -> Finding:
        """Whether an index serves a query's condition, or a page's order if the value is a number."""
        await self._connection.execute(catalog("only_by_index"))
        explain = composed("EXPLAIN (FORMAT JSON) {}", query)
        (((explained,),),) = await rows_on_own_path(self._connection, explain, [value])
        plan: Plan = explained["Plan"]
        leading = await rows_of(self._connection, catalog("leading_columns"), [list(plan_indexes(plan))])
        is_page = isinstance(value, int)
        if plan_is_in_order(plan) if is_page else plan_seeks(plan, dict(leading)):
            return self._found(f"{check}/there", **about)
        rows = self.facts.estimate
        what = "burden" if check == "watermark-index" and rows >= _BIG else "missing"
        about["size"] = f"about {rows} rows now" if rows else "an unknown number of rows"
        return self._found(f"{check}/{what}", making, **about)

    def _making_index(self, on: sql.Composable | None, facts: TableFacts) -> str | None:
        kind, table = facts.kind, sql.Identifier(facts.schema, facts.name)
        if kind not in _TABLES:
            return f"{table.as_string()} is no table: let its owner create the index on the table beneath it."
        if on is None:
            return None
        if kind == _PARTITIONED and self._version < PARTITIONED_SINCE:
            columns = composed(" ({})", on).as_string()
            each = sections("parts.sql")["index_on_each_partition"]
            return composed(each, table=table.as_string(), columns=columns).as_string()
        return composed("CREATE INDEX{} ON {} ({});", sql.SQL(_how(facts)), table, on).as_string()

    async def triggers(self, found: Triggers | SourceError) -> Finding:
        never = untriggered(self.facts.kind, self._version)
        if never is not None:
            return self._found("triggers/never-fire", never.remedy, table=self.facts.qualified, reason=never.reason)
        installed = _found_triggers(found)
        objects, wrong = installed.of(self._name), installed.problems(self._name, self._watch)
        if not wrong:
            return self._found("triggers/fire")
        remedy, enable = None, f"ENABLE {'ALWAYS ' if self._watch.capture.replicated else ''}TRIGGER"
        amiss = [each for each in objects if each.state not in {"ok", "left over"}]
        if amiss and all(each.state == "disabled" for each in amiss):
            remedy = "\n".join(f"ALTER TABLE {each.table} {enable} {written(each.name)};" for each in amiss)
        return self._found("triggers/wrong", remedy, problems="; ".join(wrong))


def _undeclared(depends_on: tuple[str, ...] | None, columns: tuple[str, ...]) -> str | None:
    """What is wrong with an expression's `depends_on`, given the columns that it uses."""
    if depends_on is None:
        return "has no depends_on"
    lacking = [name for name in columns if name not in depends_on]
    return f"uses {_listed(lacking)}, which its depends_on lacks" if lacking else None


def _as_yaml(columns: dict[str, tuple[str, ...]]) -> str:
    """The keys `depends_on` of these places, to put beside each `sql`."""
    document: dict[str, Any] = {}
    for place, names in columns.items():
        section, _, field = place.partition(".")
        parent = document.setdefault(section, {}) if field else document
        parent[field or section] = {"depends_on": list(map(written, names))}
    dumped: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None)
    return f"# in the watch, beside each sql:\n{dumped.rstrip()}"


def _how(table: TableFacts) -> str:
    """PostgreSQL builds no index CONCURRENTLY on a partitioned table."""
    return "" if table.kind == _PARTITIONED else " CONCURRENTLY"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(written, names))


def _like(part: str) -> str:
    return sql.Literal(f"%{part}%").as_string()

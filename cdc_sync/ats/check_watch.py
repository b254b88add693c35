"""Checks of one watch, without those that depend on a failed one."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import yaml
from psycopg import errors, sql

from cdc_sync.ats import expressions, row_security
from cdc_sync.ats.check_plans import id_index, key_index, watermark_index
from cdc_sync.ats.check_status import is_label
from cdc_sync.ats.checked import PARTITIONED, TABLES, Asking, Checked, Shared, found, how, like, listed
from cdc_sync.ats.connection import Connection, on_own_path, rows_of, rows_on_own_path
from cdc_sync.ats.depends_on import used, why_not
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.expressions import SideTable, catalog, composed, render, sections
from cdc_sync.ats.facts import TableFacts, asking_shortly, look_up, table_facts
from cdc_sync.ats.granting import granting, missing_grants
from cdc_sync.ats.mapping import Mapping
from cdc_sync.ats.recorders import PARTITIONED_SINCE, untriggered
from cdc_sync.ats.session import being_captured
from cdc_sync.config import Config, PlainColumn, SqlColumn, Watch
from cdc_sync.config.watch import Related
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.core.identifiers import written

_REFERRED_SINCE = 120000
"""The first version in which a foreign key may lead to a partitioned table."""


async def check_watch(connection: Connection, name: str, watch: Watch, shared: Shared, report: Tell) -> None:
    """Report on a watch, one precondition after the other."""
    one = Checked(connection, name, watch)
    asking = Asking(one, report)
    try:
        if await asking.holds("table", f"looking up the table {watch.table}", _look_up):
            await _check_table(one, asking, shared, report)
    finally:
        await asking.end()


async def _check_table(one: Checked, asking: Asking, shared: Shared, report: Tell) -> None:
    looking = f"looking up the table {one.watch.table}"
    for related in one.watch.related:
        await asking.holds("related", f"looking up the table {related.table}", partial(_related, related=related))
    if incomplete := _columns(one):
        report(incomplete)
    else:
        await asking.end()
        if (finding := await _depends_on(one)) is not None:
            report(finding)
    await asking.holds("status", looking, partial(is_label, shared=shared))
    await asking.holds("key", looking, _key)
    await asking.holds("privileges", "looking up privileges", _privileges)
    if incomplete:
        return
    if one.may_read:
        await _check_reading(asking, str(one.watch.table))
    # With missing columns they would look outdated.
    if one.watch.capture.needs.log:
        await asking.holds("triggers", "looking for the triggers", partial(_triggers, shared=shared))


async def _check_reading(asking: Asking, table: str) -> None:
    # A transaction of their own: policies are found by its locks.
    await asking.end()
    if await asking.holds("columns", f"preparing to read {table}", _types):
        await asking.holds("row-security", f"reading no rows of {table}", _policies)
        explaining = "asking how rows would be found"
        await asking.holds("key-index", explaining, key_index)
        await asking.holds("application-id-index", explaining, id_index)
        await asking.holds("watermark-index", explaining, watermark_index)
        await asking.holds("account-ids", f"reading the ids of {table}", _ids_of_accounts)


async def check_left_over(connection: Connection, config: Config, shared: Shared, report: Tell) -> None:
    """Report triggers of watches that are not configured in notify mode.

    They may be another installation's; otherwise they keep filling the log.
    """
    try:
        left_over = shared.triggers.left_over
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


async def _look_up(one: Checked) -> Finding:
    one.facts = await table_facts(one.connection, one.watch.table)
    return one.found("table/there", table=one.facts.qualified)


async def _related(one: Checked, related: Related) -> Finding:
    seen = await look_up(one.connection, related.table)
    if seen is None:
        return one.found("related/missing", table=related.table, similar=like(related.table.name))
    named = [(f"related ({related.table}): key", column) for column in related.key]
    named += [(f"related ({related.table}): columns", column) for column in related.columns]
    if missing := one.missing("related", named, seen):
        return missing
    unseen = [name for name in related.columns if name in seen.virtual]
    if unseen and one.watch.capture.needs.log:
        return one.found("related/unseen", table=related.table, columns=listed(unseen))
    for side in _side_tables(one.watch):
        if expressions.same(side.table, related.table) and (wrong := await _side_table(one, side, seen)):
            return wrong
    return one.found("related/there", table=related.table)


def _side_tables(watch: Watch) -> Iterator[SideTable]:
    for mapped in (watch.columns.application_id, watch.columns.status_url):
        side = expressions.side_table(watch, mapped)
        if side is not None:
            yield side


async def _side_table(one: Checked, side: SideTable, seen: TableFacts) -> Finding | None:
    """Whether a row can have several ids, or an id outlives its row."""
    shown, watched = seen.qualified, one.facts
    if not any(set(unique) <= set(side.key) for unique in seen.unique):
        return one.found("related/several-ids", table=shown, names=listed(side.key), how=how(seen))
    if watched.kind not in TABLES or (watched.kind == PARTITIONED and one.version < _REFERRED_SINCE):
        return None  # no foreign key can lead to it
    keys = await rows_of(one.connection, catalog("foreign_keys"), [seen.oid, watched.oid])
    actions = {name: action for name, action, columns in keys if set(columns) == set(side.key)}
    if "c" in actions.values():
        return None
    return one.found(
        f"related/{'kept' if {'a', 'r'} & set(actions.values()) else 'stays'}",
        table=shown,
        key=listed(side.key),
        watched=watched.qualified,
        watched_key=listed(one.watch.key),
        drop="".join(f"DROP CONSTRAINT {written(name)}, " for name in actions),
    )


def _columns(one: Checked) -> Finding | None:
    """Whether every named column exists."""
    named = [(f"key[{number}]", column) for number, column in enumerate(one.watch.key)]
    for place, mapped in expressions.by_place(one.watch).items():
        named += [(place, column) for column in expressions.columns_of(mapped) or ()]
    if (watermark := one.watch.capture.needs.watermark) is not None:
        named.append(("capture.watermark", watermark))
    return one.missing("columns", named, one.facts)


async def _depends_on(one: Checked) -> Finding | None:
    """Whether depends_on has what PostgreSQL finds in each expression; in transactions of its own."""
    mapped = expressions.by_place(one.watch)
    expected = {place: each for place, each in mapped.items() if isinstance(each, SqlColumn)}
    columns: dict[str, tuple[str, ...]] = {}
    try:
        for place, each in expected.items():
            columns[place], _ = await used(one.connection, one.facts, each)
    except SourceError as error:
        return one.found("depends-on/unknown", reason=why_not(error))
    return _declared(one, expected, columns) if expected else None


def _declared(one: Checked, expected: dict[str, SqlColumn], columns: dict[str, tuple[str, ...]]) -> Finding:
    compared = expressions.compared_by_place(one.watch) if one.watch.capture.needs.log else {}
    problems = {
        place: problem
        for place, each in expected.items()
        if place in compared and (problem := _undeclared(each.depends_on, columns[place]))
    }
    if problems:
        remedy = _as_yaml({place: columns[place] for place in problems})
        shown = "; ".join(f"{place} {problem}" for place, problem in problems.items())
        return one.found("depends-on/wrong", remedy, problems=shown)
    if optional := [place for place, each in expected.items() if each.depends_on is None]:
        shown = "; ".join(f"{place}: [{listed(columns[place])}]" for place in optional)
        return one.found("depends-on/optional", columns=shown)
    return one.found("depends-on/named")


async def _key(one: Checked) -> Finding | None:
    key, table = one.watch.key, one.facts
    if not set(key) <= set(table.columns):
        return None  # reported already
    about: dict[str, Any] = {"table": table.qualified, "names": listed(key), "how": how(table)}
    if table.kind not in TABLES:
        return one.found("key/not-of-a-table", **about)
    if table.kind == PARTITIONED and one.version < PARTITIONED_SINCE:
        return one.found("key/of-partitions", **about)
    if not any(set(unique) <= set(key) for unique in table.unique):
        return one.found("key/not-unique", **about)
    if nullable := [written(name) for name in key if name not in table.not_null]:
        set_ = (f"ALTER TABLE {table.qualified} ALTER COLUMN {name} SET NOT NULL;" for name in nullable)
        return one.found("key/nullable", "\n".join(set_), names=", ".join(nullable))
    return one.found("key/unique", **about)


async def _privileges(one: Checked) -> Finding:
    """Whether the role has what it needs; `may_read` if it lacks rights on our own objects only."""
    missing = [line for (line,) in await rows_of(one.connection, missing_grants(one.name, one.watch))]
    ours = ("cdc_sync.", "GRANT USAGE ON SCHEMA cdc_sync ")
    one.may_read = all(any(part in line for part in ours) for line in missing)
    if missing:
        return one.found("privileges/lacking", "\n".join(missing), number=len(missing))
    return one.found("privileges/enough")


async def _types(one: Checked) -> Finding:
    """Whether the daemon could read the table."""
    try:
        one.mapping = await Mapping.prepare(one.connection, one.watch, one.facts)
    except SourceError as error:
        if not isinstance(error.__cause__, errors.InsufficientPrivilege):
            raise
        user = sql.Identifier(one.connection.info.user)
        grant = granting(one.facts.qualified, "SELECT", (), user)[-1]
        if set(one.facts.readable) == one.facts.columns.keys():
            # An expression uses a function or a table, which the server names.
            grant = render("GRANT USAGE ON SCHEMA … TO {};   -- or SELECT, or EXECUTE, on what is named", user)
        return one.found("columns/not-granted", grant, reason=error.message)
    return one.found("columns/fit", number=len(one.facts.columns))


async def _policies(one: Checked) -> Finding:
    await on_own_path(one.connection, one.statements.first_page, [0])
    if hides := await row_security.hiding(one.connection):
        scripts = "\n".join(each.script for each in hides)
        return one.found("row-security/hides", scripts, reason=row_security.warning(hides))
    return one.found("row-security/none")


async def _ids_of_accounts(one: Checked) -> Finding | None:
    """Whether rows of several accounts have the same id."""
    columns = one.watch.columns
    identified = columns.application_id or columns.status_url
    if columns.account is None or identified is None:
        return None
    if isinstance(identified, PlainColumn) and (identified.name,) in one.facts.unique:
        return one.found("account-ids/unique")
    in_scope = sql.SQL("TRUE") if one.watch.where is None else expressions.expression(one.watch.where)
    parts = map(expressions.expression, (identified, columns.account))
    query = composed(sections("reading.sql")["ids_of_accounts"], one.mapping.table, in_scope, *parts)
    try:
        ((number, example),) = await rows_on_own_path(one.connection, query, [])
    except SourceError as error:
        return one.found("account-ids/unknown", reason=error.message)
    return (
        one.found("account-ids/repeated", number=number, example=example) if number else one.found("account-ids/unique")
    )


async def _triggers(one: Checked, shared: Shared) -> Finding:
    never = untriggered(one.facts.kind, one.version)
    if never is not None:
        return one.found("triggers/never-fire", never.remedy, table=one.facts.qualified, reason=never.reason)
    if unseen := [name for name in expressions.compared(one.watch).columns if name in one.facts.virtual]:
        return one.found("triggers/unseen", table=one.facts.qualified, columns=listed(unseen))
    objects, wrong = shared.triggers.of(one.name), shared.triggers.problems(one.name, one.watch)
    if not wrong:
        return one.found("triggers/fire")
    remedy, enable = None, f"ENABLE {'ALWAYS ' if one.watch.capture.replicated else ''}TRIGGER"
    amiss = [each for each in objects if each.state not in {"ok", "left over"}]
    if amiss and all(each.state == "disabled" for each in amiss):
        remedy = "\n".join(f"ALTER TABLE {each.table} {enable} {written(each.name)};" for each in amiss)
    return one.found("triggers/wrong", remedy, problems="; ".join(wrong))


def _undeclared(depends_on: tuple[str, ...] | None, columns: tuple[str, ...]) -> str | None:
    """What is wrong with an expression's `depends_on`, given the columns that it uses."""
    if depends_on is None:
        return "has no depends_on"
    lacking = [name for name in columns if name not in depends_on]
    return f"uses {listed(lacking)}, which its depends_on lacks" if lacking else None


def _as_yaml(columns: dict[str, tuple[str, ...]]) -> str:
    """The keys `depends_on` of these places, to put beside each `sql`."""
    document: dict[str, Any] = {}
    for place, names in columns.items():
        section, _, field = place.partition(".")
        parent = document.setdefault(section, {}) if field else document
        parent[field or section] = {"depends_on": list(map(written, names))}
    dumped: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None)
    return f"# in the watch, beside each sql:\n{dumped.rstrip()}"

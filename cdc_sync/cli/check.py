"""`cdc-sync check`: every precondition, with its remedy; and `labels`: of the ATS's status column."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import typer
from psycopg import sql
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cdc_sync.ats.check import check_database
from cdc_sync.ats.connection import POSITION, asking, connected, rows_on_own_path
from cdc_sync.ats.discovery import discover
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import hosts_of, table_facts
from cdc_sync.ats.mapping import Mapping
from cdc_sync.cli.check_endpoint import check_endpoint
from cdc_sync.cli.check_store import check_identity, check_known_twice, check_store, stored_positions
from cdc_sync.cli.console import console, print_table
from cdc_sync.cli.context import JsonOption, WatchOption, chosen, configured, print_json, say, suspicious, with_tenants
from cdc_sync.config import Config, ConfigurationError, Problem
from cdc_sync.config.dsn import encryption
from cdc_sync.config.meanings import code_meant, is_bare_number, known
from cdc_sync.config.models import watch_rules
from cdc_sync.config.sessions import sessions_at_server
from cdc_sync.config.tenants import tenants_named, unused_overrides
from cdc_sync.core.conditions import REMEDY, ZONE
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.core.rows import StatusRules, map_status
from cdc_sync.core.watch_names import MOST_LISTED, SEPARATOR, listed
from cdc_sync.store.errors import elsewhere, keys, watch_moved
from cdc_sync.store.opening import opened_beside
from cdc_sync.store.protocol import FROM_DATABASE
from cdc_sync.wall_clock import wall_clock

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}

_MOST = 1_000
"""Most labels of a watch beside status.map's: a column with more is no status."""

_SCRIPT = re.compile(r"\bcdc-sync sql (install|uninstall|grants|verify)\b(?! --(database|store))")
"""A command on one database."""

_COUNT = """
SELECT * FROM (SELECT {label} AS label, pg_catalog.count(*) AS number FROM {table} WHERE {scope} GROUP BY 1) AS counted
 ORDER BY coalesce(pg_catalog.btrim(label::text), '') OPERATOR(pg_catalog.=) ''
          OR label::text OPERATOR(pg_catalog.=) ANY (%s::text[]) DESC, number DESC
 LIMIT {most}
"""

_NOTHING = {
    "ignore": "nothing (status.unmapped)",
    "dead-letter": "nothing: a dead letter",
    "skip": "nothing: a row without a status cannot be reported",
}


def check(
    context: typer.Context,
    as_json: JsonOption = False,
    watch: WatchOption = None,
) -> None:
    """Check every precondition, with the remedy for each that fails. Safe while the daemon runs; changes nothing."""
    report = _Report(shows=not as_json)
    tell = report.tell
    try:
        config = configured(context)
    except ConfigurationError as error:
        if as_json:
            print_json([_facts(_configuration("failed", problem)) for problem in error.problems])
        raise
    tell(Finding("configuration", "ok", f"{context.obj} is valid"))
    for warning in suspicious(config, context.obj):
        tell(_configuration("warning", warning))
    config = asyncio.run(_find_tenants(config, tell))
    with report.about(chosen(config, watch)) as names:
        asyncio.run(_check(config, tell, names))
    if as_json:
        print_json(list(map(_facts, report.findings)))
    else:
        console.print(report.summary())
    if any(finding.state == "failed" for finding in report.findings):
        raise typer.Exit(1)


class _Report:
    """Collects findings, and shows them; of many watches only those not ok."""

    def __init__(self, *, shows: bool) -> None:
        self.findings: list[Finding] = []
        self._shows = shows
        self._many: Collection[str] = ()
        self._begun: set[str] = set()
        self._advance: Callable[[], object] = list

    @contextmanager
    def about(self, names: list[str]) -> Iterator[list[str]]:
        """Expect findings on these watches; a terminal shows the progress through many."""
        self._many = frozenset(names) if len(names) > MOST_LISTED else ()
        if not (self._many and self._shows and console.is_terminal):
            yield names
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            self._advance = partial(progress.advance, progress.add_task("watches", total=len(names)))
            yield names

    def tell(self, finding: Finding) -> None:
        """Collect a finding."""
        self.findings.append(finding)
        is_one_of_many = finding.watch in self._many
        if finding.watch is not None and is_one_of_many and finding.watch not in self._begun:
            self._begun.add(finding.watch)
            self._advance()
        if self._shows and (finding.state != "ok" or not is_one_of_many):
            _show(finding)

    def summary(self) -> str:
        """The numbers."""
        states = Counter(finding.state for finding in self.findings)
        total = f"{len(self.findings)} checks: {states['failed']} failed, {states['warning']} warning(s)"
        sick = {finding.watch for finding in self.findings if finding.watch in self._many and finding.state != "ok"}
        well = f"; all is well with {len(self._many) - len(sick):,} of {len(self._many):,} watches"
        return total + (well if self._many else "")


async def _find_tenants(config: Config, tell: Tell) -> Config:
    """The configuration with tenants' watches; reports on templates."""
    known: Collection[str] = ()
    if config.templates:
        with suppress(StoreError):  # there is a finding about it
            async with opened_beside(config) as store:
                known = await store.report.counts()
    found = await discover(config, known)
    for error in found.unasked.values():
        tell(Finding("tenants", "failed", f"tenants cannot be looked for: {error.message}", "Repair that first."))
    for name, reason in found.refused.items():
        tell(
            Finding(
                "tenants", "failed", f"the tenant is not watched: {reason}", "Repair that; nothing else waits.", name
            )
        )
    for template, tenants in tenants_named(config, found.config.watches).items() if not found.unasked else ():
        if tenants or any(name.startswith(f"{template}{SEPARATOR}") for name in found.refused):
            tell(Finding("tenants", "ok", f"{len(tenants)} tenant(s) have a watch", None, template))
        else:
            wrong = "no schema that matches for_each.schemas has the table"
            tell(Finding("tenants", "warning", wrong, "Is the pattern right, and the table's name?", template))
    there = (*found.config.watches, *found.refused)
    for template, unused in unused_overrides(config, there).items() if not found.unasked else ():
        wrong = f"overrides name tenants that there are not: {listed(unused)}"
        tell(Finding("tenants", "warning", wrong, "Is a name misspelt?", template))
    return found.config


def _configuration(state: State, problem: Problem) -> Finding:
    place = problem.path or "the file"
    return Finding("configuration", state, str(problem), problem.remedy or f"Correct {place} in the configuration.")


def _facts(finding: Finding) -> dict[str, Any]:
    """A finding for programs; `database` only if there are several."""
    return {name: value for name, value in asdict(finding).items() if name != "database" or value is not None}


def _show(finding: Finding) -> None:
    about = " ".join(filter(None, (finding.database, finding.watch, finding.check)))
    console.print(f"{finding.state:7}  ", style=_STYLES[finding.state], end="")
    say(f"{about}: {finding.message}")
    for line in (finding.remedy or "").splitlines():
        say(f"         → {line}")


async def _check(config: Config, tell: Tell, only: Collection[str]) -> None:
    """Check everything."""
    several = len(config.all_databases) > 1
    dsns = {name: f"{config.section_of(name)}.dsn" for name in config.all_databases}
    tells = {name: partial(_of_database, tell, name, dsn) if several else tell for name, dsn in dsns.items()}
    # Before connecting, which sends the password.
    if config.state.backend == "postgres" and config.state.dsn is not None:
        tell(encryption("store-encryption", "state.dsn", config.state.dsn.get_secret_value()))
    for name, section in config.all_databases.items():
        tells[name](encryption("encryption", dsns[name], section.dsn.get_secret_value()))
    bound = await check_store(config, tell)
    await check_known_twice(config, tell, only)
    for name, telling in tells.items():
        await _check_database(config, name, telling, None if name else bound, only)
    with suppress(StoreError):  # there is a finding about it
        async with opened_beside(config) as store:
            for condition in await store.operation.conditions():
                # The daemon has seen the dates.
                kind, _, watch = condition.name.partition(" ")
                if kind == ZONE and watch in config.watches:
                    reason = condition.message.removesuffix(f". Remedy: {REMEDY}")
                    tell(Finding("zone", "warning", reason, REMEDY, watch))
    await check_endpoint(config, wall_clock, tell)


def _of_database(tell: Tell, name: str, dsn: str, finding: Finding) -> None:
    """Report a finding on the section `database` under its database and its setting `dsn`."""
    remedy = finding.remedy and finding.remedy.replace("database.dsn", dsn)
    remedy = remedy and _SCRIPT.sub(rf"\g<0> --database {name}", remedy)
    tell(replace(finding, database=name, message=finding.message.replace("database.dsn", dsn), remedy=remedy))


async def _check_database(whole: Config, name: str, tell: Tell, bound: str | None, only: Collection[str]) -> None:
    """Check a database and some watches. `bound`: what the store remembers of `database`."""
    config = whole.of_database(name)
    positions, sessions = await stored_positions(config, POSITION), sessions_at_server(whole, name)
    identity = await check_database(config, wall_clock, tell, positions, sessions, only=only)
    if identity is not None:
        await _check_identity(config, name, identity, tell, bound)


async def _check_identity(config: Config, name: str, identity: str, tell: Tell, bound: str | None) -> None:
    """Check whether the store remembers a database, and each watch's."""
    dsn, why_not, moved = config.database.dsn.get_secret_value(), None, list[Finding]()
    section = config.section_of(name)
    with suppress(StoreError, SourceError):  # there is a finding about it
        async with opened_beside(config) as store:
            bound, hosts = await store.databases.identity(name), await store.databases.hosts(name)
            for watch in config.watches:
                positions = await store.capture.positions(watch)
                was = positions.get(FROM_DATABASE, "") if positions else name
                if was != name and (before := await store.databases.identity(was)) not in {None, identity}:
                    error = watch_moved(watch, was, name, str(before), identity)
                    remedy = f"Correct the watch's database; or with the daemon down: {keys(name, section)['adopt']}"
                    moved.append(Finding("identity", "failed", error.message, remedy, watch))
            if bound == identity:
                async with connected(dsn) as connection:
                    why_not = elsewhere(identity, hosts, hosts_of(dsn, connection), name, section)
    tell(check_identity(bound, identity, why_not, name, section))
    for finding in moved:
        tell(finding)


def labels(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show each label of the status column, how many rows have it, and what is sent for it. Reads no other column."""
    config, found = with_tenants(configured(context), watch), list[dict[str, Any]]()
    names = chosen(config, watch)
    for database, section in config.all_databases.items():
        of_database = [name for name in names if config.database_name(name) == database]
        if of_database:
            found += asyncio.run(labels_of(section.dsn.get_secret_value(), config, of_database))
    if as_json:
        print_json(found)
    else:
        show_labels(found)


async def labels_of(dsn: str, config: Config, names: Iterable[str]) -> list[dict[str, Any]]:
    """The statuses' labels, the most frequent first, status.map's without rows last. Raises `SourceError`."""
    found: list[dict[str, Any]] = []
    async with connected(dsn) as connection:
        for name in names:
            watch, rules = config.watches[name], watch_rules(config, name).status
            mapping = await Mapping.prepare(connection, watch, await table_facts(connection, watch.table))
            query = sql.SQL(_COUNT).format(
                label=mapping.expressions["columns.status"],
                table=mapping.table,
                scope=mapping.scope,
                most=_MOST + len(rules.map),
            )
            async with asking(f"counting the labels of {watch.table}"):
                rows = await rows_on_own_path(connection, query, (list(rules.map),))
            counts: Counter[str] = Counter()
            for label, number in rows:
                # As in `map_status`, NULL and blanks are one label.
                counts["" if label is None or label.isspace() else label] += number
            in_order = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
            found += [_item(name, rules, *counted) for counted in in_order]
            found += [_item(name, rules, label, 0) for label in rules.map if label not in counts]
    return found


def _item(watch: str, rules: StatusRules, label: str, rows: int) -> dict[str, Any]:
    action, sent = "ignore", None
    if (mapped := map_status(rules, label)) is not None:
        status, refused = mapped
        action = "dead-letter" if refused is not None else "send" if status else "skip"
        sent = status if action == "send" else None
    return {
        "watch": watch,
        "label": label,
        "rows": rows,
        "action": action,
        "sent": sent,
        "mapped": label in rules.map,
        "hellowork_status": sent in known("hellowork"),
    }


def show_labels(found: list[dict[str, Any]]) -> None:
    """Print labels as a table."""
    rows = []
    for item in found:
        remarks = [] if item["rows"] else ["no row has it"]
        if item["hellowork_status"]:
            remarks.append("HelloWork's own")
        elif item["sent"] and (code := code_meant(item["sent"])):
            remarks.append(f"HelloWork writes {code}")
        elif item["sent"] and is_bare_number(item["sent"]):
            remarks.append("a number is no label")
        label, sent = item["label"] or "(NULL or blank)", item["sent"] or _NOTHING[item["action"]]
        mapped = "yes" if item["mapped"] else ""
        rows.append((item["watch"], label, item["rows"], sent, mapped, "; ".join(remarks)))
    print_table(("watch", "label", "rows", "sent", "in status.map", "remark"), rows)

"""`cdc-sync check`: every precondition, with its remedy."""

import re
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import typer

from cdc_sync.ats.check import check_database
from cdc_sync.cli.check_endpoint import check_endpoint
from cdc_sync.cli.check_store import check_identity, check_store, logged
from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, chosen, configured, print_json, say, suspicious
from cdc_sync.config import Config, ConfigurationError, Problem
from cdc_sync.config.dsn import encryption
from cdc_sync.config.sessions import sessions_at_server
from cdc_sync.config.tenants import tenants_named
from cdc_sync.core.events import Event
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.daemon.process import Process
from cdc_sync.daemon.tenants import Tenants
from cdc_sync.store.opening import opened_beside
from cdc_sync.wall_clock import wall_clock

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}

_SCRIPT = re.compile(r"\bcdc-sync sql (install|uninstall|grants|verify)\b(?! --(database|store))")
"""A command on one database."""


async def check(context: typer.Context, as_json: JsonOption = False, watch: WatchOption = None) -> None:
    """Check every precondition, with the remedy for each that fails. Safe while the daemon runs; changes nothing."""
    report = Report(shows=not as_json)
    try:
        config = configured(context)
    except ConfigurationError as error:
        if as_json:
            print_json([_facts(_configuration("failed", problem)) for problem in error.problems])
        raise
    report.tell(Finding("configuration", "ok", f"{context.obj} is valid"))
    for warning in suspicious(config, context.obj):
        report.tell(_configuration("warning", warning))
    await _check(config, watch, report)
    states = Counter(finding.state for finding in report.findings)
    if as_json:
        print_json(list(map(_facts, report.findings)))
    else:
        say(f"{states.total()} checks: {states['failed']} failed, {states['warning']} warning(s)")
    if states["failed"]:
        raise typer.Exit(1)


class Report:
    """Collects findings, and shows them; of `many` watches only those not ok."""

    def __init__(self, *, shows: bool) -> None:
        self.findings: list[Finding] = []
        self.many: Collection[str] = ()
        self._shows = shows

    def tell(self, finding: Finding) -> None:
        """Collect a finding."""
        self.findings.append(finding)
        if self._shows and (finding.state != "ok" or finding.watch not in self.many):
            _show(finding)


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


async def _check(config: Config, watch: str | None, report: Report) -> None:
    """Check everything."""
    tell = report.tell
    config, refused = await _find_tenants(config, tell)
    only = chosen(config, watch)
    report.many = only if len(only) > MOST_LISTED else ()
    if config.state.backend == "postgres" and config.state.dsn is not None:
        tell(encryption("store-encryption", "state.dsn", config.state.dsn.get_secret_value()))
    positions = await check_store(config, tell, only, refused)
    for name, database in config.all_databases.items():
        tell_of_it = partial(of_database, tell, config, name)
        tell_of_it(encryption("encryption", f"{config.section_of(name)}.dsn", database.dsn.get_secret_value()))
        of_it, sessions = config.of_database(name), sessions_at_server(config, name)
        read = {watch: position for watch, position in positions.items() if watch in of_it.watches}
        if await check_database(of_it, wall_clock, tell_of_it, read, sessions, only=only) is not None:
            await check_identity(config, name, tell_of_it)
    await check_endpoint(config, tell)


async def _find_tenants(config: Config, tell: Tell) -> tuple[Config, Collection[str]]:
    """Look for tenants as the daemon does; returns the configuration with their watches, and those that have none."""
    process = Process(config, [lambda: {Event: lambda event: tell(logged("tenants", event))}], say, dry_run=True)
    tenants, known = Tenants(process), list[str]()
    with suppress(StoreError):  # there is a finding about it
        async with opened_beside(config) as store:
            known = list(await store.report.counts())
    config = await tenants.look(config, known)
    for template, found in tenants_named(config, config.watches).items():
        if found:
            tell(Finding("tenants", "ok", f"{len(found)} tenant(s) have a watch", None, template))
    return config, tenants.found.refused


def of_database(tell: Tell, config: Config, name: str, finding: Finding) -> None:
    """Report a finding under its database, with its setting and its option, if there are several."""
    if len(config.all_databases) == 1:
        tell(finding)
        return
    dsn = f"{config.section_of(name)}.dsn"
    remedy = finding.remedy and finding.remedy.replace("database.dsn", dsn)
    remedy = remedy and _SCRIPT.sub(rf"\g<0> --database {name}", remedy)
    tell(replace(finding, database=name, message=finding.message.replace("database.dsn", dsn), remedy=remedy))

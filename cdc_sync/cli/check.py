"""`cdc-sync check`: every precondition, with the remedy of each that does not hold."""

import asyncio
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, configured, print_json, say, suspicious
from cdc_sync.cli.labels import judged, labels_of, show_labels
from cdc_sync.config import Config, ConfigurationError, Problem
from cdc_sync.config.dsn import encryption
from cdc_sync.core import database_identity
from cdc_sync.core.conditions import REMEDY, WATERMARK
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.delivery.inspection import check_endpoint
from cdc_sync.pipeline.database import found_elsewhere
from cdc_sync.source.check import check_database
from cdc_sync.source.connection import connected
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import whereabouts
from cdc_sync.source.replica_guard import POSITION
from cdc_sync.store.opening import check_store, opened_beside, stored_positions
from cdc_sync.wall_clock import wall_clock

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


def check(
    context: typer.Context,
    as_json: JsonOption = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Show the status's labels too: reads that column of every row.")
    ] = False,
) -> None:
    """Check every precondition, with the remedy for each that fails. Safe while the daemon runs; changes nothing."""
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _show(finding)

    try:
        config = configured(context)
    except ConfigurationError as error:
        if as_json:
            print_json([asdict(_configuration("failed", problem)) for problem in error.problems])
        raise
    tell(Finding("configuration", "ok", f"{context.obj} is valid"))
    for warning in suspicious(config, context.obj):
        tell(_configuration("warning", warning))
    counted = asyncio.run(_check(config, tell, labels=labels))
    states = [finding.state for finding in findings]
    if as_json:
        print_json(list(map(asdict, findings)))
    else:
        if counted:
            show_labels(counted)
        failed, warned = states.count("failed"), states.count("warning")
        console.print(f"{len(states)} checks: {failed} failed, {warned} warning(s)")
    if "failed" in states:
        raise typer.Exit(1)


def _configuration(state: State, problem: Problem) -> Finding:
    place = problem.path or "the file"
    return Finding("configuration", state, str(problem), problem.suggestion or f"Correct {place} in the configuration.")


def _show(finding: Finding) -> None:
    about = finding.check if finding.watch is None else f"{finding.watch} {finding.check}"
    console.print(f"{finding.state:7}  ", style=_STYLES[finding.state], end="")
    say(f"{about}: {finding.message}")
    for line in (finding.remedy or "").splitlines():
        say(f"         → {line}")


async def _check(config: Config, tell: Tell, *, labels: bool) -> list[dict[str, Any]]:
    """Tell of everything; returns the labels, if they are wanted."""
    dsn, counted = config.database.dsn.get_secret_value(), list[dict[str, Any]]()
    # Beforehand, since to connect is to log in.
    if config.state.backend == "postgres" and config.state.dsn is not None:
        tell(encryption("store-encryption", "state.dsn", config.state.dsn.get_secret_value()))
    tell(encryption("encryption", "database.dsn", dsn))
    bound = await check_store(config, tell)
    found = await check_database(config, wall_clock, tell, await stored_positions(config, POSITION))
    if found is not None:
        tell(database_identity.judged(bound, found, await _elsewhere(config, found) if bound == found else None))
        for watch in config.watches if labels else ():
            try:
                own = await labels_of(dsn, config, [watch])
            except SourceError as error:
                tell(Finding("labels", "failed", error.message, "Repair what failed above, then check again.", watch))
            else:
                tell(judged(watch, own))
                counted += own
    with suppress(StoreError):  # what is wrong with the store is among the findings
        async with opened_beside(config, read_only=True) as store:
            for condition in await store.conditions():
                # What the daemon has seen of the watermarks of watches that poll.
                kind, _, watch = condition.name.partition(" ")
                if kind == WATERMARK and watch in config.watches:
                    reason = condition.message.removesuffix(f". Remedy: {REMEDY}")
                    tell(Finding("watermark", "warning", reason, REMEDY, watch))
    await check_endpoint(config.hellowork, wall_clock, tell)
    return counted


async def _elsewhere(config: Config, identity: str) -> str | None:
    """Why the database may be a copy of the store's, though it has its identity; None if it is not."""
    dsn = config.database.dsn.get_secret_value()
    with suppress(StoreError, SourceError):  # what is wrong is among the findings
        async with opened_beside(config, read_only=True) as store, connected(dsn) as connection:
            here = await whereabouts(dsn, connection)
            return await found_elsewhere(await store.hosts(), identity, dsn, here, connection)
    return None

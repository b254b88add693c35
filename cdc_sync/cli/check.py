"""`cdc-sync check`: every precondition, with the remedy of each that does not hold; and `cdc-sync adopt-database`."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, invocation, print_json, record, say
from cdc_sync.cli.labels import judged, labels_of, show_labels
from cdc_sync.config import Config, ConfigurationError, Problem
from cdc_sync.config.dsn import encryption
from cdc_sync.core import database_identity
from cdc_sync.core.conditions import REMEDY, WATERMARK
from cdc_sync.core.database_identity import Whereabouts
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.delivery.inspection import check_endpoint
from cdc_sync.pipeline.database import found_elsewhere
from cdc_sync.pipeline.watch import positions_elsewhere
from cdc_sync.source.check import check_database
from cdc_sync.source.connection import asking, connected
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import server_facts, whereabouts
from cdc_sync.source.replica_guard import POSITION, ReplicaGuard, ask
from cdc_sync.store.opening import check_store, opened_alone, opened_beside, stored_positions
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
    called = invocation(context)
    try:
        config = called.config()
    except ConfigurationError as error:
        if as_json:
            print_json([asdict(_configuration("failed", problem)) for problem in error.problems])
        raise
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _show(finding)

    tell(Finding("configuration", "ok", f"{called.config_path} is valid"))
    for warning in called.warnings(config):
        tell(_configuration("warning", warning))
    counted = asyncio.run(_check(config, tell, labels=labels))
    failed = sum(finding.state == "failed" for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        if counted:
            show_labels(counted)
        warned = sum(finding.state == "warning" for finding in findings)
        console.print(f"{len(findings)} checks: {failed} failed, {warned} warning(s)")
    if failed:
        raise typer.Exit(1)


async def _check(config: Config, tell: Tell, *, labels: bool) -> list[dict[str, Any]]:
    """Tell of everything; returns the labels, if they are wanted."""
    # Beforehand, since to connect is to log in.
    if config.state.backend == "postgres" and config.state.dsn is not None:
        tell(encryption("store-encryption", "state.dsn", config.state.dsn.get_secret_value()))
    tell(encryption("encryption", "database.dsn", config.database.dsn.get_secret_value()))
    bound = await check_store(config, tell)
    found = await check_database(config, wall_clock, tell, await stored_positions(config, POSITION))
    if found is not None:
        tell(database_identity.judged(bound, found, await _elsewhere(config, found) if bound == found else None))
    counted = (
        [item for name in config.watches for item in await _labels(config, name, tell)] if labels and found else []
    )
    await _check_watermarks(config, tell)
    await check_endpoint(config.hellowork, wall_clock, tell)
    return counted


async def _labels(config: Config, watch: str, tell: Tell) -> list[dict[str, Any]]:
    try:
        async with connected(config.database.dsn.get_secret_value()) as connection:
            found = await labels_of(connection, config, watch)
    except SourceError as error:
        tell(Finding("labels", "failed", error.message, "Repair what failed above, then check again.", watch))
        return []
    tell(judged(watch, found))
    return found


async def _check_watermarks(config: Config, tell: Tell) -> None:
    """Tell what the daemon has seen of the watermarks of watches that poll."""
    with suppress(StoreError):  # what is wrong with the store is among the findings
        async with opened_beside(config, read_only=True) as store:
            for condition in await store.conditions():
                kind, _, watch = condition.name.partition(" ")
                if kind == WATERMARK and watch in config.watches:
                    reason = condition.message.removesuffix(f". Remedy: {REMEDY}")
                    tell(Finding("watermark", "warning", reason, REMEDY, watch))


async def _elsewhere(config: Config, identity: str) -> str | None:
    """Why the database may be a copy of the store's, though it has its identity; None if it is not."""
    dsn = config.database.dsn.get_secret_value()
    try:
        async with opened_beside(config, read_only=True) as store, connected(dsn) as connection:
            here = await whereabouts(dsn, connection)
            return await found_elsewhere(await store.hosts(), identity, dsn, here, connection)
    except (StoreError, SourceError):
        return None  # what is wrong is among the findings


def _configuration(state: State, problem: Problem) -> Finding:
    place = problem.path or "the file"
    return Finding("configuration", state, str(problem), problem.suggestion or f"Correct {place} in the configuration.")


def _show(finding: Finding) -> None:
    about = finding.check if finding.watch is None else f"{finding.watch} {finding.check}"
    console.print(f"{finding.state:7}  ", style=_STYLES[finding.state], end="")
    say(f"{about}: {finding.message}")
    for line in (finding.remedy or "").splitlines():
        say(f"         → {line}")


def adopt_database(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let the store belong to the database that is configured now, after a move or a restore. With the daemon down."""
    asyncio.run(_adopt(invocation(context).config(), sure=yes))


async def _adopt(config: Config, *, sure: bool) -> None:
    dsn = config.database.dsn.get_secret_value()
    async with connected(dsn) as connection, asking("reading the server's identity"):
        identity = (await server_facts(connection)).identity
        position, here = await ask(connection), await whereabouts(dsn, connection)
    async with opened_alone(config) as store:
        bound = await store.identity()
        stored = {watch: await store.positions(watch) for watch in config.watches}
        behind = [watch for watch, positions in stored.items() if _is_behind(positions, position)]
        hosts = await store.hosts()
        async with connected(dsn) as connection:
            why_not = await found_elsewhere(hosts, identity, dsn, here, connection)
        if bound is None or (bound == identity and not behind and why_not is None):
            belongs = "belongs to no database yet: it takes the first" if bound is None else "belongs to it already"
            say(f"Nothing to do: the store {belongs}. ({identity})")
            return
        remembered = f" on {Whereabouts.from_text(hosts)}" if hosts else ""
        say(f"the store belongs to   {bound}{remembered}")
        say(f"database.dsn leads to  {identity} on {here}  ({config.database.shown()})")
        for watch, counts in (await store.counts()).items():
            say(
                f"{watch}: {counts.known} applications known; {counts.pending} pending calls would be sent from now "
                f"on, {counts.held} held, {counts.dead} dead letters",
            )
        for watch in behind:
            say(
                f"{watch}: this server is behind what was read before; that is forgotten, and what it shows is read as "
                f"the present state",
            )
        say(
            "At its next start the daemon compares every row of this database with what HelloWork was told; `cdc-sync "
            "plan`, right after this, shows what it would send. A copy for tests must not take the real store over: "
            "give it a store of its own.",
        )
        if not sure:
            typer.confirm("Let the store belong to this database?", abort=True)
        positions = {watch: positions_elsewhere(of) for watch, of in stored.items()}
        await store.rebind(identity, here.to_text(), positions)
        await record(store, "adopt-database", 1)
    say("done")


def _is_behind(positions: Mapping[str, str], now: str) -> bool:
    """Whether a server is behind what the store has read of a watch."""
    guard = ReplicaGuard()
    guard.load(positions.get(POSITION))
    try:
        guard.check(now)
    except SourceError:
        return True
    return False

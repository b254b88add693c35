"""The store as `cdc-sync check` finds it, read only, by the daemon's own steps; `check_store.yaml` has other texts."""

import os
import shutil
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from cdc_sync.ats.connection import POSITION, connected
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import hosts_of, server_facts
from cdc_sync.cli.context import user
from cdc_sync.config import Config
from cdc_sync.config.models import account_of
from cdc_sync.core.events import Event
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Tell, Texts, check_clock, clock_skew, found
from cdc_sync.daemon.watching import make_database
from cdc_sync.packaged import data
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.opening import opened_beside, place_of
from cdc_sync.wall_clock import wall_clock

_MOST_PAIRS = 20
"""Pairs of watches that are named."""

_LITTLE_SPACE = 2**30
"""Bytes. The store of a million applications takes some hundred MB; a burst adds its log."""

_NOT_YET: dict[str, State] = {"store-missing": "ok", "store-not-set-up": "warning"}
"""Errors of a store that the daemon's start makes, or brings up to date if it may."""


def _found(name: str, watch: str | None = None, **facts: Any) -> Finding:
    return found(cast("Texts", data("cli/check_store.yaml")), name, watch=watch, **facts)


def raised(check: str, error: StoreError, watch: str | None = None) -> Finding:
    """What a step of the daemon raised; the remedy is its last sentence."""
    message, _, remedy = error.message.rpartition(". ")
    state = _NOT_YET.get(error.code, "failed")
    return Finding(check, state, message or remedy, None if state == "ok" else remedy, watch)


def logged(check: str, event: Event) -> Finding:
    """What a step of the daemon writes into the log; the remedy is its last sentence."""
    line, facts = data("daemon/logs.yaml")["lines"][type(event).__name__], dict(vars(event))
    text, watch = line["message"].format(**facts), facts.pop("watch", None)
    message, _, remedy = text.rpartition(". ")
    more = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "message")
    state: State = "failed" if line["level"] == "error" else "warning"
    return Finding(check, state, f"{message or remedy}{f' ({more})' if more else ''}", remedy, watch)


async def check_store(config: Config, tell: Tell, only: Collection[str], refused: Collection[str]) -> dict[str, str]:
    """Report findings about the store; returns the replica positions in it, by watch.

    `only` are the watches to check, `refused` the tenants that have none.
    """
    if config.state.backend == "sqlite":
        files = check_files(config.state.path)
        tell(files)
        if files.state == "failed":
            return {}
    try:
        async with opened_beside(config) as store:
            tell(_found("store/usable", place=place_of(config)))
            await _check_content(config, store, tell, refused)
            await _check_known_twice(config, store, tell, only)
            positions = await store.report.positions_of_all(POSITION)
            return {watch: of[POSITION] for watch, of in positions.items() if watch in config.watches}
    except StoreError as error:
        tell(raised("store", error))
        return {}


def check_files(path: Path) -> Finding:
    """Whether this user may use the store's folder and files, and has space there."""
    folder = path.absolute().parent
    files = [file for suffix in ("", "-wal", "-shm", ".lock") if os.access(file := f"{path}{suffix}", os.F_OK)]
    of_store = [str(folder), *files]
    if unusable := [each for each in of_store if not os.access(each, os.R_OK | os.W_OK, effective_ids=True)]:
        return _found("store/unusable", user=user(), files=" ".join(unusable), folder=folder)
    free = shutil.disk_usage(folder).free
    return _found(f"store-space/{'little' if free < _LITTLE_SPACE else 'enough'}", free=free // 2**20, folder=folder)


async def _check_content(config: Config, store: Store, tell: Tell, refused: Collection[str]) -> None:
    leader = await store.report.leader()
    by = "nobody: no daemon runs" if leader is None else f"the daemon (process {leader.process}) on {leader.host}"
    tell(Finding("store-lock", "ok", f"the store is in use by {by}"))
    for former in await store.report.unconfigured({*config.watches, *refused}):
        tell(logged("store-watches", former))
    if config.state.backend == "postgres":
        before = wall_clock()
        ((theirs, *_),) = await store.driver.ask("clock")
        skew = clock_skew(theirs, before, wall_clock())
        tell(check_clock("store-clock", "the clock of the store's server", skew))


async def _check_known_twice(config: Config, store: Store, tell: Tell, only: Collection[str]) -> None:
    """Report the applications of two watches whose calls have the same account: HelloWork has one of each id."""
    together = defaultdict[str | None, list[str]](list)
    for watch in config.watches:
        together[account_of(config, watch)].append(watch)
    for watches in together.values():
        for each in await store.report.known_twice(watches, _MOST_PAIRS):
            if {each.watch, each.other} & set(only):
                examples = ", ".join(dict.fromkeys([each.example, each.another]))
                tell(_found("store-ids/twice", each.watch, number=each.number, other=each.other, examples=examples))


async def check_identity(config: Config, name: str, tell: Tell) -> None:
    """Report whether a database is the store's, and each watch's, as the daemon recognises it."""
    dsn, wrong = config.all_databases[name].dsn.get_secret_value(), dict[str, Finding]()
    try:
        async with opened_beside(config) as store, connected(dsn) as connection:
            database, bound = make_database(config, name, store), await store.databases.identity(name)
            identity, hosts = (await server_facts(connection)).identity, hosts_of(dsn, connection)
            for watch in config.of_database(name).watches:
                try:
                    await database.recognise(watch, identity, hosts)
                except AnotherDatabaseError as error:
                    of = watch if error.code == "watch-moved" else None
                    wrong[error.message] = raised("identity", error, of)
    except (StoreError, SourceError):
        return  # there is a finding about it
    for finding in wrong.values() or [_found(f"identity/{'bound' if bound else 'unbound'}", identity=identity)]:
        tell(finding)

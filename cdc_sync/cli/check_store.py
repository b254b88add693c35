"""The store as `cdc-sync check` finds it, read only; `check_store.yaml` has the texts."""

import asyncio
import os
import pwd
import shutil
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import psycopg

from cdc_sync.config import Config
from cdc_sync.config.dsn import shown
from cdc_sync.config.models import account_of
from cdc_sync.core.events import WatchUnconfigured
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Tell, check_clock, clock_skew
from cdc_sync.packaged import data
from cdc_sync.store.driver import note
from cdc_sync.store.errors import keys
from cdc_sync.store.leader import leader_in
from cdc_sync.store.opening import opened_beside, store_dsn
from cdc_sync.store.postgres import schema
from cdc_sync.store.postgres.driver import PostgresTransaction
from cdc_sync.store.postgres.scripts import TABLES
from cdc_sync.store.protocol import KnownTwice
from cdc_sync.store.sqlite.driver import run
from cdc_sync.store.sqlite.schema import guarded, holder_of, open_file, version_of
from cdc_sync.store.statements import SCHEMA
from cdc_sync.wall_clock import wall_clock

_MOST_PAIRS = 20
"""Pairs of watches that are named."""

LITTLE_SPACE = 2**30
"""Bytes. The store of a million applications takes some hundred MB; a burst adds its log."""

TOO_LITTLE_SPACE = 64 * 2**20
"""Bytes that a mass change fills."""


async def check_store(config: Config, tell: Tell) -> str | None:
    """Report findings about the store; returns the identity of the database that it belongs to, if any."""
    if config.state.backend == "postgres":
        bound = await check_shared(store_dsn(config), tell)
    else:
        bound = await asyncio.to_thread(check_file, config.state.path, tell)
    with suppress(StoreError):  # it does not exist yet, or its error is reported
        async with opened_beside(config) as store:
            for finding in check_unconfigured(await store.report.unconfigured(config.watches)):
                tell(finding)
    return bound


async def check_known_twice(config: Config, tell: Tell, only: Collection[str]) -> None:
    """Report the applications of two watches whose calls have the same account: HelloWork has one of each id."""
    together = defaultdict[str | None, list[str]](list)
    for watch in config.watches:
        together[account_of(config, watch)].append(watch)
    with suppress(StoreError):  # as above
        async with opened_beside(config) as store:
            for watches in together.values():
                several = await store.report.known_twice(watches, _MOST_PAIRS) if len(watches) > 1 else []
                for finding in check_pairs([each for each in several if {each.watch, each.other} & set(only)]):
                    tell(finding)


async def stored_positions(config: Config, name: str) -> dict[str, str]:
    """One capture position of the configured watches; none if the store cannot be read."""
    with suppress(StoreError):  # as above
        async with opened_beside(config) as store:
            return {watch: at for watch in config.watches if (at := (await store.capture.positions(watch)).get(name))}
    return {}


def check_file(path: Path, tell: Tell) -> str | None:
    """Report findings about the file, its folder, its disk and its lock; returns as `check_store`."""
    folder, user = path.absolute().parent, _user()
    if not _is_folder(folder):
        tell(failed("folder-missing", folder=folder, user=user))
        return None
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        tell(failed("folder-unwritable", folder=folder, user=user))
        return None
    tell(check_disk_space(shutil.disk_usage(folder).free, str(folder)))
    holder = holder_of(path)
    by = "nobody: no daemon runs" if holder is None else f"the daemon (process {holder or 'unknown'})"
    tell(Finding("store-lock", "ok", f"the store is in use by {by}"))
    if not path.exists():
        tell(Finding("store", "ok", f"{path} does not exist yet: the daemon makes it at its first start"))
        return None
    files = [file for suffix in ("", "-wal", "-shm", ".lock") if (file := Path(f"{path}{suffix}")).exists()]
    if unusable := [str(file) for file in files if not os.access(file, os.R_OK | os.W_OK, effective_ids=True)]:
        tell(failed("files-unusable", user=user, files=", ".join(unusable), arguments=" ".join(unusable)))
        return None
    return _check_content(path, tell)


def _check_content(path: Path, tell: Tell) -> str | None:
    try:
        store = open_file(path, "read")
        with guarded(path, store), closing(store):
            version = version_of(store, path)
            bound = run(store, "about", name="database") if version else []
    except StoreError as error:
        message, _, remedy = str(error).rpartition(". ")
        if error.code == "store-unusable":
            message, remedy = str(error), f"sqlite3 {path} 'PRAGMA integrity_check'"
        tell(Finding("store", "failed", message, remedy))
        return None
    tell(usable(str(path), version, SCHEMA))
    return str(bound[0][0]) if bound else None


def _is_folder(folder: Path) -> bool:
    """Whether it exists, or the folder above hides it from us."""
    try:
        return folder.is_dir()
    except PermissionError:
        return True


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


async def check_shared(dsn: str, tell: Tell) -> str | None:
    """Report findings about the database and the daemons; returns as `check_store`."""
    try:
        with schema.translating(dsn):
            async with await schema.connect(dsn) as connection:
                return await _check_schema(connection, dsn, tell)
    except StoreError as error:
        is_refused = isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege)
        tell(failed("refused" if is_refused else "unreachable", what=error))
    return None


async def _check_schema(connection: schema.Connection, dsn: str, tell: Tell) -> str | None:
    transaction = PostgresTransaction(connection)
    store, version = f"the store in {shown(dsn)}", await schema.version_of(connection)
    facts = {"store": store, "version": version, "newest": SCHEMA}

    if version > SCHEMA:
        tell(failed("newer", **facts))
        return None
    if version < SCHEMA and not (await transaction.rows("may_create"))[0][0]:
        tell(failed("not-set-up", **facts))
        return None
    if version == 0:
        tell(Finding("store", "ok", f"{store} does not exist yet: the daemon makes it at its first start"))
        return None
    if refused := [name for (name,) in await transaction.rows("refused", tables=list(TABLES))]:
        tell(failed("tables-refused", tables=", ".join(refused), store=store))
        return None
    if version < SCHEMA:
        tell(usable(store, version, SCHEMA))
        return await note(transaction, "database") or None
    is_led = (await transaction.rows("leads"))[0][0]
    leader = await leader_in(transaction) if is_led else None
    by = "nobody: no daemon runs" if leader is None else f"process {leader.process} on {leader.host}"
    tell(usable(store, version, SCHEMA))
    tell(Finding("store-lock", "ok", f"the store is in use by {by}"))
    before = wall_clock()
    ((theirs,),) = await transaction.rows("clock")
    found = clock_skew(theirs, before, wall_clock())
    tell(check_clock("store-clock", "the clock of the store's server", found))
    return await note(transaction, "database") or None


# The findings.


def failed(name: str, **facts: object) -> Finding:
    """The finding that somebody cannot use the store."""
    return _finding("store", "failed", name, **facts)


def _texts() -> dict[str, dict[str, str]]:
    return cast("dict[str, dict[str, str]]", data("cli/check_store.yaml"))


def _finding(check: str, state: State, name: str, **facts: object) -> Finding:
    message, remedy = (_texts()[name].get(part, "").format(**facts) for part in ("message", "remedy"))
    return Finding(check, state, message, remedy or None)


def check_disk_space(free: int, folder: str) -> Finding:
    """The finding about `free` bytes on a folder's disk."""
    state: State = "failed" if free < TOO_LITTLE_SPACE else "warning" if free < LITTLE_SPACE else "ok"
    return _finding("store-space", state, "space" if state == "ok" else "no-space", free=free // 2**20, folder=folder)


def check_unconfigured(found: Sequence[WatchUnconfigured]) -> list[Finding]:
    """The findings about watches that are no longer configured.

    A removed watch is harmless. A renamed one is another watch: its baseline takes unread changes for acknowledged.
    """
    findings = []
    for one in found:
        finding = _finding("store-watches", "warning", "unconfigured", **vars(one))
        commands = [_texts()[state]["remedy"] for state in ("held", "dead") if getattr(one, state)]
        remedy = "\n".join([finding.remedy or "", *commands]).replace("WATCH", one.watch)
        findings.append(replace(finding, remedy=remedy, watch=one.watch))
    return findings or [_finding("store-watches", "ok", "all-configured")]


def check_pairs(found: Sequence[KnownTwice]) -> list[Finding]:
    """The findings about applications that two watches know."""
    findings = []
    for each in found:
        examples = ", ".join(dict.fromkeys([each.example, each.another]))
        finding = _finding("store-ids", "warning", "twice", number=each.number, other=each.other, examples=examples)
        findings.append(replace(finding, watch=each.watch))
    return findings


def check_identity(
    bound: str | None, found: str, why_not: str | None = None, database: str = "", section: str = "database"
) -> Finding:
    """The finding about the database that the store belongs to.

    `bound` is the identity in the store, `found` the database's; `why_not`: it is another one all the same. The
    configuration's `section` has its `dsn`.
    """
    if bound is None:
        return _finding("identity", "ok", "unbound", found=found)
    if bound == found and why_not is None:
        return _finding("identity", "ok", "bound", found=found)
    another = _finding("identity", "failed", "another", bound=bound, found=found, **keys(database, section))
    return another if why_not is None else replace(another, message=why_not)


def usable(store: str, version: int, newest: int) -> Finding:
    """The finding about a usable store."""
    fit = "can be written, and has this version's schema"
    if version < newest:
        fit = f"has schema {version}; the daemon's next start brings it to {newest}"
    return Finding("store", "ok", f"{store} {fit}")

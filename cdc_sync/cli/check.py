"""`cdc-sync check`: every precondition, with its remedy.

The daemon's own steps are made, and what they raise is reported. `check.yaml` has the other texts.
"""

import os
import re
import ssl
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import typer
from yarl import URL

from cdc_sync import __version__
from cdc_sync.ats.check import check_database
from cdc_sync.ats.connection import REPLICA, connected
from cdc_sync.ats.database import Database
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import hosts_of, server_facts
from cdc_sync.config import Config
from cdc_sync.config.dsn import encryption
from cdc_sync.config.models import account_of, accounts
from cdc_sync.config.tenants import tenants_named
from cdc_sync.core.events import Event
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Tell, found
from cdc_sync.core.status_url import names_loopback
from cdc_sync.core.watch_names import SEPARATOR, listed
from cdc_sync.daemon.chores import Tenants
from cdc_sync.daemon.logs import LINES
from cdc_sync.daemon.process import Process
from cdc_sync.packaged import data
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.opening import opened_beside, place_of

from .context import JsonOption, WatchOption, configured, matching, print_json, say, suspicious, user

_found = partial(found, data("cli/check.yaml"))
"""A finding with a text of `check.yaml`."""

_SCRIPT = re.compile(r"\bcdc-sync sql (install|uninstall|grants|verify)\b(?! --(database|store))")
"""A command on one database."""

_NOT_YET: dict[str, State] = {"store-missing": "ok", "store-not-set-up": "warning"}
"""Errors of a store that the daemon's start makes, or brings up to date if it may."""

_SERVER_ERROR = 500


async def check(context: typer.Context, as_json: JsonOption = False, watch: WatchOption = None) -> None:
    """Check every precondition, with the remedy for each that fails. Safe while the daemon runs; changes nothing."""
    findings = list[Finding]()

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            show(finding)

    config = configured(context)
    tell(Finding("configuration", "ok", f"{context.obj} is valid"))
    for warning in suspicious(config, context.obj):
        tell(Finding("configuration", "warning", str(warning._replace(remedy=None)), warning.remedy))
    config, refused = await _find_tenants(config, tell)
    only = matching(watch, config.watches)
    if config.state.backend == "postgres" and config.state.dsn is not None:
        tell(encryption("store-encryption", "state.dsn", config.state.dsn.get_secret_value()))
    positions = await check_store(config, tell, refused)
    for name in config.all_databases:
        tell_of_it = partial(of_database, tell, config, name)
        tell_of_it(encryption("encryption", f"{config.section_of(name)}.dsn", config.dsn_of(name)))
        if await check_database(config, name, tell_of_it, read=positions, only=only):
            await check_identity(config, name, tell_of_it)
    await check_endpoint(config, tell)
    states = Counter(finding.state for finding in findings)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        say(f"{states.total()} checks: {states['failed']} failed, {states['warning']} warning(s)")
    if states["failed"]:
        raise typer.Exit(1)


def show(finding: Finding) -> None:
    """Print a finding; of tenants, of which there may be a thousand, only those not ok."""
    if finding.state == "ok" and SEPARATOR in (finding.watch or ""):
        return
    about = " ".join(filter(None, (finding.database, finding.watch, finding.check)))
    say(f"{finding.state:7}  {about}: {finding.message}")
    for line in (finding.remedy or "").splitlines():
        say(f"         → {line}")


async def _find_tenants(config: Config, tell: Tell) -> tuple[Config, Collection[str]]:
    """Look for tenants as the daemon does; returns the configuration with their watches, and those that have none."""
    process = Process(config, [lambda: {Event: lambda event: tell(logged("tenants", event))}], say, dry_run=True)
    tenants, known = Tenants(process), list[str]()
    with suppress(StoreError):  # there is a finding about it
        async with opened_beside(config) as store:
            known = list(await store.report.counts())
    config = await tenants.look(known)
    for template, named in tenants_named(config, config.watches).items():
        if named:
            tell(Finding("tenants", "ok", f"{len(named)} tenant(s) have a watch", None, template))
    return config, tenants.found.refused


def of_database(tell: Tell, config: Config, name: str, finding: Finding) -> None:
    """Report a finding under its database, with its setting and its option, if there are several."""
    if len(config.all_databases) == 1:
        tell(finding)
        return
    dsn = f"{config.section_of(name)}.dsn"
    remedy = finding.remedy and _SCRIPT.sub(rf"\g<0> --database {name}", finding.remedy.replace("database.dsn", dsn))
    tell(finding._replace(database=name, message=finding.message.replace("database.dsn", dsn), remedy=remedy))


def finding(check: str, state: State, text: str, watch: str | None = None, more: str = "") -> Finding:
    """One with a text of the daemon's, whose last sentence is the remedy."""
    message, _, remedy = text.rpartition(". ")
    return Finding(check, state, f"{message or remedy}{more}", None if state == "ok" else remedy, watch)


def raised(check: str, error: StoreError, watch: str | None = None) -> Finding:
    """What a step of the daemon raised."""
    return finding(check, _NOT_YET.get(error.code, "failed"), error.message, watch)


def logged(check: str, event: Event) -> Finding:
    """What a step of the daemon writes into the log."""
    line, facts = LINES[type(event).__name__], dict(vars(event))
    text, watch = line["message"].format(**facts), facts.pop("watch", None)
    more = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "message")
    return finding(check, "failed" if line["level"] == "error" else "warning", text, watch, more and f" ({more})")


# The store.


async def check_store(config: Config, tell: Tell, refused: Collection[str]) -> dict[str, str]:
    """Report findings about the store; returns the replica positions in it, by watch.

    `refused` are the tenants that have no watch.
    """
    unusable = unusable_files(config.state.path) if config.state.backend == "sqlite" else []
    if unusable:
        folder = config.state.path.absolute().parent
        tell(_found("store/unusable", user=user(), files=" ".join(unusable), folder=folder))
        return {}
    try:
        async with opened_beside(config) as store:
            tell(_found("store/usable", place=place_of(config)))
            for former in await store.report.unconfigured({*config.watches, *refused}):
                tell(logged("store-watches", former))
            positions = await store.report.positions_of_all(REPLICA)
            return {watch: of[REPLICA] for watch, of in positions.items()}
    except StoreError as error:
        tell(raised("store", error))
        return {}


def unusable_files(path: Path) -> list[str]:
    """The store's folder and files that this user may not read and write."""
    files = [file for suffix in ("", "-wal", "-shm", ".lock") if os.access(file := f"{path}{suffix}", os.F_OK)]
    # What is no folder has none in it, and in a folder that may not be searched no file can be made.
    folder = f"{path.absolute().parent}/."
    unusable = [each for each in files if not os.access(each, os.R_OK | os.W_OK, effective_ids=True)]
    return unusable if os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True) else [folder, *unusable]


async def check_identity(config: Config, name: str, tell: Tell) -> None:
    """Report whether a database is the store's, and each watch's, as the daemon recognises it."""
    dsn, wrong = config.dsn_of(name), dict[str, Finding]()
    try:
        async with opened_beside(config) as store, connected(dsn) as connection:
            database, bound = Database(config, name, store), await store.databases.identity(name)
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


# HelloWork. Each place of calls gets one `HEAD` without the configured headers: no effect, no secret. Any status will
# do; only a real call could check the credentials.


async def check_endpoint(config: Config, tell: Tell) -> None:
    """Report whether calls could get through."""
    settings = config.hellowork
    # A loopback address beside base_url is an emulator's.
    allowed = [f"https://{host}" for host in settings.allowed_hosts if not names_loopback(host)]
    for url in [settings.base_url, *allowed]:
        tell(await _check_place(URL(url, encoded=True), settings.timeout.total_seconds()))
    tell(_check_headers(config))


async def _check_place(place: URL, patience: float) -> Finding:
    tls, headers = ssl.create_default_context(), {"User-Agent": f"cdc-sync/{__version__}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience, sock_read=patience)
    asked = aiohttp.request("HEAD", place, headers=headers, allow_redirects=False, ssl=tls, timeout=timeout)
    try:
        async with asked as response:
            status = response.status
    except (aiohttp.ClientError, UnicodeError) as error:  # no name of a host
        cause = error.__cause__ or error
        return _found("endpoint/failed", place=place, why=f"{type(cause).__name__}: {cause}")
    return _found(f"endpoint/{'unwell' if status >= _SERVER_ERROR else 'answered'}", place=place, status=status)


def _check_headers(config: Config) -> Finding:
    headers = accounts(config)
    # Rows that name their accounts have those of any.
    has_any = any(headers.values())
    without = [name for name in config.watches if not headers.get(account_of(config, name) or "", has_any)]
    if without and not names_loopback(urlsplit(config.hellowork.base_url).netloc):
        return _found("headers/missing", without=listed(without))
    return _found("headers/configured")

"""What can be wrong with the store, said once, with the remedy: the texts are in `errors.yaml`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any, cast

import yaml

from cdc_sync.core.events import WatchUnconfigured
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Whereabouts
from cdc_sync.core.reasons import Reason, coded, filled

LITTLE_SPACE = 2**30
"""Bytes. The store of a million applications takes some hundred MB, and its log what is written in a burst."""

TOO_LITTLE_SPACE = 64 * 2**20
"""Bytes with which the next mass change would fill the disk."""


@cache
def texts() -> dict[str, dict[str, Any]]:
    """Messages by their codes, and names behind a `/`; remedies, and which follows which error; findings."""
    text = files("cdc_sync.store").joinpath("errors.yaml").read_text("utf-8")
    return cast("dict[str, dict[str, Any]]", yaml.safe_load(text))


def message(name: str, **facts: object) -> Reason:
    """One of the messages."""
    return filled(name, texts()["messages"][name].rstrip(), **facts)


def store_error(name: str, remedy: str | None = None, **facts: object) -> StoreError:
    """The error with one of the messages, and one of the remedies behind it."""
    said = message(name, **facts)
    if remedy is not None:
        repaired = coded(remedy, texts()["remedies"][remedy].rstrip())
        said = coded("followed", "%(reason)s %(reason_more)s", reason=said, reason_more=repaired)
    return StoreError(name.partition("/")[0], said)


def failed(name: str, **facts: object) -> Finding:
    """One of the findings of `cdc-sync check` about a store that cannot be used, or not by everybody who must."""
    return _finding("store", "failed", name, **facts)


def _finding(check: str, state: State, name: str, **facts: object) -> Finding:
    message, remedy = (texts()["findings"][name].get(part, "").format(**facts) for part in ("message", "remedy"))
    return Finding(check, state, message, remedy or None)


def check_disk_space(free: int, folder: str) -> Finding:
    """The finding about `free` bytes on the disk of a folder."""
    state: State = "failed" if free < TOO_LITTLE_SPACE else "warning" if free < LITTLE_SPACE else "ok"
    return _finding("store-space", state, "space" if state == "ok" else "no-space", free=free // 2**20, folder=folder)


def check_unconfigured(found: Sequence[WatchUnconfigured]) -> list[Finding]:
    """The findings about the watches that a store knows and the configuration does not have.

    Such a watch was removed, which is harmless, or renamed, which is not: under its new name it is another watch, whose
    baseline takes rows as told that had changed by then and were not read yet. Only a person can tell which.
    """
    findings = []
    for one in found:
        finding = _finding("store-watches", "warning", "unconfigured", **vars(one))
        commands = [texts()["findings"][state]["remedy"] for state in ("held", "dead") if getattr(one, state)]
        remedy = "\n".join([finding.remedy or "", *commands]).replace("WATCH", one.watch)
        findings.append(replace(finding, remedy=remedy, watch=one.watch))
    return findings or [_finding("store-watches", "ok", "all-configured")]


def check_identity(bound: str | None, found: str, why_not: str | None = None, database: str = "") -> Finding:
    """The finding about whose database the store belongs to.

    Args:
        bound: the identity that the store remembers; None if it remembers none yet.
        found: the database's.
        why_not: why it is another database though the identity is the same; None if it is not.
        database: its name in the configuration.
    """
    if bound is None:
        return _finding("identity", "ok", "unbound", found=found)
    if bound == found and why_not is None:
        return _finding("identity", "ok", "bound", found=found)
    another = _finding("identity", "failed", "another", bound=bound, found=found, **keys(database))
    return another if why_not is None else replace(another, message=why_not)


def keys(database: str) -> dict[str, str]:
    """What messages about a configured database say to correct, and to run: "" is the section `database`."""
    if not database:
        return {"dsn": "database.dsn", "adopt": "cdc-sync adopt-database"}
    return {"dsn": f"databases.{database}.dsn", "adopt": f"cdc-sync adopt-database {database}"}


def elsewhere(identity: str, before: Whereabouts, now: Whereabouts, database: str = "") -> str:
    """Why a database of the store's identity is taken for another one."""
    return message("store-another-database/elsewhere", identity=identity, before=before, now=now, **keys(database))


def usable(store: str, version: int, newest: int) -> Finding:
    """The finding about a store that can be used."""
    fit = "can be written, and has this version's schema"
    if version < newest:
        fit = f"has schema {version}; the daemon's next start brings it to {newest}"
    return Finding("store", "ok", f"{store} {fit}")


class AnotherDatabaseError(StoreError):
    """The store belongs to another database than the one that the daemon is connected to."""

    def __init__(self, message: str) -> None:
        super().__init__("store-another-database", message)


class WatchMovedError(AnotherDatabaseError):
    """What the store knows of a watch is from another database than the watch's."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = "watch-moved"


def another_database(store: str, database: str, bound: str, connected: str) -> AnotherDatabaseError:
    """The error that a configured database is not the one that the store knows by its name."""
    facts = {"store": store, "bound": bound, "connected": connected, **keys(database)}
    return AnotherDatabaseError(message("store-another-database", **facts))


def watch_moved(watch: str, was: str, database: str, bound: str, connected: str) -> WatchMovedError:
    """The error that a watch's database is another one than the one that the watch was captured from.

    Args:
        watch: the watch.
        was: the name of the database that it was captured from.
        database: the name of the one that is configured.
        bound: the identity of the first.
        connected: that of the second.
    """
    names = {"was": was or "database", "database": database or "database"}
    facts = {"watch": watch, "bound": bound, "connected": connected, **names, "adopt": keys(database)["adopt"]}
    return WatchMovedError(message("watch-moved", **facts))

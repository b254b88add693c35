"""Errors of the store, with their remedies; the texts are in `errors.yaml`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from cdc_sync.core.events import WatchUnconfigured
from cdc_sync.core.failures import StoreError
from cdc_sync.core.findings import Finding, State, Whereabouts
from cdc_sync.core.reasons import Reason, coded, filled
from cdc_sync.packaged import data
from cdc_sync.store.protocol import KnownTwice

LITTLE_SPACE = 2**30
"""Bytes. The store of a million applications takes some hundred MB; a burst adds its log."""

TOO_LITTLE_SPACE = 64 * 2**20
"""Bytes that a mass change fills."""


def texts() -> dict[str, dict[str, Any]]:
    """`errors.yaml`."""
    return cast("dict[str, dict[str, Any]]", data("store/errors.yaml"))


def message(name: str, **facts: object) -> Reason:
    """One of the messages."""
    return filled(name, texts()["messages"][name].rstrip(), **facts)


def store_error(name: str, remedy: str | None = None, **facts: object) -> StoreError:
    """The error with one of the messages (variants behind a `/`), followed by one of the remedies."""
    text = message(name, **facts)
    if remedy is not None:
        repaired = coded(remedy, texts()["remedies"][remedy].rstrip())
        text = coded("followed", "%(reason)s %(reason_more)s", reason=text, reason_more=repaired)
    return StoreError(name.partition("/")[0], text)


def failed(name: str, **facts: object) -> Finding:
    """The finding that somebody cannot use the store."""
    return _finding("store", "failed", name, **facts)


def _finding(check: str, state: State, name: str, **facts: object) -> Finding:
    message, remedy = (texts()["findings"][name].get(part, "").format(**facts) for part in ("message", "remedy"))
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
        commands = [texts()["findings"][state]["remedy"] for state in ("held", "dead") if getattr(one, state)]
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


def keys(database: str, section: str) -> dict[str, str]:
    """The setting to correct and the command to run for a database; `section`: see `Config.section_of`."""
    return {"dsn": f"{section}.dsn", "adopt": f"cdc-sync adopt-database {database}".rstrip()}


def elsewhere(
    identity: str, before: Whereabouts, now: Whereabouts, database: str = "", section: str = "database"
) -> str:
    """Why a database with the store's identity is taken for another one."""
    facts = {"identity": identity, "before": before, "now": now, **keys(database, section)}
    return message("store-another-database/elsewhere", **facts)


def usable(store: str, version: int, newest: int) -> Finding:
    """The finding about a usable store."""
    fit = "can be written, and has this version's schema"
    if version < newest:
        fit = f"has schema {version}; the daemon's next start brings it to {newest}"
    return Finding("store", "ok", f"{store} {fit}")


class AnotherDatabaseError(StoreError):
    """The store, or the watch (`watch-moved`), belongs to another database."""


def another_database(store: str, database: str, section: str, bound: str, connected: str) -> AnotherDatabaseError:
    """The error that the store knows another database by this name."""
    facts = {"store": store, "bound": bound, "connected": connected, **keys(database, section)}
    return AnotherDatabaseError("store-another-database", message("store-another-database", **facts))


def watch_moved(watch: str, was: str, database: str, bound: str, connected: str) -> AnotherDatabaseError:
    """The error that a watch was captured from another database than its present one.

    `was` and `bound` are the former one's name and identity, `database` and `connected` the present one's.
    """
    names = {"was": was or "database", "database": database or "database"}
    facts = {"watch": watch, "bound": bound, "connected": connected, **names, "adopt": keys(database, "")["adopt"]}
    return AnotherDatabaseError("watch-moved", message("watch-moved", **facts))

"""Errors of the store, with their remedies; the texts are in `errors.yaml`."""

from collections.abc import Callable, Collection
from typing import Any

from cdc_sync.core.failures import StoreError
from cdc_sync.core.reasons import Reason, coded, filled
from cdc_sync.packaged import data

TEXTS: dict[str, dict[str, Any]] = data("store/errors.yaml")


def message(name: str, **facts: object) -> Reason:
    """One of the messages."""
    return filled(name, TEXTS["messages"][name].rstrip(), **facts)


def store_error(name: str, remedy: str | None = None, **facts: object) -> StoreError:
    """The error with one of the messages (variants behind a `/`), followed by one of the remedies."""
    text = message(name, **facts)
    if remedy is not None:
        repaired = coded(remedy, TEXTS["remedies"][remedy].rstrip())
        text = coded("followed", "%(reason)s %(reason_more)s", reason=text, reason_more=repaired)
    return StoreError(name.partition("/")[0], text)


def remedy_for(database: str, matches: Callable[[str], bool]) -> str | None:
    """The remedy of a database's error, by the first mark of its list that matches."""
    return next((remedy for mark, remedy in TEXTS[database].items() if matches(mark)), None)


def keys(database: str, section: str) -> dict[str, str]:
    """The setting to correct and the command to run for a database; `section`: see `Config.section_of`."""
    return {"dsn": f"{section}.dsn", "adopt": f"cdc-sync adopt-database {database}".rstrip()}


class AnotherDatabaseError(StoreError):
    """The store, or the watch (`watch-moved`), belongs to another database."""


def refuse_copy(
    code: str, identity: str, before: Collection[str], now: Collection[str], *, database: str, section: str
) -> None:
    """Refuse a database with the store's identity that may be a copy: with other hosts than the known ones.

    Raises:
        AnotherDatabaseError: it may be one.
    """
    if before and set(before).isdisjoint(now):
        facts = {"identity": identity, "before": ", ".join(before), "now": ", ".join(now), **keys(database, section)}
        raise AnotherDatabaseError(code, message("store-another-database/elsewhere", **facts))


def another_database(name: str, database: str, section: str = "", **facts: str) -> AnotherDatabaseError:
    """The error with one of the messages about a database and what was `bound` before."""
    facts |= {"database": database or "database", **keys(database, section)}
    return AnotherDatabaseError(name, message(name, **facts))

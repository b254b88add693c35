"""Reading the store for people: counts, lists, one application's story."""

import json
import sqlite3
from dataclasses import replace

from cdc_sync.core.outbox import Entry, EntryState, Skip, Suspicion
from cdc_sync.store import queries
from cdc_sync.store.columns import Columns, content_from, entry_from, key_from, told_at_from
from cdc_sync.store.protocol import CALL_STEP, CallCounts, Condition, Event, Record, WatchCounts

SQL = queries.load("sqlite/reporting.sql")


def entries(connection: sqlite3.Connection, state: EntryState, watch: str | None, limit: int) -> list[Entry]:
    """See `Store.entries`."""
    watches = [watch] if watch is not None else [name for (name,) in connection.execute(SQL["watches"]).fetchall()]
    found: list[Entry] = []
    # Watch by watch, in the index's order: of a mass change that is held, only what is wanted is read.
    for name in watches:
        found += map(entry_from, connection.execute(SQL["entries"], {"state": state, "watch": name, "limit": limit}))
    return sorted(found, key=lambda entry: (entry.queued_at, entry.watch, entry.application_id))[:limit]


def counts(connection: sqlite3.Connection) -> dict[str, WatchCounts]:
    """See `Store.counts`."""
    found = {watch: WatchCounts() for (watch,) in connection.execute(SQL["captured"])}
    for watch, number, changed_at in connection.execute(SQL["tallies"]):
        found[watch] = WatchCounts(known=number, changed_at=changed_at)
    for watch, state, number, oldest in connection.execute(SQL["count_outbox"]):
        of_watch = replace(found.get(watch, WatchCounts()), **{state: number})
        found[watch] = replace(of_watch, oldest_queued_at=oldest) if state == "pending" else of_watch
    for column in ("skipped", "suspected"):
        for watch, number in connection.execute(SQL[f"count_{column}"]):
            found[watch] = replace(found.get(watch, WatchCounts()), **{column: number})
    return found


def skipped(connection: sqlite3.Connection, watch: str, limit: int) -> list[Skip]:
    """See `Store.skipped`."""
    rows = connection.execute(SQL["skipped"], (watch, limit))
    return [Skip(key_from(row_key), application_id, reason) for row_key, application_id, reason in rows]


def records(connection: sqlite3.Connection, application_id: str, watch: str | None) -> list[Record]:
    """See `Store.records`."""
    whose = {"id": application_id, "watch": watch}
    reasons = {
        name: (row_key, reason) for name, row_key, reason in connection.execute(SQL["skipped_one"], whose).fetchall()
    }
    found = [
        _record(connection, row, reasons.pop(row[0], None))
        for row in connection.execute(SQL["records"], whose).fetchall()
    ]
    # A row that could never be reported has no snapshot; it is still known why.
    for name, (row_key, reason) in reasons.items():
        found.append(
            Record(
                watch=name,
                application_id=application_id,
                key=key_from(row_key),
                in_scope=True,
                told=None,
                told_at=None,
                entry=None,
                suspicion=None,
                skipped=reason,
            )
        )
    return found


def _record(connection: sqlite3.Connection, row: Columns, skip: tuple[str, str] | None) -> Record:
    watch, application_id, row_key, in_scope = row[:4]
    entry = connection.execute(SQL["entry"], (watch, application_id)).fetchone()
    suspicion = connection.execute(SQL["suspicion"], (watch, application_id)).fetchone()
    return Record(
        watch=watch,
        application_id=application_id,
        key=key_from(row_key),
        in_scope=bool(in_scope),
        told=content_from(row[4:12]),
        told_at=told_at_from(row[12]),
        entry=None if entry is None else entry_from(entry),
        suspicion=None if suspicion is None else Suspicion(*suspicion),
        skipped=None if skip is None else skip[1],
    )


def story(connection: sqlite3.Connection, application_id: str, watch: str | None, limit: int) -> list[Event]:
    """See `Store.story`."""
    rows = connection.execute(SQL["story"], {"id": application_id, "watch": watch, "limit": limit}).fetchall()
    return list(map(_event, reversed(rows)))


def recent(connection: sqlite3.Connection, limit: int) -> list[Event]:
    """See `Store.recent`."""
    return list(map(_event, connection.execute(SQL["recent"], (limit,))))


def recent_ends(connection: sqlite3.Connection, limit: int, *, failed: bool) -> list[Event]:
    """See `Store.recent_ends`."""
    rows: list[Columns] = []
    # One statement for each kind, since that is what the index is ordered by.
    for kind in ("answered", "dead", *(() if failed else ("acknowledged",))):
        rows += connection.execute(SQL[f"recent_{kind}"], (limit,)).fetchall()
    rows.sort(key=lambda row: -row[-1])
    return [_event(row[:-1]) for row in rows[:limit]]


def call_counts(connection: sqlite3.Connection, since: int) -> list[CallCounts]:
    """See `Store.call_counts`."""
    found: dict[int, CallCounts] = {}
    for step, outcome, number in connection.execute(SQL["call_counts"], (since - CALL_STEP,)):
        found[step] = replace(found.get(step, CallCounts(step)), **{outcome: number})
    return list(found.values())


def conditions(connection: sqlite3.Connection) -> list[Condition]:
    """See `Store.conditions`."""
    return [Condition(*row) for row in connection.execute(SQL["conditions"])]


def repairs(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """See `Store.repairs`."""
    found: dict[str, dict[str, int]] = {}
    for watch, cause, number in connection.execute(SQL["repairs"]):
        found.setdefault(watch, {})[cause] = number
    return found


def _event(row: Columns) -> Event:
    at, watch, application_id, event, detail = row
    return Event(at, watch, application_id, event, json.loads(detail))

"""Reading the store for people: counts, lists, one application's story."""

import json
from dataclasses import replace
from typing import Any

from cdc_sync.core.outbox import Entry, EntryState, Skip, Suspicion
from cdc_sync.store import queries
from cdc_sync.store.columns import Columns, content_from, entry_from, key_from, told_at_from
from cdc_sync.store.postgres.rows import Connection, text
from cdc_sync.store.protocol import CALL_STEP, CallCounts, Condition, Event, Record, WatchCounts

SQL = queries.statements("postgres/reporting.sql")


async def _rows(connection: Connection, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return await (await connection.execute(SQL[name], parameters)).fetchall()


async def entries(connection: Connection, state: EntryState, watch: str | None, limit: int) -> list[Entry]:
    """See `Store.entries`."""
    return list(map(entry_from, await _rows(connection, "entries", state=state, watch=watch, limit=limit)))


async def counts(connection: Connection) -> dict[str, WatchCounts]:
    """See `Store.counts`."""
    found = {watch: WatchCounts() for (watch,) in await _rows(connection, "captured")}
    for watch, number, changed_at in await _rows(connection, "tallies"):
        found[watch] = WatchCounts(known=number, changed_at=changed_at)
    for watch, state, number, oldest in await _rows(connection, "count_outbox"):
        of_watch = replace(found.get(watch, WatchCounts()), **{state: number})
        found[watch] = replace(of_watch, oldest_queued_at=oldest) if state == "pending" else of_watch
    for column in ("skipped", "suspected"):
        for watch, number in await _rows(connection, f"count_{column}"):
            found[watch] = replace(found.get(watch, WatchCounts()), **{column: number})
    return found


async def skipped(connection: Connection, watch: str, limit: int) -> list[Skip]:
    """See `Store.skipped`."""
    rows = await _rows(connection, "skipped", watch=watch, limit=limit)
    return [Skip(key_from(row_key), application_id, reason) for row_key, application_id, reason in rows]


async def records(connection: Connection, application_id: str, watch: str | None) -> list[Record]:
    """See `Store.records`."""
    id_ = text(application_id)
    reasons = {
        name: (row_key, reason) for name, row_key, reason in await _rows(connection, "skipped_one", id=id_, watch=watch)
    }
    rows = await _rows(connection, "records", id=id_, watch=watch)
    watches = [row[0] for row in rows]
    waiting = {row[0]: entry_from(row) for row in await _rows(connection, "entries_of", id=id_, watches=watches)}
    suspicions = {
        row[0]: Suspicion(*row[1:]) for row in await _rows(connection, "suspicions_of", id=id_, watches=watches)
    }
    found = [
        Record(
            watch=name,
            application_id=id_,
            key=key_from(row[2]),
            in_scope=row[3],
            told=content_from(row[4:12]),
            told_at=told_at_from(row[12]),
            entry=waiting.get(name),
            suspicion=suspicions.get(name),
            skipped=reasons.pop(name, ("", None))[1],
        )
        for row in rows
        for name in (row[0],)
    ]
    # A row that could never be reported has no snapshot; it is still known why.
    for name, (row_key, reason) in reasons.items():
        found.append(
            Record(
                watch=name,
                application_id=id_,
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


async def story(connection: Connection, application_id: str, watch: str | None, limit: int) -> list[Event]:
    """See `Store.story`."""
    rows = await _rows(connection, "story", id=text(application_id), watch=watch, limit=limit)
    return list(map(_event, reversed(rows)))


async def recent(connection: Connection, limit: int) -> list[Event]:
    """See `Store.recent`."""
    return list(map(_event, await _rows(connection, "recent", limit=limit)))


async def recent_ends(connection: Connection, limit: int, *, failed: bool) -> list[Event]:
    """See `Store.recent_ends`."""
    events = ["answered", "dead-lettered", *([] if failed else ["acknowledged"])]
    return list(map(_event, await _rows(connection, "recent_ends", events=events, failed=failed, limit=limit)))


async def call_counts(connection: Connection, since: int) -> list[CallCounts]:
    """See `Store.call_counts`."""
    found: dict[int, CallCounts] = {}
    for step, outcome, number in await _rows(connection, "call_counts", after=since - CALL_STEP):
        found[step] = replace(found.get(step, CallCounts(step)), **{outcome: number})
    return list(found.values())


async def conditions(connection: Connection) -> list[Condition]:
    """See `Store.conditions`. Where several daemons see something wrong, it is told which."""
    rows = await _rows(connection, "conditions")
    several = len({(host, process) for *_, host, process in rows}) > 1
    return [
        Condition(name, f"{host}, process {process}: {message}" if several else message, since)
        for name, message, since, host, process in rows
    ]


async def repairs(connection: Connection) -> dict[str, dict[str, int]]:
    """See `Store.repairs`."""
    found: dict[str, dict[str, int]] = {}
    for watch, cause, number in await _rows(connection, "repairs"):
        found.setdefault(watch, {})[cause] = number
    return found


def _event(row: Columns) -> Event:
    at, watch, application_id, event, detail = row
    return Event(at, watch, application_id, event, json.loads(detail))

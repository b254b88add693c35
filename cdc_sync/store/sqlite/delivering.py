"""Claiming entries for sending, and writing what became of them."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from cdc_sync.core.content import Content
from cdc_sync.core.delivery import Again, GiveUp
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Entry
from cdc_sync.store import queries
from cdc_sync.store.columns import entry_from
from cdc_sync.store.deciding import Current, Ended, attempt, counted, counted_calls, ended
from cdc_sync.store.protocol import Event, Finished
from cdc_sync.store.sqlite.recording import Whose, remember, rows_in, rows_out, tell

SQL = queries.load("sqlite/delivering.sql")


def claim(
    connection: sqlite3.Connection,
    now: int,
    horizon: int,
    wanted: Mapping[str, int],
    probing: Collection[str],
    *,
    shift: int,
) -> list[Entry]:
    """See `Store.claim`; `shift` is what is added to `now` for people."""
    claimed: list[Entry] = []
    times = {"now": now, **counted(now), "latest": now + horizon}
    for endpoint, limit in wanted.items():
        parameters = {**times, "endpoint": endpoint}
        first = SQL["probe" if endpoint in probing else "due"]
        rows = rows_out(connection.execute(first, {**parameters, "limit": limit}))
        if len(rows) < limit:
            rows += rows_out(connection.execute(SQL["overdue_by_clock"], {**parameters, "limit": limit - len(rows)}))
        claimed += map(entry_from, rows)
    if not claimed:
        return []
    whose = rows_in((entry.watch, entry.application_id) for entry in claimed)
    connection.execute(SQL["claim"], {**times, "whose": whose})
    remember(connection, [attempt(entry, now + shift) for entry in claimed])
    return claimed


def finish(
    connection: sqlite3.Connection, finished: Sequence[Finished], health: Mapping[str, Health], *, shift: int
) -> None:
    """See `Store.finish`; `shift` is what is added to its times for people."""
    whose = rows_in((end.entry.watch, end.entry.application_id) for end in finished)
    current = {
        (watch, application_id): Current(revision, status, job_id, bool(deleted))
        for watch, application_id, revision, status, job_id, deleted in rows_out(
            connection.execute(SQL["current"], (whose,))
        )
    }
    forgotten: list[Whose] = []
    told: list[tuple[Whose, Content, int]] = []
    events: list[Event] = []
    for end in finished:
        of = (end.entry.watch, end.entry.application_id)
        after = ended(end, current.get(of), shift)
        if after.told:
            told.append((of, end.entry.content, after.event.at))
        if after.becomes == "forgotten":
            forgotten.append(of)
        else:
            _keep(connection, of, after, end)
        events.append(after.event)
    connection.execute(SQL["drop"], (rows_in(forgotten),))
    tell(connection, told)
    remember(connection, events)
    calls = counted_calls(finished, shift)
    connection.executemany(SQL["count_calls"], [(*of, number) for of, number in calls.items()])
    connection.executemany(
        SQL["set_health"], [(endpoint, json.dumps(asdict(state))) for endpoint, state in health.items()]
    )


def _keep(connection: sqlite3.Connection, whose: Whose, after: Ended, end: Finished) -> None:
    """See to an outbox entry that stays."""
    match after.becomes, end.fate:
        case "unheard", _:
            connection.execute(SQL["heard"], whose)
        case "again", Again(due_at, not_found_since, anew):
            again = (due_at, not_found_since, anew, end.reply.get("reason"))
            connection.execute(SQL["again"], (*again, *whose))
        case "dead", GiveUp(reason):
            connection.execute(SQL["bury"], (reason, *whose))
        case _:
            connection.execute(SQL["unclaim"], whose)

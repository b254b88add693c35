"""Claiming entries for sending, and writing what became of them."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from cdc_sync.core.delivery import Again, GiveUp, outcome_of
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Entry
from cdc_sync.store import queries
from cdc_sync.store.columns import entry_from
from cdc_sync.store.deciding import Current, attempt, attempted, ended
from cdc_sync.store.protocol import CALL_STEP, Finished
from cdc_sync.store.sqlite.recording import remember, tell

SQL = queries.load("sqlite/delivering.sql")


def claim(connection: sqlite3.Connection, now: int, horizon: int, wanted: Mapping[str, int]) -> list[Entry]:
    """See `Store.claim`."""
    claimed: list[Entry] = []
    for endpoint, limit in wanted.items():
        rows = connection.execute(SQL["due"], (endpoint, now, limit)).fetchall()
        if len(rows) < limit:
            rows += connection.execute(SQL["overdue_by_clock"], (endpoint, now + horizon, limit - len(rows))).fetchall()
        claimed += map(entry_from, rows)
    connection.executemany(SQL["claim"], [(now, entry.watch, entry.application_id) for entry in claimed])
    claimed = [attempted(entry, now) for entry in claimed]
    remember(connection, [attempt(entry, now) for entry in claimed])
    return claimed


def finish(connection: sqlite3.Connection, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
    """See `Store.finish`."""
    for end in finished:
        _finish_one(connection, end)
    calls = Counter((end.at - end.at % CALL_STEP, outcome_of(end.fate)) for end in finished)
    connection.executemany(SQL["count_calls"], [(*of, number) for of, number in calls.items()])
    connection.executemany(
        SQL["set_health"], [(endpoint, json.dumps(asdict(state))) for endpoint, state in health.items()]
    )


def _finish_one(connection: sqlite3.Connection, end: Finished) -> None:
    whose = (end.entry.watch, end.entry.application_id)
    row = connection.execute(SQL["current"], whose).fetchone()
    after = ended(end, None if row is None else Current(row[0], row[1], row[2], bool(row[3])))
    if after.told:
        tell(connection, [(whose, end.entry.content, end.at)])
    match after.becomes, end.fate:
        case "forgotten", _:
            connection.execute(SQL["drop"], whose)
        case "unheard", _:
            connection.execute(SQL["heard"], whose)
        case "again", Again(due_at, not_found_since):
            connection.execute(SQL["again"], (due_at, not_found_since, end.reply.get("reason"), *whose))
        case "dead", GiveUp(reason):
            connection.execute(SQL["bury"], (reason, *whose))
        case _:
            connection.execute(SQL["unclaim"], whose)
    remember(connection, [after.event])

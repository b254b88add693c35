"""Claiming entries for sending, and writing what became of them."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from cdc_sync.core.content import Content
from cdc_sync.core.delivery import Again, Done, GiveUp
from cdc_sync.core.diff import Waiting, is_said
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Entry
from cdc_sync.store import queries
from cdc_sync.store.protocol import Finished
from cdc_sync.store.sqlite.columns import entry_from
from cdc_sync.store.sqlite.recording import described, remember, tell

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
    for entry in claimed:
        detail = {"attempt": entry.attempts + 1, "revision": entry.revision, "to": described(entry.content)}
        remember(connection, now, (entry.watch, entry.application_id), "attempted", detail)
    return [
        replace(
            entry,
            attempted=True,
            attempts=entry.attempts + 1,
            first_attempt_at=now if entry.first_attempt_at is None else entry.first_attempt_at,
        )
        for entry in claimed
    ]


def finish(connection: sqlite3.Connection, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
    """See `Store.finish`."""
    for end in finished:
        _finish_one(connection, end)
    connection.executemany(
        SQL["set_health"], [(endpoint, json.dumps(asdict(state))) for endpoint, state in health.items()]
    )


def _finish_one(connection: sqlite3.Connection, end: Finished) -> None:
    entry = end.entry
    whose = (entry.watch, entry.application_id)
    detail: dict[str, Any] = {**end.reply, "to": described(entry.content)}
    row = connection.execute(SQL["current"], whose).fetchone()
    replaced = row is None or row[0] != entry.revision
    match end.fate:
        case Done():
            tell(connection, whose, entry.content, end.at)
            if not replaced:
                connection.execute(SQL["drop"], whose)
            elif row is not None:
                _after_replacement(connection, entry, row)
            remember(connection, end.at, whose, "acknowledged", detail)
        case _ if replaced:
            # A newer content waits in its place: it stays due as it is, and stays marked as attempted.
            connection.execute(SQL["unclaim"], whose)
            remember(connection, end.at, whose, "answered", {**detail, "replaced": True})
        case Again(due_at, not_found_since):
            reason = end.reply.get("reason")
            connection.execute(SQL["again"], (due_at, not_found_since, reason, *whose))
            remember(connection, end.at, whose, "answered", {**detail, "again_at": due_at})
        case GiveUp(reason):
            connection.execute(SQL["bury"], (reason, *whose))
            remember(connection, end.at, whose, "dead-lettered", {**detail, "reason": reason})


def _after_replacement(connection: sqlite3.Connection, entry: Entry, row: Sequence[Any]) -> None:
    """What waits now was put there while the acknowledged call was under way."""
    whose = (entry.watch, entry.application_id)
    _, status, job_id, deleted = row
    waiting: Content = replace(entry.content, status=status, job_id=job_id, deleted=bool(deleted))
    if is_said(entry.content, Waiting(waiting, attempted=False)):
        connection.execute(SQL["drop"], whose)
    else:
        # HelloWork has acknowledged what was unsure; what waits now was never sent.
        connection.execute(SQL["heard"], whose)

"""One batch of observations into the snapshot and the outbox, in the one transaction that it is called in.

Where many rows go in or out, they do so as one JSON text (`rows_in`, `rows_out`). Python's interpreter lock is taken
and given back for each row that a statement returns, and for each run of a statement; while the event loop is busy
each such time is a wait. This way a statement over a thousand rows takes the lock once.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Adopt
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import Known, Sighting, Verified
from cdc_sync.core.rules import WatchRules
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import queries
from cdc_sync.store.columns import adopted_at, compared_columns, content_columns, json_list, key_text, known_from
from cdc_sync.store.deciding import Before, Placed, Steps, steps_of
from cdc_sync.store.protocol import Batch, Event, Recorded

SQL = queries.load("sqlite/recording.sql")

_as_json = json.JSONEncoder(ensure_ascii=False).encode

Whose = tuple[str, str]
"""Watch and application id."""


def rows_in(rows: Iterable[Sequence[Any]]) -> str:
    """Rows for a statement that takes them from `json_each`."""
    return _as_json(list(rows))


def rows_out(cursor: sqlite3.Cursor) -> list[list[Any]]:
    """The rows of a statement that gives them by `json_group_array`."""
    found: list[list[Any]] = json.loads(cursor.fetchone()[0])
    return found


def known(connection: sqlite3.Connection, watch: str, application_ids: list[str]) -> dict[str, Known]:
    """What is known of these applications, by id."""
    rows = rows_out(connection.execute(SQL["known"], {"watch": watch, "ids": json_list(application_ids)}))
    return {row[1]: known_from(row) for row in rows}


def record(connection: sqlite3.Connection, rules: WatchRules, batch: Batch) -> list[Recorded]:
    """See `Store.record`."""
    watch = rules.watch
    steps = steps_of(rules, batch, _before(connection, watch, batch), load_fuse(connection, watch))
    _take(connection, watch, batch.at, steps)
    if batch.out_of_scope:
        connection.execute(SQL["leave_scope"], {"watch": watch, "ids": json_list(batch.out_of_scope)})
    if batch.answered:
        connection.execute(SQL["answer"], {"watch": watch, "ids": json_list(batch.answered)})
    for suspicion in batch.suspicions:
        added = connection.execute(
            SQL["suspect"], (watch, suspicion.application_id, suspicion.at, suspicion.due_at)
        ).rowcount
        if added:
            suspected = Event(batch.at, watch, suspicion.application_id, "suspected", {"by": batch.origin})
            remember(connection, [suspected])
    cleared = [key_text(skip.key) for skip in batch.skips if skip.reason is None]
    if cleared:
        connection.execute(SQL["unskip"], {"watch": watch, "keys": json_list(cleared)})
    connection.executemany(
        SQL["skip"],
        [
            (watch, key_text(skip.key), skip.application_id, skip.reason, batch.at)
            for skip in batch.skips
            if skip.reason is not None
        ],
    )
    connection.executemany(SQL["set_position"], [(watch, name, value) for name, value in batch.positions.items()])
    return steps.news


def verify(connection: sqlite3.Connection, watch: str, verified: Iterable[Verified]) -> None:
    """See `Store.verify`."""
    rows = [
        (each.application_id, key_text(each.key), each.digest, *compared_columns(each.content)) for each in verified
    ]
    parameters = {"watch": watch, "rows": rows_in(rows)}
    connection.executemany(SQL["verify"], rows_out(connection.execute(SQL["verifiable"], parameters)))


def remember(connection: sqlite3.Connection, events: Iterable[Event]) -> None:
    """Write events of applications' stories."""
    rows = [(event.at, event.watch, event.application_id, event.event, event.detail) for event in events]
    if rows:
        connection.execute(SQL["remember"], (rows_in(rows),))


def load_fuse(connection: sqlite3.Connection, watch: str) -> Fuse:
    """The watch's fuse; a whole one if it never counted anything."""
    row = connection.execute(SQL["fuse"], (watch,)).fetchone()
    return Fuse() if row is None else Fuse(**json.loads(row[0]))


def save_fuse(connection: sqlite3.Connection, watch: str, fuse: Fuse) -> None:
    """Keep the watch's fuse."""
    connection.execute(SQL["set_fuse"], (watch, json.dumps(asdict(fuse))))


def put(connection: sqlite3.Connection, watch: str, placed: Iterable[Placed]) -> None:
    """Put contents into the outbox, in the place of what waits there."""
    rows = [
        (
            watch,
            each.sighting.application_id,
            *content_columns(each.sighting.content),
            each.kinds,
            each.state,
            each.at,
            each.due_at,
            each.reason,
            each.endpoint,
        )
        for each in placed
    ]
    if rows:
        connection.execute(SQL["queue"], (rows_in(rows),))


def tell(connection: sqlite3.Connection, told: Iterable[tuple[Whose, Content, int]]) -> None:
    """The snapshot takes contents: HelloWork knows them, or is taken to, since a moment."""
    rows = [(*content_columns(content), at, *whose) for whose, content, at in told]
    if rows:
        connection.execute(SQL["tell"], (rows_in(rows),))


def _before(connection: sqlite3.Connection, watch: str, batch: Batch) -> dict[str, Before]:
    ids = [sighting.application_id for sighting in batch.sightings]
    rows = rows_out(connection.execute(SQL["known"], {"watch": watch, "ids": json_list(ids)}))
    return {row[1]: Before(known_from(row), *row[-3:]) for row in rows}


def _take(connection: sqlite3.Connection, watch: str, now: int, steps: Steps) -> None:
    """Do what was decided; a statement for each sort of step, prepared once."""

    def whose(sighting: Sighting) -> tuple[Any, ...]:
        return watch, sighting.application_id

    connection.executemany(SQL["seen_new"], [(*whose(each), key_text(each.key)) for each in steps.new])
    connection.executemany(  # nobody else is busy during a baseline, and JSON costs more than it saves
        SQL["adopt_new"],
        [
            (*whose(each), key_text(each.key), *content_columns(each.content), adopted_at(now), each.digest)
            for each in steps.adopted
        ],
    )
    connection.executemany(SQL["move"], [(key_text(each.key), *whose(each)) for each in steps.moved])
    tell(connection, [((watch, each.application_id), each.content, adopted_at(now)) for each in steps.told])
    connection.executemany(SQL["cancel"], [(watch, application_id) for application_id in steps.cancelled])
    put(connection, watch, steps.placed)
    connection.executemany(
        SQL["refresh"],
        [
            {
                "watch": watch,
                "application_id": each.application_id,
                "created": each.content.created,
                "source": each.content.source,
                "extra": each.content.extra,
                "url": each.content.url,
                "endpoint": endpoint_of(each.content.url),
            }
            for each in steps.refreshed
        ],
    )
    remember(connection, steps.events)
    connection.executemany(SQL["endpoint"], [(endpoint,) for endpoint in steps.endpoints])
    if steps.fuse is not None:
        save_fuse(connection, watch, steps.fuse)
    # Every record is made here, and none is ever removed.
    new = len(steps.new) + len(steps.adopted)
    changed = any(not isinstance(one.decision, Adopt) for one in steps.news)
    if new or changed:
        connection.execute(SQL["tally"], {"watch": watch, "new": new, "changed_at": now if changed else None})

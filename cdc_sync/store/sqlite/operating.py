"""What a person asks for: release, discard, retry, resend; and small notes that the daemon keeps."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from cdc_sync.core.content import Content
from cdc_sync.core.fuse import Fuse, blow
from cdc_sync.core.outbox import EntryState, Sighting
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import queries
from cdc_sync.store.clock import Clock, boot_id, uptime, wall_clock
from cdc_sync.store.columns import content_from, json_list
from cdc_sync.store.deciding import Placed, described
from cdc_sync.store.protocol import CALL_STEP, Event, Only
from cdc_sync.store.sqlite.recording import SQL as RECORDING
from cdc_sync.store.sqlite.recording import Whose, load_fuse, put, remember, save_fuse, tell

SQL = queries.load("sqlite/operating.sql")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which outbox entries a person means; None means no restriction."""

    state: EntryState
    watch: str | None
    ids: Sequence[str] | None = None
    only: Only | None = None
    limit: int | None = None


def clock(connection: sqlite3.Connection, *, keep: bool) -> Clock:
    """The clock of this boot, as the store has it, or begun and, with `keep`, kept in the store."""
    if keep:
        connection.execute("BEGIN IMMEDIATE")
    try:
        row = connection.execute(SQL["clock"]).fetchone()
        boot, _, base = ("" if row is None else str(row[0])).partition(" ")
        if boot and boot == boot_id():
            return Clock(int(base))
        newest = connection.execute(SQL["newest_event"]).fetchone()
        begun = max(wall_clock(), 0 if newest is None else int(newest[0])) - uptime()
        if keep:
            connection.execute(SQL["set_clock"], (f"{boot_id()} {begun}",))
        return Clock(begun)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def blow_fuse(connection: sqlite3.Connection, watch: str, reason: str, now: int) -> None:
    """See `Store.blow_fuse`."""
    save_fuse(connection, watch, blow(load_fuse(connection, watch), now, reason))


def release_held(connection: sqlite3.Connection, selection: Selection, now: int, due_at: int) -> int:
    """See `Store.release_held`; `now` is the time for people, `due_at` the same by the store's clock."""
    chosen = _select(connection, selection)
    for whose, content in chosen:
        _revive(connection, whose, content, due_at)
        remember(connection, [Event(now, *whose, "released", {"to": described(content)})])
    _mend_fuses(connection, selection.watch)
    return len(chosen)


def discard(connection: sqlite3.Connection, selection: Selection, now: int) -> list[Whose]:
    """See `Store.discard`."""
    # An entry with a call under way stays: without it, nothing would keep a second call from overtaking the first.
    chosen = _select(connection, selection, under_way=False)
    for whose, content in chosen:
        tell(connection, [(whose, content, now)])
        connection.execute(SQL["drop"], whose)
        detail = {"was": selection.state, "to": described(content)}
        remember(connection, [Event(now, *whose, "discarded", detail)])
    if selection.state == "held":
        _mend_fuses(connection, selection.watch)
    return [whose for whose, _ in chosen]


def retry_dead(connection: sqlite3.Connection, selection: Selection, now: int, due_at: int) -> list[Whose]:
    """See `Store.retry_dead`; its times are those of `release_held`."""
    chosen = [(whose, content) for whose, content in _select(connection, selection) if _is_callable(content)]
    for whose, content in chosen:
        _revive(connection, whose, content, due_at)
        remember(connection, [Event(now, *whose, "retried", {"to": described(content)})])
    return [whose for whose, _ in chosen]


def resend(connection: sqlite3.Connection, watch: str | None, ids: Sequence[str], now: int, due_at: int) -> list[Whose]:
    """See `Store.resend`; its times are those of `release_held`."""
    found: list[Whose] = []
    for row in connection.execute(SQL["to_resend"], {"ids": json_list(ids), "watch": watch}).fetchall():
        whose: Whose = (row[0], row[1])
        content = content_from(row[2:10])
        state = row[10]
        if state == "pending":
            # Something newer, or the same, waits already: let it go out now.
            connection.execute(SQL["hasten"], (due_at, *whose))
        elif state is None and content is not None and _is_callable(content):
            placed = Placed(Sighting(whose[1], (), content), "", "pending", due_at, due_at, None)
            put(connection, whose[0], [placed])
            connection.execute(RECORDING["endpoint"], (endpoint_of(content.url),))
        else:
            continue
        remember(connection, [Event(now, *whose, "resend", {"to": content and described(content)})])
        found.append(whose)
    return found


def prune(connection: sqlite3.Connection, before: int, keep: int, limit: int) -> int:
    """See `Store.prune`. Events are numbered in order of time, so the oldest are the first."""
    connection.execute(SQL["prune_call_counts"], (before - CALL_STEP,))
    return connection.execute(SQL["prune"], {"before": before, "keep": keep, "limit": limit}).rowcount


def _select(
    connection: sqlite3.Connection, selection: Selection, *, under_way: bool = True
) -> list[tuple[Whose, Content]]:
    rows = connection.execute(
        SQL["in_state"],
        {
            "state": selection.state,
            "watch": selection.watch,
            "ids": None if selection.ids is None else json_list(selection.ids),
            "deleted": None if selection.only is None else int(selection.only == "deletions"),
            "under_way": under_way,
            "limit": -1 if selection.limit is None else selection.limit,
        },
    ).fetchall()
    chosen: list[tuple[Whose, Content]] = []
    for row in rows:
        content = content_from(row[2:10])
        if content is not None:
            chosen.append(((row[0], row[1]), content))
    return chosen


def _is_callable(content: Content) -> bool:
    """An entry whose URL is no URL can only be discarded, or mended in the ATS."""
    try:
        endpoint_of(content.url)
    except ValueError:
        return False
    return True


def _revive(connection: sqlite3.Connection, whose: Whose, content: Content, due_at: int) -> None:
    endpoint = endpoint_of(content.url)
    watch, application_id = whose
    parameters = {"now": due_at, "endpoint": endpoint, "watch": watch, "application_id": application_id}
    connection.execute(SQL["revive"], parameters)
    connection.execute(RECORDING["endpoint"], (endpoint,))


def _mend_fuses(connection: sqlite3.Connection, watch: str | None) -> None:
    for name, state in connection.execute(SQL["fuses"]).fetchall():
        fuse = Fuse(**json.loads(state))
        if fuse.blown_at is None or (watch is not None and name != watch):
            continue
        if connection.execute(SQL["held_left"], (name,)).fetchone()[0] == 0:
            save_fuse(connection, name, Fuse())

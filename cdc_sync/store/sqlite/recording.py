"""One batch of observations into the snapshot and the outbox, in the one transaction that it is called in."""

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Adopt, Cancel, Decision, Nothing, Queue, decide
from cdc_sync.core.fuse import Fuse, count
from cdc_sync.core.outbox import EntryState, Known, Sighting
from cdc_sync.core.rules import WatchRules
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import queries
from cdc_sync.store.protocol import Batch, Recorded
from cdc_sync.store.sqlite.columns import content_columns, json_list, key_text, known_from

SQL = queries.load("sqlite/recording.sql")

Whose = tuple[str, str]
"""Watch and application id."""

NOWHERE = "nowhere"
"""The endpoint of an entry whose URL cannot be called; such an entry is born dead."""


def known(connection: sqlite3.Connection, watch: str, application_ids: list[str]) -> dict[str, Known]:
    """What is known of these applications, by id."""
    rows = connection.execute(SQL["known"], {"watch": watch, "ids": json_list(application_ids)})
    return dict(map(known_from, rows))


def record(connection: sqlite3.Connection, rules: WatchRules, batch: Batch) -> list[Recorded]:
    """See `Store.record`."""
    news = _Recording(connection, rules, batch).sightings()
    watch = rules.watch
    if batch.out_of_scope:
        connection.execute(SQL["leave_scope"], {"watch": watch, "ids": json_list(batch.out_of_scope)})
    if batch.answered:
        connection.execute(SQL["answer"], {"watch": watch, "ids": json_list(batch.answered)})
    for suspicion in batch.suspicions:
        added = connection.execute(
            SQL["suspect"], (watch, suspicion.application_id, suspicion.at, suspicion.due_at)
        ).rowcount
        if added:
            remember(connection, batch.now, (watch, suspicion.application_id), "suspected", {"by": batch.origin})
    cleared = [key_text(skip.key) for skip in batch.skips if skip.reason is None]
    if cleared:
        connection.execute(SQL["unskip"], {"watch": watch, "keys": json_list(cleared)})
    connection.executemany(
        SQL["skip"],
        [
            (watch, key_text(skip.key), skip.application_id, skip.reason, batch.now)
            for skip in batch.skips
            if skip.reason is not None
        ],
    )
    connection.executemany(SQL["set_position"], [(watch, name, value) for name, value in batch.positions.items()])
    return news


def remember(connection: sqlite3.Connection, at: int, whose: Whose, event: str, detail: dict[str, Any]) -> None:
    """Write one event of an application's story."""
    connection.execute(SQL["remember"], (at, *whose, event, json.dumps(detail, ensure_ascii=False)))


def load_fuse(connection: sqlite3.Connection, watch: str) -> Fuse:
    """The watch's fuse; a whole one if it never counted anything."""
    row = connection.execute(SQL["fuse"], (watch,)).fetchone()
    return Fuse() if row is None else Fuse(**json.loads(row[0]))


def save_fuse(connection: sqlite3.Connection, watch: str, fuse: Fuse) -> None:
    """Keep the watch's fuse."""
    connection.execute(SQL["set_fuse"], (watch, json.dumps(asdict(fuse))))


@dataclass(frozen=True, slots=True)
class Placing:
    """How an entry stands in the outbox."""

    state: EntryState
    now: int
    due_at: int
    reason: str | None


def put(connection: sqlite3.Connection, watch: str, sighting: Sighting, queue: Queue, placing: Placing) -> None:
    """Put a content into the outbox, in the place of what waits there."""
    content = sighting.content
    connection.execute(
        SQL["queue"],
        (
            watch,
            sighting.application_id,
            *content_columns(content),
            " ".join(sorted(queue.kinds)),
            placing.state,
            placing.now,
            placing.due_at,
            placing.reason,
            NOWHERE if sighting.refused else endpoint_of(content.url),
        ),
    )


class _Recording:
    """The state of one `record`: the fuse is read once and written once."""

    def __init__(self, connection: sqlite3.Connection, rules: WatchRules, batch: Batch) -> None:
        self._connection = connection
        self._rules = rules
        self._batch = batch
        self._known = known(connection, rules.watch, [sighting.application_id for sighting in batch.sightings])
        self._fuse: Fuse | None = None
        self._endpoints: set[str] = set()

    def sightings(self) -> list[Recorded]:
        news: list[Recorded] = []
        adopted: list[tuple[Any, ...]] = []
        for sighting in self._batch.sightings:
            before = self._known.get(sighting.application_id)
            if before is None:
                decision = decide(sighting.content, None, None, self._batch.unseen)
                if isinstance(decision, Adopt):
                    adopted.append(self._new(sighting, content_columns(sighting.content), self._batch.now))
                    news.append(Recorded(sighting.application_id, decision))
                    continue
                self._connection.execute(SQL["seen_new"], self._new(sighting))
            else:
                # A baseline may meet two rows of one application, on two pages: the second is no news about the first.
                adopts = self._batch.origin == "baseline" and self._batch.unseen == "adopt"
                told = None if adopts else before.told
                decision = decide(sighting.content, told, before.waiting, self._batch.unseen)
                if before.key != sighting.key or not before.in_scope:
                    self._move(sighting)
            if not isinstance(decision, Nothing):
                news.append(self._act(sighting, before, decision))
        # The bulk of a baseline: one statement, prepared once.
        self._connection.executemany(SQL["adopt_new"], adopted)
        for endpoint in self._endpoints:
            self._connection.execute(SQL["endpoint"], (endpoint,))
        if self._fuse is not None:
            save_fuse(self._connection, self._rules.watch, self._fuse)
        return news

    def _new(self, sighting: Sighting, columns: tuple[Any, ...] = (), *told_at: int) -> tuple[Any, ...]:
        return (self._rules.watch, sighting.application_id, key_text(sighting.key), *columns, *told_at)

    def _move(self, sighting: Sighting) -> None:
        self._connection.execute(SQL["move"], (key_text(sighting.key), self._rules.watch, sighting.application_id))

    def _act(self, sighting: Sighting, before: Known | None, decision: Decision) -> Recorded:
        watch, application_id, now = self._rules.watch, sighting.application_id, self._batch.now
        told = None if before is None else before.told
        match decision:
            case Adopt():
                tell(self._connection, (watch, application_id), sighting.content, now)
                return Recorded(application_id, decision)
            case Cancel():
                self._connection.execute(SQL["cancel"], (watch, application_id))
                remember(self._connection, now, (watch, application_id), "cancelled", self._detail(sighting, told))
                return Recorded(application_id, decision)
            case Queue():
                placing = self._place(sighting, before)
                put(self._connection, watch, sighting, decision, placing)
                if placing.state == "pending":
                    self._endpoints.add(endpoint_of(sighting.content.url))
                detail = {
                    **self._detail(sighting, told),
                    "kinds": sorted(decision.kinds),
                    "replaced": bool(before and before.waiting),
                    "due_at": placing.due_at,
                }
                if placing.reason:
                    detail["reason"] = placing.reason
                event = {"pending": "queued", "held": "held", "dead": "dead-lettered"}[placing.state]
                remember(self._connection, now, (watch, application_id), event, detail)
                return Recorded(application_id, decision, placing.state, placing.reason)
            case _:
                raise AssertionError("nothing to act on")

    def _detail(self, sighting: Sighting, told: Content | None) -> dict[str, Any]:
        return {"by": self._batch.origin, "from": told and described(told), "to": described(sighting.content)}

    def _place(self, sighting: Sighting, before: Known | None) -> Placing:
        now, content = self._batch.now, sighting.content
        if sighting.refused:
            return Placing("dead", now, now, sighting.refused)
        due_at = now + self._rules.settle_of(content.status)
        state: str | None = None
        reason: str | None = None
        was_deletion = False
        if before is not None and before.waiting is not None:
            was_deletion = before.waiting.content.deleted
            state, reason = self._connection.execute(
                SQL["entry_state"], (self._rules.watch, sighting.application_id)
            ).fetchone()
        deletion = content.deleted and not was_deletion
        if deletion and self._batch.doubt is not None:
            return Placing("held", now, due_at, self._batch.doubt)
        if self._fuse is None:
            self._fuse = load_fuse(self._connection, self._rules.watch)
        # With a whole fuse it was a doubted deletion that is held: that the row is back ends the doubt.
        if state == "held" and (content.deleted or self._fuse.blown_at is not None):
            return Placing("held", now, due_at, reason)
        if state != "pending" or deletion:
            self._fuse = count(self._fuse, self._rules.fuse, now, deletion=deletion)
            if self._fuse.blown_at is not None:
                return Placing("held", now, due_at, self._fuse.reason)
        return Placing("pending", now, due_at, None)


def tell(connection: sqlite3.Connection, whose: Whose, content: Content, at: int) -> None:
    """The snapshot takes a content: HelloWork knows it, or is taken to."""
    connection.execute(SQL["tell"], (*content_columns(content), at, *whose))


def described(content: Content) -> dict[str, Any]:
    """A content as the history keeps it: what was compared."""
    return {"status": content.status, "job_id": content.job_id, "deleted": content.deleted}

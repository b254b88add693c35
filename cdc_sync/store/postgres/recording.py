"""One batch of observations into the snapshot and the outbox, in the one transaction that it is called in."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from cdc_sync.core.diff import Adopt
from cdc_sync.core.fuse import Fuse, blow
from cdc_sync.core.outbox import Verified
from cdc_sync.core.rules import WatchRules
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import queries
from cdc_sync.store.columns import adopted_at, key_text, known_from
from cdc_sync.store.deciding import Before, Placed, Steps, steps_of
from cdc_sync.store.postgres.rows import Connection, as_json, content_row, event_row, text, texts, write
from cdc_sync.store.protocol import Batch, Event, Lease, Recorded, TakenOverError

SQL = queries.statements("postgres/recording.sql")

_NO_CONTENT = (None,) * 8


async def record(connection: Connection, rules: WatchRules, batch: Batch, by: int | None) -> list[Recorded]:
    """See `Store.record`; `by` is the daemon that captures, which must hold the watch's lease. None: nobody took it.

    Raises:
        TakenOverError: it does not hold the lease any more.
    """
    watch = rules.watch
    fuse = await _lock(connection, watch, by)
    before = await _before(connection, watch, batch)
    steps = steps_of(rules, batch, before, fuse)
    await _take(connection, watch, batch.at, steps)
    await _note(connection, watch, batch)
    # Endpoints last: whoever waits for one holds everything else already.
    if steps.endpoints:
        await connection.execute(SQL["endpoint"], {"endpoints": sorted(steps.endpoints)})
    return steps.news


async def put(connection: Connection, watch: str, placed: Iterable[Placed]) -> None:
    """Put contents into the outbox, in the place of what waits there."""
    rows = [
        {
            "application_id": each.sighting.application_id,
            **content_row(each.sighting.content),
            "kinds": each.kinds,
            "state": each.state,
            "at": each.at,
            "due_at": each.due_at,
            "reason": each.reason,
            "endpoint": each.endpoint,
        }
        for each in placed
    ]
    await write(connection, SQL["queue"], rows, watch=watch)


async def remember(connection: Connection, events: Iterable[Event]) -> None:
    """Write events of applications' stories."""
    await write(connection, SQL["remember"], map(event_row, events))


async def verify(connection: Connection, watch: str, verified: Iterable[Verified]) -> None:
    """See `Store.verify`."""
    rows: list[dict[str, Any]] = [
        {
            "application_id": each.application_id,
            "row_key": key_text(each.key),
            "digest": each.digest,
            "status": each.content and each.content.status,
            "job_id": each.content and each.content.job_id,
            "deleted": each.content and each.content.deleted,
        }
        for each in verified
    ]
    await write(connection, SQL["verify"], rows, watch=watch)


async def take(connection: Connection, watch: str, by: int, session: str, instead_of: Lease | None) -> Lease:
    """See `Store.take`; `by` is the daemon."""
    parameters = {"watch": watch}
    await connection.execute(SQL["add_watch"], parameters)
    row = await (await connection.execute(SQL["lease"], parameters)).fetchone()
    number, host, process, before = row or (None, None, None, None)
    found = Lease(mine=False, session=before, number=number, host=host, process=process)
    if number not in {None, by} and found != instead_of:
        return found
    await connection.execute(SQL["set_lease"], {"watch": watch, "daemon": by, "session": session})
    return Lease(mine=True, session=before)


async def save_fuse(connection: Connection, watch: str, fuse: Fuse) -> None:
    """Keep the watch's fuse; its row is locked."""
    await connection.execute(SQL["set_fuse"], {"watch": watch, "fuse": json.dumps(asdict(fuse))})


async def blow_fuse(connection: Connection, watch: str, reason: str, now: int) -> None:
    """See `Store.blow_fuse`."""
    await save_fuse(connection, watch, blow(await _lock(connection, watch, None), now, reason))


def fuse_from(state: str | None) -> Fuse:
    """A watch's fuse; a whole one if it never counted anything."""
    return Fuse() if state is None else Fuse(**json.loads(state))


async def _lock(connection: Connection, watch: str, by: int | None) -> Fuse:
    """From here on nobody else writes for the watch."""
    parameters = {"watch": watch}
    row = await (await connection.execute(SQL["lock_watch"], parameters)).fetchone()
    if row is None:
        await connection.execute(SQL["add_watch"], parameters)
        row = await (await connection.execute(SQL["lock_watch"], parameters)).fetchone()
    leased_by, fuse = row or (None, None)
    if by is not None and leased_by != by:
        raise TakenOverError(
            f"This daemon's lease on the watch {watch} has ended: it was stopped, cut off from the store, or lost its "
            f"session on the database, and another daemon may work now. What it had read is not recorded; it waits for "
            f"its turn."
        )
    return fuse_from(fuse)


async def _before(connection: Connection, watch: str, batch: Batch) -> dict[str, Before]:
    """What is known, locked before it is read. The rows that leave their scope too: theirs are locked in one go."""
    ids = texts(sighting.application_id for sighting in batch.sightings)
    both = ids + texts(batch.out_of_scope)
    if not both:
        return {}
    snapshot = await connection.execute(SQL["lock_snapshot"], {"watch": watch, "ids": both})
    known = {row[1]: row for row in await snapshot.fetchall()}
    wanted = [id_ for id_ in ids if id_ in known]
    if not wanted:
        return {}
    outbox = await connection.execute(SQL["lock_outbox"], {"watch": watch, "ids": wanted})
    waiting = {row[0]: row[1:] for row in await outbox.fetchall()}
    nothing = (*_NO_CONTENT, None, None, None, None)
    return {
        id_: Before(known_from((*known[id_][:-1], *entry[:-3], known[id_][-1])), *entry[-3:])
        for id_ in wanted
        for entry in (waiting.get(id_, nothing),)
    }


async def _take(connection: Connection, watch: str, now: int, steps: Steps) -> None:
    """Do what was decided: a statement for each sort of step."""
    new = [{"application_id": each.application_id, "row_key": key_text(each.key)} for each in steps.new]
    await write(connection, SQL["seen_new"], new, watch=watch)
    adopted: list[dict[str, Any]] = [
        {
            "application_id": each.application_id,
            "row_key": key_text(each.key),
            **content_row(each.content),
            "verified": each.digest,
        }
        for each in steps.adopted
    ]
    await write(connection, SQL["adopt_new"], adopted, watch=watch, now=adopted_at(now))
    moved = [{"application_id": each.application_id, "row_key": key_text(each.key)} for each in steps.moved]
    await write(connection, SQL["move"], moved, watch=watch)
    told = [
        {"watch": watch, "application_id": each.application_id, **content_row(each.content), "told_at": adopted_at(now)}
        for each in steps.told
    ]
    await write(connection, SQL["tell"], told)
    if steps.cancelled:
        await connection.execute(SQL["cancel"], {"watch": watch, "ids": texts(steps.cancelled)})
    await put(connection, watch, steps.placed)
    refreshed = [
        {
            "application_id": each.application_id,
            **content_row(each.content),
            "endpoint": endpoint_of(each.content.url),
        }
        for each in steps.refreshed
    ]
    await write(connection, SQL["refresh"], refreshed, watch=watch)
    await remember(connection, steps.events)
    if steps.fuse is not None:
        await save_fuse(connection, watch, steps.fuse)
    # Every record is made here, and none is ever removed.
    more = len(steps.new) + len(steps.adopted)
    changed = any(not isinstance(one.decision, Adopt) for one in steps.news)
    if more or changed:
        tally = {"watch": watch, "new": more, "changed_at": now if changed else None}
        await connection.execute(SQL["tally"], tally)


async def _note(connection: Connection, watch: str, batch: Batch) -> None:
    """Scope, suspicions, rows that cannot be reported, positions."""
    if batch.out_of_scope:
        await connection.execute(SQL["leave_scope"], {"watch": watch, "ids": texts(batch.out_of_scope)})
    if batch.answered:
        await connection.execute(SQL["answer"], {"watch": watch, "ids": texts(batch.answered)})
    if batch.suspicions:
        suspects = as_json(asdict(suspicion) for suspicion in batch.suspicions)
        added = await connection.execute(SQL["suspect"], {"watch": watch, "rows": suspects})
        events = [Event(batch.at, watch, row[0], "suspected", {"by": batch.origin}) for row in await added.fetchall()]
        await remember(connection, events)
    cleared = [key_text(skip.key) for skip in batch.skips if skip.reason is None]
    if cleared:
        await connection.execute(SQL["unskip"], {"watch": watch, "keys": texts(cleared)})
    skipped = {
        key_text(skip.key): {"application_id": skip.application_id, "reason": skip.reason}
        for skip in batch.skips
        if skip.reason is not None
    }
    rows = [{"row_key": row_key, **skip} for row_key, skip in skipped.items()]
    await write(connection, SQL["skip"], rows, watch=watch, now=batch.at)
    positions = [{"name": name, "value": text(value)} for name, value in batch.positions.items()]
    await write(connection, SQL["set_position"], positions, watch=watch)

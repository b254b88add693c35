"""What a person asks for: release, discard, retry, resend."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cdc_sync.core.content import Content
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import EntryState, Sighting
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import queries
from cdc_sync.store.columns import content_from
from cdc_sync.store.deciding import Placed, described
from cdc_sync.store.postgres.delivering import SQL as DELIVERING
from cdc_sync.store.postgres.recording import SQL as RECORDING
from cdc_sync.store.postgres.recording import fuse_from, put, remember, save_fuse
from cdc_sync.store.postgres.rows import Connection, Whose, content_row, texts, whose_rows, write
from cdc_sync.store.protocol import Event, Only

SQL = queries.statements("postgres/operating.sql")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which outbox entries a person means; None means no restriction."""

    state: EntryState
    watch: str | None
    ids: Sequence[str] | None = None
    only: Only | None = None
    limit: int | None = None


async def release_held(connection: Connection, selection: Selection, now: int, due_at: int) -> int:
    """See `Store.release_held`; `now` is the time for people, `due_at` the same by the store's clock."""
    fuses = await _lock_watches(connection, selection.watch)
    chosen = await _select(connection, selection, fuses)
    events = [Event(now, *whose, "released", {"to": described(content)}) for whose, content in chosen]
    await _revive(connection, chosen, due_at, events)
    await _mend_fuses(connection, fuses)
    return len(chosen)


async def discard(connection: Connection, selection: Selection, now: int) -> list[Whose]:
    """See `Store.discard`."""
    fuses = await _lock_watches(connection, selection.watch)
    # An entry with a call under way stays: without it, nothing would keep a second call from overtaking the first.
    chosen = await _select(connection, selection, fuses, under_way=False)
    told = [
        {"watch": watch, "application_id": id_, **content_row(content), "told_at": now}
        for (watch, id_), content in chosen
    ]
    await write(connection, RECORDING["tell"], told)
    await write(connection, DELIVERING["drop"], [{"watch": watch, "application_id": id_} for (watch, id_), _ in chosen])
    detail = [{"was": selection.state, "to": described(content)} for _, content in chosen]
    await remember(
        connection, [Event(now, *whose, "discarded", of) for (whose, _), of in zip(chosen, detail, strict=True)]
    )
    if selection.state == "held":
        await _mend_fuses(connection, fuses)
    return [whose for whose, _ in chosen]


async def retry_dead(connection: Connection, selection: Selection, now: int, due_at: int) -> list[Whose]:
    """See `Store.retry_dead`; its times are those of `release_held`."""
    watches = await _lock_watches(connection, selection.watch)
    chosen = [each for each in await _select(connection, selection, watches) if _is_callable(each[1])]
    events = [Event(now, *whose, "retried", {"to": described(content)}) for whose, content in chosen]
    await _revive(connection, chosen, due_at, events)
    return [whose for whose, _ in chosen]


async def resend(connection: Connection, watch: str | None, ids: Sequence[str], now: int, due_at: int) -> list[Whose]:
    """See `Store.resend`; its times are those of `release_held`."""
    watches = await _lock_watches(connection, watch)
    rows = await connection.execute(SQL["to_resend"], {"ids": texts(ids), "watches": list(watches)})
    known = {(row[0], row[1]): content_from(row[2:]) for row in await rows.fetchall()}
    waiting = {
        (row[0], row[1]): row[2]
        for row in await (await connection.execute(SQL["waiting"], {"rows": whose_rows(known)})).fetchall()
    }
    # Something newer, or the same, waits already: let it go out now.
    hastened = [whose for whose in known if waiting.get(whose) == "pending"]
    again = {
        whose: content
        for whose, content in known.items()
        if whose not in waiting and content is not None and _is_callable(content)
    }
    await write(
        connection, SQL["hasten"], [{"watch": name, "application_id": id_} for name, id_ in hastened], now=due_at
    )
    for name in watches:
        placed = [
            Placed(Sighting(id_, (), content), "", "pending", due_at, due_at, None)
            for (of, id_), content in again.items()
            if of == name
        ]
        await put(connection, name, placed)
    found = [whose for whose in known if whose in again or whose in hastened]
    events = [Event(now, *whose, "resend", {"to": of and described(of)}) for whose in found for of in (known[whose],)]
    await remember(connection, events)
    await _add_endpoints(connection, again.values())
    return found


async def _lock_watches(connection: Connection, watch: str | None) -> dict[str, Fuse]:
    """From here on nobody records for these watches; only claims and ends come between. Returns their fuses."""
    rows = await (await connection.execute(SQL["lock_watches"], {"watch": watch})).fetchall()
    return {name: fuse_from(fuse) for name, fuse in rows}


async def _select(
    connection: Connection, selection: Selection, watches: Mapping[str, Fuse], *, under_way: bool = True
) -> list[tuple[Whose, Content]]:
    """Find entries, lock them in order, and leave out those that are no longer what was found."""
    parameters = {
        "state": selection.state,
        "watches": list(watches),
        "ids": None if selection.ids is None else texts(selection.ids),
        "deleted": None if selection.only is None else selection.only == "deletions",
        "under_way": under_way,
        "limit": selection.limit,
    }
    found: list[Whose] = [
        (watch, id_) for watch, id_ in await (await connection.execute(SQL["in_state"], parameters)).fetchall()
    ]
    rows = whose_rows(found)
    await connection.execute(DELIVERING["lock_told"], {"rows": rows})
    locked = await connection.execute(SQL["lock_in_state"], {**parameters, "rows": rows})
    contents = {(row[0], row[1]): content_from(row[2:]) for row in await locked.fetchall()}
    return [(whose, content) for whose in found if (content := contents.get(whose)) is not None]


def _is_callable(content: Content) -> bool:
    """An entry whose URL is no URL can only be discarded, or mended in the ATS."""
    try:
        endpoint_of(content.url)
    except ValueError:
        return False
    return True


async def _revive(
    connection: Connection, chosen: Sequence[tuple[Whose, Content]], due_at: int, events: Sequence[Event]
) -> None:
    rows = [
        {"watch": watch, "application_id": id_, "endpoint": endpoint_of(content.url)}
        for (watch, id_), content in chosen
    ]
    await write(connection, SQL["revive"], rows, now=due_at)
    await remember(connection, events)
    await _add_endpoints(connection, [content for _, content in chosen])


async def _add_endpoints(connection: Connection, contents: Iterable[Content]) -> None:
    endpoints = sorted({endpoint_of(content.url) for content in contents})
    if endpoints:
        await connection.execute(RECORDING["endpoint"], {"endpoints": endpoints})


async def _mend_fuses(connection: Connection, fuses: Mapping[str, Fuse]) -> None:
    for name, fuse in fuses.items():
        if fuse.blown_at is None:
            continue
        row = await (await connection.execute(SQL["held_left"], {"watch": name})).fetchone()
        if row is not None and not row[0]:
            await save_fuse(connection, name, Fuse())

"""Claiming entries for sending, and writing what became of them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cdc_sync.core.delivery import Again, Done, GiveUp
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Entry
from cdc_sync.store import queries
from cdc_sync.store.columns import entry_from
from cdc_sync.store.deciding import Current, Ended, attempt, counted, counted_calls, described, ended
from cdc_sync.store.postgres.recording import SQL as RECORDING
from cdc_sync.store.postgres.recording import remember
from cdc_sync.store.postgres.rows import Connection, Whose, as_json, content_row, whose_rows, write
from cdc_sync.store.protocol import Event, Finished

SQL = queries.statements("postgres/delivering.sql")


@dataclass(frozen=True, slots=True)
class Taking:
    """Who claims, and when.

    Attributes:
        daemon: the claiming daemon's number.
        now: the time.
        shift: what is added to it for people.
        horizon: see `Store.claim`.
        under_way: what this daemon has a call for already, whoever the claim belongs to now: left out.
    """

    daemon: int
    now: int
    shift: int
    horizon: int
    under_way: Collection[Whose]


async def claim(
    connection: Connection, taking: Taking, wanted: Mapping[str, int], probing: Collection[str]
) -> list[Entry]:
    """See `Store.claim`."""
    now = taking.now
    times = {"now": now, **counted(now)}
    found: list[Entry] = []
    for endpoint, limit in wanted.items():
        parameters = {**times, "latest": now + taking.horizon, "endpoint": endpoint}
        first = SQL["probe" if endpoint in probing else "due"]
        rows = await (await connection.execute(first, {**parameters, "limit": limit})).fetchall()
        if len(rows) < limit:
            rest = await connection.execute(SQL["overdue_by_clock"], {**parameters, "limit": limit - len(rows)})
            rows += await rest.fetchall()
        found += map(entry_from, rows)
    claimed = [entry for entry in found if _whose(entry) not in taking.under_way]
    if claimed:
        keys = [{"watch": entry.watch, "application_id": entry.application_id} for entry in claimed]
        await write(connection, SQL["claim"], keys, daemon=taking.daemon, **times)
        await remember(connection, [attempt(entry, now + taking.shift) for entry in claimed])
    return claimed


async def reconcile(
    connection: Connection, daemon: int, under_way: Collection[Whose], ours: Sequence[Entry]
) -> list[Whose]:
    """Make the store's claims of this daemon those that it knows of.

    The answer to a claim, or to the end of an attempt, may have been lost after it was written; and a store that failed
    over to a server that was behind has claims back that were given up, and lacks others.

    Args:
        connection: in a transaction, while this daemon claims nothing.
        daemon: this daemon's number.
        under_way: what it has a call for; all other claims are let go of.
        ours: the entries among them, as they were claimed, whose end is not being written. They are claimed again,
            unless somebody else has them or has tried them since.

    Returns those that were claimed again.
    """
    rows = await (await connection.execute(SQL["claimed"], {"daemon": daemon})).fetchall()
    claimed = {(watch, id_) for watch, id_ in rows}
    if forgotten := sorted(claimed - set(under_way)):
        await connection.execute(SQL["give_back"], {"daemon": daemon, "rows": whose_rows(forgotten)})
    lost = [
        {"watch": e.watch, "application_id": e.application_id, "revision": e.revision, "attempts": e.attempts}
        for e in ours
        if _whose(e) not in claimed
    ]
    if not lost:
        return []
    again = await connection.execute(SQL["claim_again"], {"daemon": daemon, "rows": as_json(lost)})
    return [(watch, id_) for watch, id_ in await again.fetchall()]


async def finish(
    connection: Connection,
    finished: Sequence[Finished],
    health: Mapping[str, Health],
    claims: Mapping[Whose, int],
    *,
    shift: int,
) -> None:
    """See `Store.finish`; `claims` tells under which daemon's number each entry was claimed.

    What is added to its times for people is `shift`.

    An end whose claim is no longer ours decides nothing: another daemon has taken the entry, and has sent it since or
    will. It is told in the story alone.
    """
    events: list[Event] = []
    decided: list[tuple[Finished, Ended]] = []
    keys = {_whose(end.entry) for end in finished}
    if keys:
        rows = whose_rows(keys)
        await connection.execute(SQL["lock_told"], {"rows": rows})
        current = {
            (row[0], row[1]): (row[2], Current(*row[3:]))
            for row in await (await connection.execute(SQL["current"], {"rows": rows})).fetchall()
        }
        for end in finished:
            claimed_by, waiting = current.get(_whose(end.entry), (None, None))
            if claimed_by is None or claimed_by != claims.get(_whose(end.entry)):
                events.append(_too_late(end, shift))
                continue
            after = ended(end, waiting, shift)
            decided.append((end, after))
            events.append(after.event)
    await _write_ends(connection, decided)
    await remember(connection, events)
    states = [{"endpoint": name, "health": json.dumps(asdict(health[name]))} for name in sorted(health)]
    await write(connection, SQL["set_health"], states)
    calls = counted_calls(finished, shift)
    counted = [{"step": step, "outcome": outcome, "count": calls[step, outcome]} for step, outcome in sorted(calls)]
    await write(connection, SQL["count_calls"], counted)


async def _write_ends(connection: Connection, decided: Sequence[tuple[Finished, Ended]]) -> None:
    told: list[dict[str, Any]] = []
    forgotten: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for end, after in decided:
        key = {"watch": end.entry.watch, "application_id": end.entry.application_id}
        if after.told:
            told.append({**key, **content_row(end.entry.content), "told_at": after.event.at})
        match after.becomes, end.fate:
            case "forgotten", _:
                forgotten.append(key)
            case "again", Again() as again:
                others.append({**key, "becomes": "again", **asdict(again), "reason": end.reply.get("reason")})
            case "dead", GiveUp(reason):
                others.append({**key, "becomes": "dead", "reason": reason})
            case becomes, _:
                others.append({**key, "becomes": becomes})
    await write(connection, RECORDING["tell"], told)
    await write(connection, SQL["drop"], forgotten)
    await write(connection, SQL["unclaim"], others)


def _too_late(end: Finished, shift: int) -> Event:
    detail = {**end.reply, "to": described(end.entry.content), "claim_lost": True}
    if isinstance(end.fate, Done):
        detail["acknowledged"] = True  # no failure: HelloWork has it, and receives it once more
    return Event(end.at + shift, end.entry.watch, end.entry.application_id, "answered", detail)


def _whose(entry: Entry) -> Whose:
    return entry.watch, entry.application_id

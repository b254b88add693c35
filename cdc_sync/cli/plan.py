"""`cdc-sync plan`: what would be sent now, and why."""

import asyncio
from typing import Any

import typer
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, facts, invocation, no_such_watch, print_json, words
from cdc_sync.config import Config
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.payload import iso
from cdc_sync.daemon.running import make_database, make_parts, opened_store
from cdc_sync.pipeline import remapping
from cdc_sync.pipeline.baseline import POSITION, BaselinePosition
from cdc_sync.pipeline.plan import Planned
from cdc_sync.pipeline.plan import plan as make_plan
from cdc_sync.pipeline.watch import connect
from cdc_sync.store.store import Store

_MOST_ENTRIES = 1_000_000
_AT_ONCE = 20_000


def plan(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show what would be sent now, and why. Changes nothing; works beside the daemon."""
    config = invocation(context).config()
    if watch is not None and watch not in config.watches:
        raise no_such_watch(config, watch)
    found, notes = asyncio.run(_plan(config, watch))
    if as_json:
        print_json(found)
        return
    for note in notes:
        console.print(note)
    sends = [item for item in found if item["action"] != "adopt"]
    if not sends:
        console.print("Nothing would be sent.")
        return
    # Of what is not in the outbox yet nobody can tell when it is sent.
    due = ["due"] if any(item["due_at"] for item in sends) else []
    table = Table("watch", "application", "action", "because", "HelloWork knows", "would be told", *due)
    for item in sends:
        because = ", ".join(item["kinds"]) or (item["reason"] or "")
        told, observed = (words(item[name]) if item[name] else "" for name in ("told", "observed"))
        when = [_due(item)] if due else []
        table.add_row(item["watch"], item["application_id"] or "", item["action"], because, told, observed, *when)
    console.print(table)


async def _plan(config: Config, only: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    # A copy, as for a dry run: what is shown is one moment, and the daemon is not disturbed.
    async with opened_store(config, dry_run=True) as store:
        for name in [only] if only else config.watches:
            found += await _waiting(store, name, "pending")
            found += await _waiting(store, name, "held")
            found += await _differences(config, name, store, notes)
    return found, notes


async def _waiting(store: Store, name: str, state: EntryState) -> list[dict[str, Any]]:
    """What is in the outbox already, beside the state that HelloWork acknowledged before."""
    entries = await store.entries(state, name, _MOST_ENTRIES)
    found: list[dict[str, Any]] = []
    for first in range(0, len(entries), _AT_ONCE):
        some = entries[first : first + _AT_ONCE]
        known = await store.known(name, [entry.application_id for entry in some])
        for entry in some:
            before = known.get(entry.application_id)
            told = None if before is None else before.told
            kinds = tuple(sorted(entry.kinds))
            planned = Planned(entry.application_id, "send", kinds, told, entry.content, entry.reason)
            more = {"due_at": iso(entry.due_at)} | ({} if state == "pending" else {"action": state})
            found.append(_item(name, planned) | more)
    return found


async def _differences(config: Config, name: str, store: Store, notes: list[str]) -> list[dict[str, Any]]:
    parts = make_parts(config, name, make_database(config, store), lambda _: None, dry_run=True)
    positions = await store.positions(name)
    position = BaselinePosition.from_text(positions.get(POSITION))
    first = position is None or not position.done
    before = None if first else remapping.before(positions, parts.rules)
    unseen = parts.rules.baseline if first else parts.rules.first_status
    async with connect(parts) as connected:
        plans = make_plan(connected.intake.reader, store, parts.rules, unseen, store.clock.for_people(), old=before)
        planned = [each async for each in plans]
    found = [_item(name, each) for each in planned]
    if before is not None:
        notes.append(_remapped(name, sum(map(remapping.is_told_otherwise, planned)), parts.rules.fuse.max_changes))
    if first and unseen == "adopt":
        adopted = sum(item["action"] == "adopt" for item in found)
        notes.append(f"{name}: the baseline is not done; it would adopt {adopted} applications without a call.")
    return found


def _remapped(watch: str, touched: int, most: int) -> str:
    held = f" More than fuse.max_changes ({most}): all of them would be held for a person." if touched > most else ""
    return (
        f"{watch}: the section status has changed since the daemon worked last: {touched} applications would be told "
        f"another status for that reason alone.{held}"
    )


def _item(watch: str, planned: Planned) -> dict[str, Any]:
    return {
        "watch": watch,
        "application_id": planned.application_id,
        "action": planned.action,
        "kinds": list(planned.kinds),
        "told": planned.told and facts(planned.told),
        "observed": planned.observed and facts(planned.observed),
        "reason": planned.reason,
        "due_at": None,
        "remapped": planned.remapped,
    }


def _due(item: dict[str, Any]) -> str:
    if item["due_at"] is None:
        return ""
    return "when released" if item["action"] == "held" else str(item["due_at"])

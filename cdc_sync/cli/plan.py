"""`cdc-sync plan`: what would be sent now, and why."""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, facts, invocation, no_such_watch, print_json, words
from cdc_sync.config import Config
from cdc_sync.core.delivery import is_paused
from cdc_sync.core.diff import Fuse, blow, transition
from cdc_sync.core.payload import iso
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.daemon.running import make_database, make_parts, opened_store
from cdc_sync.pipeline.baseline import POSITION, BaselinePosition
from cdc_sync.pipeline.plan import Action, Planned, before_edit, is_told_otherwise, why_held
from cdc_sync.pipeline.plan import plan as make_plan
from cdc_sync.pipeline.watch import connect
from cdc_sync.store.operation import EXAMPLES
from cdc_sync.store.store import Store

_PAUSED, _LATER = "send once resumed", "send later"

_SHOWN = 50
"""How many groups are listed."""

_MOST_ENTRIES = 1_000_000
_AT_ONCE = 20_000


def plan(
    context: typer.Context,
    watch: WatchOption = None,
    *,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="List so many applications one by one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all of them one by one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what would be sent now, held, or sent later, and why. Changes nothing; works beside the daemon."""
    config = invocation(context).config()
    if watch is not None and watch not in config.watches:
        raise no_such_watch(config, watch)
    found, notes = asyncio.run(_plan(config, watch))
    limit = None if every else limit
    if as_json:
        # What makes no call comes last: a limit is for what would be sent.
        print_json(sorted(found, key=lambda item: item["action"] == "adopt")[:limit])
        return
    for note in notes:
        console.print(note)
    news = [item for item in found if item["action"] != "adopt"]
    if not news:
        console.print("Nothing would be sent.")
        return
    totals = Counter(item["when"] for item in news)
    what = "1 application" if len(news) == 1 else f"{len(news)} applications"
    console.print(f"{what}: {', '.join(f'{number} {when}' for when, number in totals.most_common())}")
    console.print(_one_by_one(news[:limit]) if every or limit else _grouped(news))
    if limit and limit < len(news):
        console.print(f"… and {len(news) - limit} more (--all shows them)")


def _grouped(news: Sequence[dict[str, Any]]) -> Table:
    """What happens alike is one line, the largest group first."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for item in news:
        alike = (item["watch"], item["when"], item["transition"] or "", item["reason"] or "")
        groups.setdefault(alike, []).append(item)
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))
    more = f"… and {len(largest) - _SHOWN} more groups (--all lists every application)"
    caption = more if len(largest) > _SHOWN else None
    table = Table("watch", "number", "action", "transition", "because", "for example", caption=caption)
    for (watch, when, what, reason), items in largest[:_SHOWN]:
        due = min((item["due_at"] for item in items if item["due_at"]), default="")
        because = reason or (f"the first at {due}" if when == _LATER else "")
        ids = ", ".join(item["application_id"] or "?" for item in items[:EXAMPLES]) + ", …" * (len(items) > EXAMPLES)
        table.add_row(watch, str(len(items)), when, what, because, ids)
    return table


def _one_by_one(news: Sequence[dict[str, Any]]) -> Table:
    table = Table("watch", "application", "action", "because", "HelloWork knows", "would be told", "due")
    for item in news:
        because = item["reason"] or ", ".join(item["kinds"])
        told, observed = (words(item[name]) if item[name] else "" for name in ("told", "observed"))
        cells = (item["when"], because, told, observed, item["due_at"] or "")
        table.add_row(item["watch"], item["application_id"] or "", *cells)
    return table


async def _plan(config: Config, only: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    # A copy, as for a dry run: what is shown is one moment, and the daemon is not disturbed.
    async with opened_store(config, dry_run=True) as store:
        paused = await store.paused()
        notes += [f"sending to {each or 'all endpoints'} is paused by an operator" for each in sorted(paused)]
        for name in [only] if only else config.watches:
            entries = [*await _waiting(store, name, "pending"), *await _waiting(store, name, "held")]
            news = await _differences(config, name, store, notes)
            replaced = {each.application_id for each in news if each.action not in {"skip", "confirm-deletion"}}
            planned = [*(each for each in entries if each.application_id not in replaced), *news]
            found += [_item(name, each, paused, store.clock.for_people()) for each in planned]
    return found, notes


async def _waiting(store: Store, name: str, state: Literal["pending", "held"]) -> list[Planned]:
    """What is in the outbox already, beside the state that HelloWork acknowledged before."""
    entries = await store.entries(state, name, _MOST_ENTRIES)
    found: list[Planned] = []
    for first in range(0, len(entries), _AT_ONCE):
        some = entries[first : first + _AT_ONCE]
        known = await store.known(name, [entry.application_id for entry in some])
        for entry in some:
            before, kinds = known.get(entry.application_id), tuple(sorted(entry.kinds))
            told = None if before is None else before.told
            due_at = entry.due_at if state == "pending" else None
            action: Action = "send" if state == "pending" else "held"
            found.append(Planned(entry.application_id, action, kinds, told, entry.content, entry.reason, due_at))
    return found


async def _differences(config: Config, name: str, store: Store, notes: list[str]) -> list[Planned]:
    parts = make_parts(config, name, make_database(config, store), lambda _: None, dry_run=True)
    rules, positions = parts.rules, await store.positions(name)
    position = BaselinePosition.from_text(positions.get(POSITION))
    first = position is None or not position.done
    before = None if first else before_edit(positions, rules.status)
    unseen = rules.baseline if first else rules.first_status
    fuse = (await store.fuses()).get(name, Fuse())
    async with connect(parts) as connected:

        async def look(fuse: Fuse) -> list[Planned]:
            return [each async for each in make_plan(connected.intake, unseen, fuse=fuse, old=before)]

        planned = await look(fuse)
        touched = sum(map(is_told_otherwise, planned))
        if touched > rules.fuse.max_changes:
            # As the daemon does at its start.
            blown = blow(fuse, store.clock(), why_held(touched))._replace(holds_all=True)
            planned = await look(blown)
    if before is not None:
        notes.append(_remapped(name, touched, rules.fuse.max_changes))
    if first and unseen == "adopt":
        adopted = sum(each.action == "adopt" for each in planned)
        notes.append(f"{name}: the baseline is not done; it would adopt {adopted} applications without a call.")
    return planned


def _remapped(watch: str, touched: int, most: int) -> str:
    held = f" More than fuse.max_changes ({most}): all of them would be held for a person." if touched > most else ""
    return (
        f"{watch}: the section status has changed since the daemon worked last: {touched} applications would be told "
        f"another status for that reason alone.{held}"
    )


def _item(watch: str, planned: Planned, paused: Collection[str], now: int) -> dict[str, Any]:
    observed, due_at, when = planned.observed, planned.due_at, str(planned.action)
    if planned.action == "send" and observed is not None:
        when = _PAUSED if is_paused(paused, endpoint_of(observed.url)) else when
        when = _LATER if when == "send" and due_at is not None and due_at > now else when
    return {
        "watch": watch,
        "application_id": planned.application_id,
        "action": planned.action,
        "when": when,
        "transition": observed and transition(planned.told, observed),
        "kinds": list(planned.kinds),
        "told": planned.told and facts(planned.told),
        "observed": observed and facts(observed),
        "reason": planned.reason,
        "due_at": None if due_at is None else iso(due_at),
        "remapped": planned.remapped,
    }

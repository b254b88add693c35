"""`cdc-sync plan`: the daemon's next calls, and why."""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import typer

from cdc_sync.admin.story import facts
from cdc_sync.ats.beginning import connect, is_adopted
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.preview import Action, Planned, before_edit, is_only_remapped, why_held
from cdc_sync.ats.preview import plan as make_plan
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.cli.console import print_table, print_text, text, words
from cdc_sync.cli.context import JsonOption, WatchOption, chosen, configured, print_json, say, with_tenants
from cdc_sync.config import Config
from cdc_sync.core.content import iso
from cdc_sync.core.diff import Fuse, blow, transition
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.replies import is_paused
from cdc_sync.daemon.watching import make_database, make_parts
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.opening import leading_copy
from cdc_sync.store.operation import EXAMPLES

_PAUSED, _LATER = "send once resumed", "send later"

_SHOWN = 50
"""Most listed groups."""

_MOST_ENTRIES = 1_000_000


def plan(
    context: typer.Context,
    watch: WatchOption = None,
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="List so many applications one by one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all of them one by one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what would be sent now, held, or sent later, and why. Changes nothing; works beside the daemon."""
    config = with_tenants(configured(context), watch)
    found, notes, failed = asyncio.run(_plan(config, chosen(config, watch)))
    for line in failed:
        say(line, err=True)
    _show(found, notes, limit, every=every, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _show(
    found: Sequence[dict[str, Any]], notes: Sequence[str], limit: int | None, *, every: bool, as_json: bool
) -> None:
    limit = None if every else limit
    if as_json:
        # The limit is for calls: they come first.
        print_json(sorted(found, key=lambda item: item["action"] == "adopt")[:limit])
        return
    news = [item for item in found if item["action"] != "adopt"]
    print_text("plan", notes=notes, news=news, totals=Counter(item["when"] for item in news).most_common())
    if news and (every or limit):
        columns = ("watch", "application", "action", "because", "HelloWork knows", "would be sent", "due")
        print_table(columns, map(_cells, news[:limit]))
        print_text("plan_more", more=len(news) - len(news[:limit]))
    elif news:
        _show_groups(news)


def _show_groups(news: Sequence[dict[str, Any]]) -> None:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for item in news:
        alike = (item["watch"], item["when"], item["transition"] or "", item["reason"] or "")
        groups.setdefault(alike, []).append(item)
    rows = []
    for (watch, when, what, reason), items in sorted(groups.items(), key=lambda group: -len(group[1]))[:_SHOWN]:
        due = min((item["due_at"] for item in items if item["due_at"]), default="")
        because = reason or (f"the first at {due}" if when == _LATER else "")
        ids = ", ".join(item["application_id"] or "?" for item in items[:EXAMPLES]) + ", …" * (len(items) > EXAMPLES)
        rows.append((watch, len(items), when, what, because, ids))
    more = f"… and {len(groups) - _SHOWN} more groups (--all lists every application)"
    columns = ("watch", "number", "action", "transition", "because", "for example")
    print_table(columns, rows, caption=more if len(groups) > _SHOWN else None)


def _cells(item: dict[str, Any]) -> tuple[object, ...]:
    because = item["reason"] or ", ".join(item["kinds"])
    states = (item[name] and words(item[name]) for name in ("told", "observed"))
    return item["watch"], item["application_id"], item["when"], because, *states, item["due_at"]


async def _plan(config: Config, names: Sequence[str]) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """The plan, notes, and errors of databases."""
    found, failed, down = list[dict[str, Any]](), list[str](), set[str]()
    # A copy: of one moment, without disturbing the daemon.
    async with leading_copy(config) as lead:
        store = lead.store
        paused = await store.operation.paused()
        notes = [f"sending to {each or 'all endpoints'} is paused by an operator" for each in sorted(paused)]
        for name in names:
            if (database := config.database_name(name)) in down:
                failed.append(f"{name}: its database {database} cannot be used either")
                continue
            try:
                news = await _differences(config, name, store, notes)
            except (SourceError, AnotherDatabaseError) as error:
                if len(config.all_databases) == 1:
                    raise
                failed.append(f"{name}: {error}")
                if not isinstance(error, SourceError) or error.kind == "unreachable":
                    down.add(database)
                continue
            replaced = {each.application_id for each in news if each.action not in {"skip", "confirm-deletion"}}
            # A pending entry waits until the deletion is confirmed.
            confirmed = {("send", each.application_id) for each in news if each.action == "confirm-deletion"}
            entries = [
                each
                for each in await _waiting(store, name)
                if each.application_id not in replaced and (each.action, each.application_id) not in confirmed
            ]
            now = store.driver.clock.for_people()
            found += [_item(name, each, paused, now) for each in (*entries, *news)]
    return found, notes, failed


async def _waiting(store: Store, name: str) -> list[Planned]:
    """The outbox, with the last acknowledged states."""
    states: tuple[EntryState, ...] = ("pending", "held")
    entries = [each for state in states for each in await store.report.entries(state, name, _MOST_ENTRIES)]
    known = await store.capture.known(name, [entry.application_id for entry in entries])
    found: list[Planned] = []
    for entry in entries:
        before, waits = known.get(entry.application_id), entry.state == "pending"
        snapshot, due_at = before and before.snapshot, entry.due_at if waits else None
        action: Action = "send" if waits else "held"
        kinds = tuple(sorted(entry.kinds))
        found.append(Planned(entry.application_id, action, kinds, snapshot, entry.content, entry.reason, due_at))
    return found


async def _differences(config: Config, name: str, store: Store, notes: list[str]) -> list[Planned]:
    database, others = make_database(config, config.database_name(name), store), OtherWatches()
    others.use(config, {})
    parts = make_parts(config, name, database, lambda _: None, others, dry_run=True)
    rules, positions = parts.rules, await store.capture.positions(name)
    first, most = not await is_adopted(store, name), rules.fuse.max_changes
    before = None if first else before_edit(positions, rules.status)
    unseen = rules.baseline if first else rules.first_status
    fuse = (await store.operation.fuses()).get(name, Fuse())
    async with connect(parts) as intake:

        async def look(fuse: Fuse) -> list[Planned]:
            return [each async for each in make_plan(intake, unseen, fuse=fuse, old=before)]

        planned = await look(fuse)
        touched = sum(map(is_only_remapped, planned))
        if touched > most:
            # As the daemon does at its start.
            planned = await look(blow(fuse, store.driver.clock(), why_held(touched))._replace(holds_all=True))
    if before is not None:
        notes.append(text("edited", watch=name, touched=touched, most=most))
    if first and unseen == "adopt":
        adopted = sum(each.action == "adopt" for each in planned)
        notes.append(f"{name}: the baseline is not done; it would adopt {adopted} applications without a call.")
    return planned


def _item(watch: str, planned: Planned, paused: Collection[str], now: int) -> dict[str, Any]:
    observed, due_at, when = planned.observed, planned.due_at, str(planned.action)
    if planned.action == "send" and observed is not None:
        when = _PAUSED if is_paused(paused, observed.endpoint) else when
        when = _LATER if when == "send" and due_at is not None and due_at > now else when
    return {
        "watch": watch,
        "application_id": planned.application_id,
        "action": planned.action,
        "when": when,
        "transition": observed and transition(planned.snapshot, observed),
        "kinds": list(planned.kinds),
        "told": planned.snapshot and facts(planned.snapshot),
        "observed": observed and facts(observed),
        "reason": planned.reason,
        "due_at": due_at and iso(due_at),
        "remapped": planned.remapped,
    }

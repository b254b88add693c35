"""`cdc-sync plan`: the daemon's next calls, and why."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from cdc_sync.admin.story import facts
from cdc_sync.ats.beginning import connect, is_adopted
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.preview import Planned, before_edit, is_only_remapped, why_held
from cdc_sync.ats.preview import plan as make_plan
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.cli.console import print_table, print_text, text
from cdc_sync.cli.context import JsonOption, WatchOption, chosen, configured, print_json, say, with_tenants
from cdc_sync.config import Config
from cdc_sync.core.content import iso
from cdc_sync.core.diff import Fuse, blow, transition
from cdc_sync.core.replies import is_paused
from cdc_sync.daemon.watching import make_database, make_parts
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.opening import leading_copy
from cdc_sync.store.operation import EXAMPLES

_LATER = "send later"

_SHOWN = 50
"""Most listed groups."""

_MOST_ENTRIES = 1_000_000


async def plan(
    context: typer.Context,
    watch: WatchOption = None,
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="List so many applications one by one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all of them one by one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what would be sent now, held, or sent later, and why. Changes nothing; works beside the daemon."""
    config = await with_tenants(configured(context), watch)
    found = await _plan(config, chosen(config, watch))
    for line in found.failed:
        say(line, err=True)
    most = None if every else limit
    news = [item for item in found.items if item["action"] != "adopt"]
    if as_json:
        # The limit is for calls.
        print_json([*news, *(item for item in found.items if item["action"] == "adopt")][:most])
    else:
        print_text("plan", notes=found.notes, news=news, totals=Counter(item["when"] for item in news).most_common())
        groups = [[item] for item in news[:most]] if every or limit else _grouped(news)
        _show(groups, len(news))
    if found.failed:
        raise typer.Exit(1)


def _grouped(news: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What happens to many applications alike, the largest group first."""
    groups = defaultdict[tuple[str, ...], list[dict[str, Any]]](list)
    for item in news:
        groups[item["watch"], item["when"], item["transition"], item["reason"]].append(item)
    return sorted(groups.values(), key=len, reverse=True)[:_SHOWN]


def _show(groups: list[list[dict[str, Any]]], number: int) -> None:
    columns = ("watch", "number", "action", "transition", "because", "for example")
    more = number - sum(map(len, groups))
    if groups:
        print_table(columns, map(_cells, groups), f"… and {more} more (--all lists every one)" if more else None)


def _cells(group: list[dict[str, Any]]) -> tuple[object, ...]:
    first = group[0]
    because = first["reason"]
    if first["when"] == _LATER:
        because = because or f"the first at {min(item['due_at'] for item in group)}"
    ids = ", ".join(item["application_id"] or "?" for item in group[:EXAMPLES]) + ", …" * (len(group) > EXAMPLES)
    return first["watch"], len(group), first["when"], first["transition"], because, ids


@dataclass(slots=True)
class _Plan:
    """What would be done, notes on it, and errors of databases."""

    items: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def _plan(config: Config, names: Iterable[str]) -> _Plan:
    found, unreachable = _Plan(), set[str]()
    # A copy: of one moment, without disturbing the daemon.
    async with leading_copy(config) as lead:
        paused = await lead.store.operation.paused()
        found.notes += [f"sending to {each or 'all endpoints'} is paused by an operator" for each in sorted(paused)]
        for name in names:
            if config.database_name(name) in unreachable:
                continue
            try:
                planned = await _of_watch(config, name, lead.store, found.notes)
            except (SourceError, AnotherDatabaseError) as error:
                if len(config.all_databases) == 1:
                    raise
                found.failed.append(f"{name}: {error}")
                if isinstance(error, SourceError) and error.kind == "unreachable":
                    unreachable.add(config.database_name(name))
                continue
            now = lead.store.driver.clock.for_people()
            found.items += [_item(name, each, paused, now) for each in planned]
    return found


async def _of_watch(config: Config, name: str, store: Store, notes: list[str]) -> list[Planned]:
    """What the outbox has, unless what the table shows replaces it, and that."""
    news = await _differences(config, name, store, notes)
    replaced = {each.application_id for each in news if each.action not in {"skip", "confirm-deletion"}}
    # A pending entry waits until the deletion is confirmed.
    confirmed = {each.application_id for each in news if each.action == "confirm-deletion"}
    waiting = await _waiting(store, name)
    kept = [each for each in waiting if each.application_id not in replaced]
    return [each for each in kept if each.action != "send" or each.application_id not in confirmed] + news


async def _waiting(store: Store, name: str) -> list[Planned]:
    """The outbox, with the last acknowledged states."""
    entries = await store.report.entries("pending", name, _MOST_ENTRIES)
    entries += await store.report.entries("held", name, _MOST_ENTRIES)
    known = await store.capture.known(name, [entry.application_id for entry in entries])
    snapshots = {id_: before.snapshot for id_, before in known.items()}
    return [
        Planned(
            entry.application_id,
            "send" if entry.state == "pending" else "held",
            tuple(sorted(entry.kinds)),
            snapshots.get(entry.application_id),
            entry.content,
            entry.reason,
            entry.due_at,
        )
        for entry in entries
    ]


async def _differences(config: Config, name: str, store: Store, notes: list[str]) -> list[Planned]:
    """What a sweep would find now."""
    database, others = make_database(config, config.database_name(name), store), OtherWatches()
    others.use(config, {})
    parts = make_parts(config, name, database, lambda _: None, others, dry_run=True)
    rules, is_first = parts.rules, not await is_adopted(store, name)
    before = None if is_first else before_edit(await store.capture.positions(name), rules.status)
    unseen = rules.baseline if is_first else rules.first_status
    fuse = (await store.operation.fuses()).get(name, Fuse())
    async with connect(parts) as intake:
        planned = [each async for each in make_plan(intake, unseen, fuse=fuse, old=before)]
        touched = sum(map(is_only_remapped, planned))
        if touched > rules.fuse.max_changes:
            # As the daemon does at its start.
            fuse = blow(fuse, store.driver.clock(), why_held(touched))._replace(holds_all=True)
            planned = [each async for each in make_plan(intake, unseen, fuse=fuse, old=before)]
    if before is not None:
        notes.append(text("edited", watch=name, touched=touched, most=rules.fuse.max_changes))
    if is_first and unseen == "adopt":
        adopted = sum(each.action == "adopt" for each in planned)
        notes.append(f"{name}: the baseline is not done; it would adopt {adopted} applications without a call.")
    return planned


def _item(watch: str, planned: Planned, paused: Collection[str], now: int) -> dict[str, Any]:
    observed, when = planned.observed, str(planned.action)
    due_at = planned.due_at if when == "send" else None
    if when == "send" and observed is not None and is_paused(paused, observed.endpoint):
        when = "send once resumed"
    elif when == "send" and due_at is not None and due_at > now:
        when = _LATER
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

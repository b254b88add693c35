"""What would be sent, and why: `cdc-sync plan`, for each application; `labels`, for each label of the status column.

For a plan the watches catch up as in a dry run, on a copy of the store. What the copy's outbox has then would be sent.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection
from typing import NamedTuple, get_args

import typer
from psycopg import sql

from cdc_sync.admin.report import Json
from cdc_sync.ats.connection import asking, connected, rows_of
from cdc_sync.ats.mapping import Mapping
from cdc_sync.config import Config
from cdc_sync.config.models import accounts, watch_rules
from cdc_sync.core.batch import NO_CALLS, described
from cdc_sync.core.content import Content, iso
from cdc_sync.core.diff import transition
from cdc_sync.core.events import WatchLost
from cdc_sync.core.outbox import Entry, EntryState
from cdc_sync.core.replies import is_paused
from cdc_sync.core.rows import StatusRules, map_status
from cdc_sync.core.watch_names import listed
from cdc_sync.daemon.process import Process
from cdc_sync.daemon.watching import Watches
from cdc_sync.store import Store
from cdc_sync.store.opening import leading_copy
from cdc_sync.store.operation import EXAMPLES

from .console import print_table, print_text
from .context import JsonOption, WatchOption, configured, matching, print_json, say, with_tenants

_ACTIONS = {"pending": "send", "held": "held", "dead": "dead-letter"}
"""By the entry's state."""

_LATER = "send later"

_SHOWN = 50
"""Most listed groups."""

_MOST = 1_000_000

_SKIPPED: Json = {
    **dict.fromkeys(("action", "when"), "skip"),
    **dict.fromkeys(("transition", "told", "observed", "due_at")),
    "kinds": [],
}
"""What is said of a row that cannot be reported."""


async def plan(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show what would be sent now, held, or sent later, and why. Changes nothing; works beside the daemon."""
    config = await with_tenants(configured(context), watch)
    names = matching(watch, config.watches)
    items, failed = await _rehearsed(config, names)
    for error in dict.fromkeys(failed.values()):
        say(f"{listed([name for name in failed if failed[name] == error])}: {error}", err=True)
    if as_json:
        print_json(items)
    elif not failed or len(failed) < len(names):
        print_text("plan", items=items, totals=Counter(item["when"] for item in items).most_common())
        groups = _grouped(items)
        columns = ("watch", "number", "action", "transition", "because", "for example")
        if groups:
            print_table(columns, map(_cells, groups))
        if more := len(items) - sum(map(len, groups)):
            say(f"… and {more} more (--json has every one)")
    if failed:
        raise typer.Exit(1)


def _grouped(items: list[Json]) -> list[list[Json]]:
    """What happens to many applications alike, the largest group first."""
    groups = defaultdict[tuple[str, ...], list[Json]](list)
    for item in items:
        groups[item["watch"], item["when"], item["transition"], item["reason"]].append(item)
    return sorted(groups.values(), key=len, reverse=True)[:_SHOWN]


def _cells(group: list[Json]) -> tuple[object, ...]:
    first = group[0]
    because = first["reason"]
    if first["when"] == _LATER:
        because = because or f"the first at {min(item['due_at'] for item in group)}"
    ids = ", ".join(item["application_id"] or "?" for item in group[:EXAMPLES]) + ", …" * (len(group) > EXAMPLES)
    return first["watch"], len(group), first["when"], first["transition"], because, ids


class _Sending(NamedTuple):
    """The configured accounts, and the endpoints that an operator has paused."""

    accounts: Collection[str]
    paused: Collection[str]


async def _rehearsed(config: Config, names: Collection[str]) -> tuple[list[Json], dict[str, str]]:
    """Do the daemon's work of these watches on a copy of the store.

    Returns what would be sent or held, or cannot be reported; and the watches that failed, with their errors.

    Raises:
        StoreError: the store cannot be used.
    """
    items, failed = list[Json](), dict[str, str]()

    def lost(event: WatchLost) -> None:
        failed[event.watch] = event.message

    process = Process(config, [lambda: {WatchLost: lost}], say, dry_run=True)
    async with leading_copy(config) as lead:
        store = lead.store
        began, paused = store.driver.clock.for_people(), await store.operation.paused()
        await Watches(process, store, config, NO_CALLS, asyncio.create_task).catch_up(names)
        for name in names:
            if name not in failed:
                items += await _items(store, name, began, _Sending(accounts(config).keys(), paused))
    return items, failed


async def _items(store: Store, watch: str, began: int, sending: _Sending) -> list[Json]:
    """What a watch's outbox has, with the dead letters since `began`, and the rows that cannot be reported."""
    pending, held, dead = [await store.report.entries(state, watch, _MOST) for state in get_args(EntryState)]
    entries = [*pending, *held, *(each for each in dead if each.queued_at >= began)]
    known = await store.capture.known(watch, [each.application_id for each in entries])
    now, skips = store.driver.clock.for_people(), await store.report.skipped([watch], _MOST)
    news = [_item(each, known[each.application_id].snapshot, now, sending) for each in entries]
    return news + [
        {"watch": watch, "application_id": skip.application_id, **_SKIPPED, "reason": skip.reason} for _, skip in skips
    ]


def _item(entry: Entry, snapshot: Content | None, now: int, sending: _Sending) -> Json:
    action = when = _ACTIONS[entry.state]
    if action == "send" and entry.content.account not in sending.accounts:
        when = "send once its account is configured"
    elif action == "send" and is_paused(sending.paused, entry.content.endpoint):
        when = "send once resumed"
    elif action == "send" and entry.due_at > now:
        when = _LATER
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        "action": action,
        "when": when,
        "transition": transition(snapshot, entry.content),
        "kinds": sorted(entry.kinds),
        "told": snapshot and described(snapshot),
        "observed": described(entry.content),
        "reason": entry.reason,
        "due_at": iso(entry.due_at) if action == "send" else None,
    }


# Labels.

_MOST_LABELS = 1_000
"""The most frequent ones of a watch: a column with more is no status."""

_COUNT = "SELECT {label}, pg_catalog.count(*) FROM {table} WHERE {scope} GROUP BY 1 ORDER BY 2 DESC LIMIT %s"


async def labels(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show each label of the status column, how many rows have it, and what is sent for it. Reads no other column."""
    config = await with_tenants(configured(context), watch)
    found = [item for name in matching(watch, config.watches) for item in await _labels_of(config, name)]
    if as_json:
        print_json(found)
    else:
        print_table(("watch", "label", "rows", "sent", "in status.map"), map(_cells_of_label, found))


async def _labels_of(config: Config, name: str) -> list[Json]:
    """A watch's labels, the most frequent first, status.map's without rows last. Raises `SourceError`."""
    watch, rules = config.watches[name], watch_rules(config, name).status
    async with connected(config.dsn_of(config.database_name(name))) as connection:
        mapping = await Mapping.prepare(connection, watch)
        parts = {"label": mapping.expressions["columns.status"], "table": mapping.table, "scope": mapping.scope}
        async with asking(f"counting the labels of {watch.table}"):
            counting = sql.SQL(_COUNT).format(**parts)
            rows = await rows_of(connection, counting, (_MOST_LABELS,), own_path=True)
    # Of a label that is not among the most frequent ones nobody knows whether it has rows.
    counts = Counter(dict.fromkeys(rules.map if len(rows) < _MOST_LABELS else (), 0))
    for text, number in rows:
        # As in `map_status`, NULL and blanks are one label.
        counts["" if text is None or text.isspace() else text] += number
    in_order = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
    return [{"watch": name, **_label(rules, *counted)} for counted in in_order]


def _label(rules: StatusRules, label: str, rows: int) -> Json:
    action, sent, mapped = "ignore", None, map_status(rules, label)
    if mapped is not None:
        status, refused = mapped
        action = "dead-letter" if refused is not None else "send" if status else "skip"
        sent = status if action == "send" else None
    return {"label": label, "rows": rows, "action": action, "sent": sent, "mapped": label in rules.map}


def _cells_of_label(item: Json) -> tuple[object, ...]:
    label, sent = item["label"] or "(NULL or blank)", item["sent"] or f"nothing ({item['action']})"
    return item["watch"], label, item["rows"], sent, "yes" if item["mapped"] else ""

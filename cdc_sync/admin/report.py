"""The status report of `cdc-sync status`, `GET /api/status` and the page; and the page's other facts.

Functions raise `StoreError`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from cdc_sync.admin.watches import Asked, first_of, foremost, shown
from cdc_sync.config import Config, Watch
from cdc_sync.config.models import built_urls
from cdc_sync.core.batch import LEFT_SCOPE, LOST_ID, HistoryEntry
from cdc_sync.core.conditions import is_for_a_person, is_standby
from cdc_sync.core.content import Content, iso, request
from cdc_sync.core.diff import Fuse
from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import Health, is_paused
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.store import Store
from cdc_sync.store.protocol import MOST_HITS, CallCounts, Condition, HeldGroup, Record, WatchCounts, meant

_BASELINE = "baseline"
_OVER_EARLIER_WORK = "baseline over earlier work"
_RECENT = 20

CALLS = 20
"""The page's last calls, and last failures."""
ENTRIES = 20
"""The page's oldest pending entries and dead letters; commands show all."""
HELD = 10
"""The page's largest groups of held entries of a watch."""
SKIPPED = 50
"""The page's skipped rows, and its endpoints."""
_GROUPED = 15_000
"""Milliseconds for which groups are reused: grouping reads every held entry."""
EVENTS = 500
"""An application's newest events on the page and in `explain`."""

_LOOKED_THROUGH = 20
"""A dead letter's newest events that are searched for its reply."""

HOURS = 12
BAR = 10 * 60 * 1000
"""Milliseconds of a chart's bar."""
BARS = HOURS * 60 * 60 * 1000 // BAR

DATES = ("due_at", "again_at", "event_date", "event_date_of_row")
"""Details of events that are milliseconds since the epoch."""


async def status_report(config: Config, store: Store, now: int, here: Iterable[Condition] = ()) -> dict[str, Any]:
    """Watches, lag, pending entries, conditions, last failures; `now` is in milliseconds since the epoch.

    Watches only in the store come last. `here` are this process's conditions, which an
    unwritable store lacks.
    """
    counts, repairs, fuses = await store.report.counts(), await store.operation.repairs(), await store.operation.fuses()
    watches: list[dict[str, Any]] = []
    several = len(config.all_databases) > 1
    positions, held = (
        await store.report.positions_of_all(_BASELINE, _OVER_EARLIER_WORK),
        await store.report.oldest("held"),
    )
    for name in (*config.watches, *sorted(counts.keys() - config.watches.keys())):
        watch, fuse, of_watch = config.watches.get(name), fuses.get(name, Fuse()), counts.get(name, WatchCounts())
        reached, oldest = positions.get(name, {}), of_watch.oldest_queued_at
        watches.append(
            {
                "watch": name,
                "configured": watch is not None,
                **({"database": config.database_name(name) if watch else None} if several else {}),
                "table": None if watch is None else str(watch.table),
                "mode": None if watch is None else watch.capture.mode,
                "baseline": _baseline(reached.get(_BASELINE)),
                "over_earlier_work": _OVER_EARLIER_WORK in reached,
                "known": of_watch.known,
                "last_change_at": None if of_watch.changed_at is None else iso(of_watch.changed_at),
                "pending": of_watch.pending,
                "oldest_pending_seconds": None if oldest is None else max(now - oldest, 0) / 1000,
                "held": of_watch.held,
                # With an intact fuse: of a suspected deletion.
                "held_reason": held[name].reason if name in held else None,
                "fuse": "blown" if fuse.blown_at is not None else "whole",
                "fuse_reason": fuse.reason,
                "dead_letters": of_watch.dead,
                "skipped": of_watch.skipped,
                "suspected_deletions": of_watch.suspected,
                "sweep_repairs": repairs.get(name, {}),
            }
        )
    paused, leader = await store.operation.paused(), await store.report.leader()
    noted = {each.name: each for each in await store.operation.conditions()}
    noted |= {each.name: each for each in here if each.name not in noted or noted[each.name].message != each.message}
    conditions = [{**asdict(each), "since": iso(each.since)} for each in noted.values()]
    return {
        "at": iso(now),
        "leader": leader and {"host": leader.host, "process": leader.process, "since": iso(leader.since)},
        "watches": watches,
        "endpoints": [
            _endpoint(store, endpoint, health, due_at, paused)
            for endpoint, (health, due_at) in (await store.delivery.endpoints()).items()
        ],
        "accounts_waiting": await store.delivery.waiting(),
        "conditions": [each for each in conditions if not is_standby(each["name"])],
        "standby": [each for each in conditions if is_standby(each["name"])],
        "last_failures": [
            {
                "watch": event.watch,
                "application_id": event.application_id,
                "at": iso(event.at),
                "event": event.event,
                "reason": event.detail.get("reason"),
            }
            for event in await store.report.recent_ends(_RECENT, failed=True)
        ],
        "skipped_rows": [
            {"watch": name, "application_id": skip.application_id, "key": list(skip.key), "reason": skip.reason}
            for name, skip in await store.report.skipped_of_each(config.watches, _RECENT)
        ],
    }


def _endpoint(
    store: Store, endpoint: str, health: Health, due_at: int | None, paused: Collection[str]
) -> dict[str, Any]:
    """An endpoint's state; `due_at` is its earliest pending entry's, `retried_at` null if no call is to come."""
    takes_calls, sending_paused = health.mode == "healthy", is_paused(paused, endpoint)
    is_retried = not takes_calls and not sending_paused and due_at is not None
    return {
        "endpoint": endpoint,
        "mode": health.mode,
        "failures": health.failures,
        "until": None if takes_calls else iso(store.driver.clock.for_people(health.until)),
        "retried_at": iso(store.driver.clock.for_people(max(health.until, due_at or 0))) if is_retried else None,
        "reason": health.reason,
        "sending_paused": sending_paused,
    }


def _baseline(text: str | None) -> dict[str, Any]:
    if text is None:
        return {"state": "not begun", "rows": 0}
    position = json.loads(text)
    return {"state": "done" if position["done"] else "running", "rows": position["known"]}


Grouped = dict[str, tuple[int, tuple[Any, ...], list[HeldGroup]]]
"""By watch: when its held entries were grouped, their number and fuse then, and the groups."""


async def overview(
    config: Config,
    store: Store,
    trends: Mapping[int, Any],
    lags: Mapping[str, float],
    now: int,
    *,
    grouped: Grouped,
    here: Iterable[Condition],
    asked: Asked,
) -> dict[str, Any]:
    """Everything on the page at `now` (milliseconds since the epoch).

    `trends` are `Trends.bars`, `lags` seconds by watch; `grouped` is kept between pages. The verdict is attention if a
    person should decide, bad if changes do not arrive for another reason.
    """
    dead = await store.report.entries("dead", None, ENTRIES)
    report = await status_report(config, store, now, here)
    watches = report["watches"]
    totals = {state: sum(watch[state] for watch in watches) for state in ("pending", "held", "dead_letters")}
    faults = [each for each in report["conditions"] if not is_for_a_person(each["name"])]
    undecided = totals["held"] or totals["dead_letters"] or report["conditions"]
    # The last calls, and the last failures, which may be older.
    calls = {
        (event.watch, event.application_id, event.at, event.event): event
        for failed in (False, True)
        for event in await store.report.recent_ends(CALLS, failed=failed)
    }
    conditions = {each["name"]: each for each in report["conditions"]}
    chosen = shown(report, lags, asked)
    held = [watch for watch in chosen["listed"] if watch["held"]]
    await _regroup(held[:MOST_LISTED], store, grouped, now)
    return {
        "now": now,
        "report": report,
        "conditions": list(foremost(conditions, {watch["watch"] for watch in watches}).values()),
        "endpoints": first_of(
            SKIPPED, report["endpoints"], lambda each: each["mode"] == "healthy" and not each["sending_paused"]
        ),
        "skipped": report["skipped_rows"][:SKIPPED],
        "watches": chosen,
        "lags": lags,
        "chart": chart(await store.report.call_counts(since(now)), now),
        "trends": {
            "latency": {at: bar.seconds / bar.calls for at, bar in trends.items() if bar.calls},
            "lag": {at: bar.lag for at, bar in trends.items()},
            "pending": {at: bar.pending for at, bar in trends.items()},
        },
        "calls": sorted(calls.values(), key=lambda event: -event.at),
        "pending": await store.report.entries("pending", None, ENTRIES),
        "held": {watch["watch"]: grouped[watch["watch"]][2] for watch in held[:MOST_LISTED]},
        "held_more": len(held[MOST_LISTED:]),
        "holding": [watch for watch in watches if watch["held"]],
        "letters": [{"entry": entry, "reply": await _reply_to(store, entry)} for entry in dead],
        "totals": {**totals, "dead": totals["dead_letters"]},
        "verdict": "bad" if faults else "attention" if undecided else "good",
    }


async def _regroup(watches: Sequence[dict[str, Any]], store: Store, grouped: Grouped, now: int) -> None:
    """Group held entries, except groups that are recent and unchanged."""
    stale = dict[str, tuple[Any, ...]]()
    for watch in watches:
        name, fuse = watch["watch"], (watch["held"], watch["fuse"], watch["fuse_reason"])
        at, before, _ = grouped.get(name, (0, (), []))
        if before != fuse or not 0 <= now - at < _GROUPED:
            stale[name] = fuse
    groups: dict[str, list[HeldGroup]] = {name: [] for name in stale}
    for group in await store.operation.held_groups(stale) if stale else []:
        groups[group.watch].append(group)
    grouped.update({name: (now, fuse, groups[name]) for name, fuse in stale.items()})


async def _reply_to(store: Store, entry: Entry) -> str | None:
    for event in reversed(await store.report.story(entry.application_id, entry.watch, _LOOKED_THROUGH)):
        if event.event == "dead-lettered":
            body = event.detail.get("body")
            return None if body is None else str(body)
    return None


def since(now: int) -> int:
    """The charts' beginning."""
    return now - now % BAR - (BARS - 1) * BAR


def chart(counts: Iterable[CallCounts], now: int) -> dict[str, Any]:
    """The chart of calls since `since(now)`; in the SVG a call is 1 high.

    Acknowledged calls go up, others down: not by colour alone.
    """
    first, parts = since(now), ("acknowledged", "retry", "dead")
    bars = {first + place * BAR: dict.fromkeys(parts, 0) for place in range(BARS)}
    for count in counts:
        if (bar := bars.get(count.step - count.step % BAR)) is not None:
            for part in parts:
                bar[part] += getattr(count, part)
    return {
        "first": first,
        "bars": [{"at": at, **bar} for at, bar in bars.items()],
        "up": max(bar["acknowledged"] for bar in bars.values()),
        "down": max(bar["retry"] + bar["dead"] for bar in bars.values()),
        "hours": [first + BARS * BAR * third // 3 for third in range(4)],
        **{part: sum(bar[part] for bar in bars.values()) for part in parts},
    }


def facts(content: Content) -> dict[str, Any]:
    """A state, for programs."""
    return {"status": content.status, "job_id": content.job_id, "deleted": content.deleted}


def local_time(instant: str) -> str:
    """A suffix for an instant of `iso`: it in this machine's zone, unless that is UTC."""
    utc = datetime.fromisoformat(instant)
    here = utc.astimezone()
    if not here.utcoffset():
        return ""
    return f" ({here:%H:%M:%S %Z})" if here.date() == utc.date() else f" ({here:%Y-%m-%d %H:%M:%S %Z})"


async def stories(
    config: Config, store: Store, application_id: str, watch: str | None
) -> list[tuple[Record, dict[str, Any]]]:
    """An application in each watch: its record, and its story for people and programs.

    The story goes on from that of a watch which left the application to another one, and has no record of it any more.
    """
    built, found = built_urls(config), []
    records = await store.report.records(application_id, None)
    with_record = {record.watch for record in records}
    former = [each for each in await store.report.story(application_id, None, EVENTS) if each.watch not in with_record]
    for record in records if watch is None else await store.report.records(application_id, watch):
        own, snapshot = await store.report.story(application_id, record.watch, EVENTS), record.snapshot
        # Earlier versions wrote only a line of the history.
        last = [event.event for event in own if event.at == record.acknowledged_at]
        discarded = record.discarded or ("discarded" in last and "acknowledged" not in last)
        story = {
            "watch": record.watch,
            "application_id": application_id,
            "key": list(record.key),
            "in_scope": record.in_scope,
            "lost_its_id": not record.in_scope and _has_lost_its_id(own, config.watches.get(record.watch)),
            "told": snapshot and _content(snapshot),
            "told_at": record.acknowledged_at and iso(record.acknowledged_at),
            "adopted": snapshot is not None and record.adopted,
            "discarded": discarded,
            "told_request": None
            if snapshot is None or record.adopted or discarded
            else _request(application_id, snapshot),
            "entry": record.entry and _entry(record.entry.addressed(built)),
            "suspected_deletion_due_at": record.suspicion and iso(record.suspicion.due_at),
            "skipped": record.skipped,
            "events": [
                *({**_event(each), "watch": each.watch} for each in former),
                *map(_event, own),
            ],
        }
        found.append((record, story))
    return found


def _has_lost_its_id(events: Sequence[HistoryEntry], watch: Watch | None) -> bool:
    """Whether an application is out of scope because its row has no id any more; `events` are in order."""
    reasons = [each.event for each in events if each.event in {LEFT_SCOPE, LOST_ID}]
    if not reasons:  # they are older than the history
        return watch is not None and watch.where is None
    return reasons[-1] == LOST_ID


def _request(application_id: str, content: Content) -> dict[str, str]:
    body, key = request(application_id, content)
    return {"method": "POST", "url": content.url, "idempotency_key": key, "body": body.decode()}


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "state": entry.state,
        "kinds": sorted(entry.kinds),
        "content": _content(entry.content),
        "request": _request(entry.application_id, entry.content),
        "due_at": iso(entry.due_at),
        "queued_at": iso(entry.queued_at),
        "attempts": entry.attempts,
        "reason": entry.reason,
    }


def _content(content: Content) -> dict[str, Any]:
    dates = {"created": iso(content.created), "event_date": iso(content.event_date)}
    return {**facts(content), **dates, "url": content.url}


def _event(event: HistoryEntry) -> dict[str, Any]:
    dates = {name: iso(event.detail[name]) for name in DATES if event.detail.get(name) is not None}
    return {"at": iso(event.at), "event": event.event, **event.detail, **dates}


async def lookup(config: Config, store: Store, text: str) -> dict[str, Any]:
    """The stories of the application that a text means, or `hits` if it may mean several or none."""
    hits = await store.report.search(text, None, MOST_HITS + 1)
    if (application_id := meant(hits)) is None:
        return {"application_id": text, "stories": [], "hits": hits[:MOST_HITS], "more": hits[MOST_HITS:]}
    found = [story for _, story in await stories(config, store, application_id, None)]
    # Of others the present state is unknown.
    return {"application_id": application_id, "stories": found, "watches": config.watches, "hits": [], "by": hits[0].by}

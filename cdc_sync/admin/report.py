"""What the store has, for programs and people: the status report, parts of it, and an application's story.

The report is that of `cdc-sync status`, `/api/status`, `/readyz`, `/metrics` and the page; the story that of the page
and `cdc-sync explain`. Functions raise `StoreError`.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeAlias

from cdc_sync.ats.beginning import BASELINE, OVER_EARLIER_WORK, BaselinePosition
from cdc_sync.config import Config, Watch
from cdc_sync.config.models import built_urls
from cdc_sync.config.tenants import expanded, tenants_named
from cdc_sync.core.batch import HistoryEntry, described
from cdc_sync.core.conditions import is_standby, kind_of
from cdc_sync.core.content import Content, iso, request
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import Entry
from cdc_sync.core.plan import LEFT_SCOPE, LOST_ID
from cdc_sync.core.replies import is_paused
from cdc_sync.core.visible import HIDDEN
from cdc_sync.core.watch_names import matches
from cdc_sync.store import Store
from cdc_sync.store.lead import present_leader
from cdc_sync.store.operation import Condition
from cdc_sync.store.report import MOST_HITS, Record, WatchCounts, meant

Json: TypeAlias = dict[str, Any]
"""What programs read: the report, an application's story, or a part of them."""

RECENT = 20
"""Last failures, and rows that cannot be reported of each watch."""

EVENTS = 500
"""An application's newest events that are shown."""

DATES = ("due_at", "again_at", "event_date", "event_date_of_row")
"""Details of events that are milliseconds since the epoch."""


async def status_report(config: Config, store: Store, now: int, here: Iterable[Condition] = ()) -> Json:
    """Watches, pending entries, endpoints, conditions, last failures; `now` is in milliseconds since the epoch.

    `here` are this process's conditions, which an unwritable store lacks.
    """
    config = await _with_tenants(config, store)
    noted = {each.name: each for each in await store.operation.conditions()}
    noted |= {each.name: each for each in here if each.name not in noted or noted[each.name].message != each.message}
    conditions = [{**asdict(each), "since": iso(each.since)} for each in noted.values()]
    leader = await present_leader(store)
    skipped = await store.report.skipped(config.watches, RECENT)
    return {
        "at": iso(now),
        "leader": leader and {"host": leader.host, "process": leader.process, "since": iso(leader.since)},
        "watches": await _watches(config, store, now),
        "endpoints": await endpoints(store, now),
        "accounts_waiting": await store.delivery.waiting(),
        "conditions": [each for each in conditions if not is_standby(each["name"])],
        "standby": [each for each in conditions if is_standby(each["name"])],
        "last_failures": [_failure(each) for each in await store.report.recent_ends(RECENT, failed=True)],
        "skipped_rows": [{"watch": name, **asdict(skip), "key": list(skip.key)} for name, skip in skipped],
    }


async def _with_tenants(config: Config, store: Store) -> Config:
    """The configuration with the tenants that the last leader watched or refused: not every process looks for them."""
    if not config.templates:
        return config
    noted = await store.delivery.configured()
    refused = [watch_of(each.name) for each in await store.operation.conditions() if kind_of(each.name) == "tenant"]
    names = {*(noted.watches or await store.report.counts()), *refused}
    if names <= config.watches.keys():
        return config  # a leader's: to make a thousand watches takes 25 ms
    return expanded(config, tenants_named(config, names.union(config.watches)), lambda _: HIDDEN)[0]


def _failure(entry: HistoryEntry) -> Json:
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        "at": iso(entry.at),
        "event": entry.event,
        "reason": entry.detail.get("reason"),
    }


async def _watches(config: Config, store: Store, now: int) -> list[Json]:
    """The configured watches, then those that only the store knows."""
    counts, held = await store.report.counts(), await store.report.oldest("held")
    repairs, fuses = await store.operation.repairs(), await store.operation.fuses()
    positions = await store.report.positions_of_all(BASELINE, OVER_EARLIER_WORK)
    found = []
    for name in (*config.watches, *sorted(counts.keys() - config.watches.keys())):
        has, at, fuse = counts.get(name, WatchCounts()), positions.get(name, {}), fuses.get(name, Fuse())
        oldest = has.oldest_queued_at
        found.append(
            {
                "watch": name,
                **_configured(config, name),
                "baseline": _baseline(at.get(BASELINE)),
                "over_earlier_work": OVER_EARLIER_WORK in at,
                "known": has.known,
                "last_change_at": None if has.changed_at is None else iso(has.changed_at),
                "pending": has.pending,
                "oldest_pending_seconds": None if oldest is None else max(now - oldest, 0) / 1000,
                "held": has.held,
                "dead_letters": has.dead,
                "skipped": has.skipped,
                "suspected_deletions": has.suspected,
                # With an intact fuse: of a suspected deletion.
                "held_reason": held[name].reason if name in held else None,
                "fuse": "whole" if fuse.blown_at is None else "blown",
                "fuse_reason": fuse.reason,
                "sweep_repairs": repairs.get(name, {}),
            }
        )
    return found


def _configured(config: Config, name: str) -> Json:
    watch = config.watches.get(name)
    return {
        "configured": watch is not None,
        **({"database": watch and config.database_name(name)} if len(config.all_databases) > 1 else {}),
        "table": watch and str(watch.table),
        "mode": watch and watch.capture.mode,
    }


def _baseline(text: str | None) -> Json:
    position = BaselinePosition.from_text(text)
    if position is None:
        return {"state": "not begun", "rows": 0}
    return {"state": "done" if position.done else "running", "rows": position.known}


async def endpoints(store: Store, now: int) -> list[Json]:
    """The endpoints' states.

    `late_seconds`: for how long the earliest pending call has been due, null if none is pending; `retried_at` is null
    if no call is to come.
    """
    clock, paused = store.driver.clock, await store.operation.paused()
    found = []
    for endpoint, (health, due_at) in (await store.delivery.endpoints()).items():
        takes_calls, sending_paused = health.mode == "healthy", is_paused(paused, endpoint)
        is_retried = not takes_calls and not sending_paused and due_at is not None
        found.append(
            {
                "endpoint": endpoint,
                **health._asdict(),
                "until": None if takes_calls else iso(clock.for_people(health.until)),
                "retried_at": iso(clock.for_people(max(health.until, due_at or 0))) if is_retried else None,
                "late_seconds": None if due_at is None else max(now - clock.for_people(due_at), 0) / 1000,
                "sending_paused": sending_paused,
            }
        )
    return found


def held_back(report: Json) -> dict[str, str]:
    """Why entries of watches are held, by the names under which readiness gives it."""
    reasons = {}
    for each in report["watches"]:
        if each["fuse"] == "blown":
            reasons[f"fuse {each['watch']}"] = f"blown, {each['fuse_reason']}; see `cdc-sync fuse show`"
        elif each["held"]:
            reasons[f"held {each['watch']}"] = f"{each['held_reason']}; see `cdc-sync fuse show`"
    return reasons


def troubled(report: Json) -> set[str]:
    """The watches that need a person.

    They have a condition, held changes or dead letters, are no longer configured, or began over another store's work.
    """
    noted = {watch_of(each["name"]) for each in report["conditions"]}
    return {
        watch["watch"]
        for watch in report["watches"]
        if watch["watch"] in noted
        or watch["fuse"] == "blown"
        or any(watch[reason] for reason in ("held", "dead_letters", "over_earlier_work"))
        or not watch["configured"]
    }


def worst_first(report: Json) -> list[Json]:
    """A report's watches: those that are `troubled`, then the rest."""
    found = troubled(report)
    return sorted(report["watches"], key=lambda each: each["watch"] not in found)


def watch_of(condition: str) -> str:
    """The watch or endpoint in a condition's name; empty: all."""
    return condition[len(kind_of(condition)) + 1 :]


def foremost(names: Iterable[str], watches: Container[str]) -> list[str]:
    """The conditions, those that concern no single watch before others."""
    return sorted(names, key=lambda name: watch_of(name) in watches)


def part_of(report: Json, pattern: str | None, *, problems: bool) -> Json:
    """The report on the watches of a pattern (None: all), or on those with problems among them."""
    kept = {each["watch"] for each in report["watches"] if pattern is None or matches(pattern, each["watch"])}
    if problems:
        kept &= troubled(report)
    lists = ("watches", "last_failures", "skipped_rows")
    return {**report, **{name: [each for each in report[name] if each["watch"] in kept] for name in lists}}


def local_time(instant: str) -> str:
    """A suffix for an instant of `iso`: it in this machine's zone, unless that is UTC."""
    utc = datetime.fromisoformat(instant)
    here = utc.astimezone()
    if not here.utcoffset():
        return ""
    return f" ({here:%H:%M:%S %Z})" if here.date() == utc.date() else f" ({here:%Y-%m-%d %H:%M:%S %Z})"


async def stories(config: Config, store: Store, application_id: str, watch: str | None) -> list[tuple[Record, Json]]:
    """An application in each watch: its record, and its story for people and programs.

    The story goes on from that of a watch which left the application to another one, and has no record of it any more.
    """
    records = await store.report.records(application_id, None)
    events = await store.report.story(application_id, EVENTS)
    with_record = {record.watch for record in records}
    former = [{**_event(each), "watch": each.watch} for each in events if each.watch not in with_record]
    found = []
    for record in records:
        if watch is None or matches(watch, record.watch):
            own = [each for each in events if each.watch == record.watch]
            story = _story(config, record, own)
            found.append((record, {**story, "events": [*former, *map(_event, own)]}))
    return found


def _story(config: Config, record: Record, events: Sequence[HistoryEntry]) -> Json:
    # A state that another watch's newer one replaced is of no time.
    snapshot, entry = record.snapshot if record.acknowledged_at else None, record.entry
    # Earlier versions wrote only a line of the history.
    last = [event.event for event in events if event.at == record.acknowledged_at]
    discarded = record.discarded or ("discarded" in last and "acknowledged" not in last)
    is_told = not record.adopted and not discarded
    return {
        "watch": record.watch,
        "application_id": record.application_id,
        "key": list(record.key),
        "in_scope": record.in_scope,
        "lost_its_id": not record.in_scope and _has_lost_its_id(events, config.watches.get(record.watch)),
        "told": snapshot and _content(snapshot),
        "told_at": record.acknowledged_at and iso(record.acknowledged_at),
        "adopted": snapshot is not None and record.adopted,
        "discarded": discarded,
        "told_request": _request(record.application_id, snapshot) if snapshot and is_told else None,
        "entry": entry and _entry(entry.addressed(built_urls(config))),
        "suspected_deletion_due_at": record.suspicion and iso(record.suspicion.due_at),
        "skipped": record.skipped,
    }


def _has_lost_its_id(events: Sequence[HistoryEntry], watch: Watch | None) -> bool:
    """Whether an application is out of scope because its row has no id any more; `events` are in order."""
    if watch is not None and watch.where is None:
        return True  # no row is out of scope; the history may be over
    return [each.event for each in events if each.event in {LEFT_SCOPE, LOST_ID}][-1:] == [LOST_ID]


def _request(application_id: str, content: Content) -> dict[str, str]:
    body, key = request(application_id, content)
    return {"method": "POST", "url": content.url, "idempotency_key": key, "body": body.decode()}


def _entry(entry: Entry) -> Json:
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


def _content(content: Content) -> Json:
    dates = {"created": iso(content.created), "event_date": iso(content.event_date)}
    return {**described(content), **dates, "url": content.url}


def _event(event: HistoryEntry) -> Json:
    dates = {name: iso(event.detail[name]) for name in DATES if event.detail.get(name) is not None}
    return {"at": iso(event.at), "event": event.event, **event.detail, **dates}


async def lookup(config: Config, store: Store, text: str) -> Json:
    """The stories of the application that a text means, or `hits` if it may mean several or none."""
    hits = await store.report.search(text, None, MOST_HITS + 1)
    if (application_id := meant(hits)) is None:
        return {"application_id": text, "stories": [], "hits": hits[:MOST_HITS], "more": hits[MOST_HITS:]}
    config = await _with_tenants(config, store)
    found = [story for _, story in await stories(config, store, application_id, None)]
    # Of others the present state is unknown.
    return {"application_id": application_id, "stories": found, "watches": config.watches, "hits": []}

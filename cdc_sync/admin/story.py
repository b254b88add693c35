"""Everything known of one application, for the page and `cdc-sync explain`. Functions raise `StoreError`."""

from collections.abc import Sequence
from datetime import datetime

from cdc_sync.admin.watches import Json
from cdc_sync.config import Config, Watch
from cdc_sync.config.models import built_urls
from cdc_sync.core.batch import LEFT_SCOPE, LOST_ID, HistoryEntry
from cdc_sync.core.content import Content, iso, request
from cdc_sync.core.outbox import Entry
from cdc_sync.core.watch_names import matches
from cdc_sync.store import Store
from cdc_sync.store.report import MOST_HITS, Record, meant

EVENTS = 500
"""An application's newest events that are shown."""

DATES = ("due_at", "again_at", "event_date", "event_date_of_row")
"""Details of events that are milliseconds since the epoch."""


def facts(content: Content) -> Json:
    """A state, for programs."""
    return {"status": content.status, "job_id": content.job_id, "deleted": content.deleted}


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
    snapshot, entry = record.snapshot, record.entry
    # Earlier versions wrote only a line of the history.
    last = [event.event for event in events if event.at == record.acknowledged_at]
    discarded = record.discarded or ("discarded" in last and "acknowledged" not in last)
    is_told = snapshot is not None and not record.adopted and not discarded
    watch = config.watches.get(record.watch)
    return {
        "watch": record.watch,
        "application_id": record.application_id,
        "key": list(record.key),
        "in_scope": record.in_scope,
        "lost_its_id": not record.in_scope and _has_lost_its_id(events, watch),
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
    reasons = [each.event for each in events if each.event in {LEFT_SCOPE, LOST_ID}]
    if not reasons:  # they are older than the history
        return watch is not None and watch.where is None
    return reasons[-1] == LOST_ID


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
    return {**facts(content), **dates, "url": content.url}


def _event(event: HistoryEntry) -> Json:
    dates = {name: iso(event.detail[name]) for name in DATES if event.detail.get(name) is not None}
    return {"at": iso(event.at), "event": event.event, **event.detail, **dates}


async def lookup(config: Config, store: Store, text: str) -> Json:
    """The stories of the application that a text means, or `hits` if it may mean several or none."""
    hits = await store.report.search(text, None, MOST_HITS + 1)
    if (application_id := meant(hits)) is None:
        return {"application_id": text, "stories": [], "hits": hits[:MOST_HITS], "more": hits[MOST_HITS:]}
    found = [story for _, story in await stories(config, store, application_id, None)]
    # Of others the present state is unknown.
    return {"application_id": application_id, "stories": found, "watches": config.watches, "hits": []}

"""`cdc-sync explain`: everything known of one application, in order of time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import typer

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, check_watch_in, invocation, opened, print_json
from cdc_sync.cli.saying import say
from cdc_sync.config import Config
from cdc_sync.core.content import Content
from cdc_sync.core.endpoint import Health
from cdc_sync.core.instants import iso, milliseconds
from cdc_sync.core.outbox import Entry
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.pipeline.baseline import is_adopted
from cdc_sync.store.opening import daemons, place_of
from cdc_sync.store.protocol import HistoryEntry, Record

_MOST_EVENTS = 500
_DATES = ("due_at", "again_at", "event_date", "event_date_of_row")
"""What an event may tell of other times than its own, in milliseconds since the epoch."""


def explain(
    context: typer.Context, application_id: str, watch: WatchOption = None, as_json: JsonOption = False
) -> None:
    """Tell one application's story: what was seen, sent, answered; what is pending, and why."""
    config = invocation(context).config()
    found = asyncio.run(_look_up(config, application_id, watch))
    stories = [_Story(record, found, config) for record in found.records]
    if as_json:
        print_json([_as_json(story) for story in stories])
    if not stories:
        where = f"the watch {watch}" if watch else f"any watch ({', '.join(config.watches)})"
        unread = "".join(
            f" The baseline of {name} is not done: it may not have been seen yet." for name in found.unread
        )
        say(
            f"No application {application_id!r} in {where} of the store {place_of(config)}. Looked for it among "
            f"known applications, pending, held and dead entries, and rows that cannot be reported. Is it the id on "
            f"HelloWork's side (columns.application_id, or the one inside the status URL), and did the daemon run "
            f"since the row exists?{unread}",
            err=True,
        )
        raise typer.Exit(1)
    if not as_json:
        for story in stories:
            _tell(story)


@dataclass(frozen=True, slots=True)
class _Found:
    """What was looked up: the application's records and events, its endpoints' health, and what is not known yet."""

    records: list[Record]
    events: list[HistoryEntry]
    endpoints: Mapping[str, Health]
    unread: list[str]
    daemon_runs: bool
    now: int


async def _look_up(config: Config, application_id: str, watch: str | None) -> _Found:
    async with opened(config, read_only=True) as store:
        await check_watch_in(store, config, watch)
        return _Found(
            await store.records(application_id, watch),
            await store.story(application_id, watch, _MOST_EVENTS),
            {
                name: replace(health, until=store.clock.for_people(health.until))
                for name, (health, _) in (await store.endpoints()).items()
            },
            [name for name in config.watches if watch in (None, name) and not await is_adopted(store, name)],
            bool(await daemons(config, store)),
            store.clock.for_people(),
        )


class _Story:
    """One record, its events, and what follows from them."""

    def __init__(self, record: Record, found: _Found, config: Config) -> None:
        self.record = record
        self.events = [event for event in found.events if event.watch == record.watch]
        self._found = found
        self._remembered_since = found.now - milliseconds(config.state.history)

    @property
    def is_adopted(self) -> bool:
        """Whether what HelloWork is taken to know was never said, but found when the application was first seen."""
        told_at = self.record.told_at
        if told_at is None or told_at < self._remembered_since or len(self.events) == _MOST_EVENTS:
            return False
        return not any(event.at == told_at for event in self.events)

    @property
    def is_discarded(self) -> bool:
        """Whether what HelloWork is taken to know was never said, but discarded by a person."""
        since = [event.event for event in self.events if event.at == self.record.told_at]
        return "discarded" in since and "acknowledged" not in since

    @property
    def next(self) -> list[str]:
        """What will happen, and when."""
        return _next(self.record, self._found)


def _tell(story: _Story) -> None:
    record = story.record
    console.print(f"{record.watch}: application {record.application_id}, row {'/'.join(record.key)}")
    if len(story.events) == _MOST_EVENTS:
        console.print(f"  (the newest {_MOST_EVENTS} events)")
    for event in story.events:
        console.print(f"  {iso(event.at)}  {event.event}: {_detail(event)}", soft_wrap=True)
    console.print(f"  HelloWork was {_told(story)}", soft_wrap=True)
    for line in story.next:
        console.print(f"  {line}", soft_wrap=True)


def _told(story: _Story) -> str:
    told, at = story.record.told, iso(story.record.told_at or 0)
    if told is None:
        return "told: nothing yet"
    if story.is_discarded:
        return f"not told: {_words(told)}; a person discarded it at {at}, and it counts as told"
    adopted = " (adopted without a call: it was so when it was first seen)" if story.is_adopted else ""
    return f"told: {_words(told)}, since {at}{adopted}"


def _next(record: Record, found: _Found) -> list[str]:
    lines: list[str] = []
    entry = record.entry
    if entry is not None:
        what = f"{_words(entry.content)} ({', '.join(sorted(entry.kinds)) or 'resend'})"
        match entry.state:
            case "pending":
                again = f", after {entry.attempts} attempts: {entry.reason}" if entry.reason else ""
                lines.append(f"pending: {what}, {_when(record, entry, found)}{again}")
            case "held":
                lines.append(f"held by the fuse: {what}: {entry.reason}. Release it with cdc-sync fuse release")
            case "dead":
                lines.append(f"dead letter: {what}: {entry.reason}. Try again with cdc-sync dead-letters retry")
    if record.suspicion is not None:
        lines.append(f"its row seems gone; a fresh read at {iso(record.suspicion.due_at)} will tell")
    if record.skipped is not None:
        lines.append(f"its row cannot be reported: {record.skipped}")
    if not record.in_scope:
        lines.append("its row is out of scope (where): no calls")
    return lines or ["nothing is pending"]


def _when(record: Record, entry: Entry, found: _Found) -> str:
    """When a pending entry is sent, as far as anybody can know."""
    if not found.daemon_runs:
        return f"due {iso(entry.due_at)}, to be sent when the daemon runs: it does not"
    if record.under_way:
        return "a call is under way, or about to be; what comes after it is decided by its answer"
    endpoint = endpoint_of(entry.content.url)
    health = found.endpoints.get(endpoint, Health())
    if health.mode in ("open", "paused") or (health.mode == "throttled" and health.until > found.now):
        return f"waits for {endpoint}, which is {health.mode}: {health.reason}; next try at {iso(health.until)}"
    return f"to be sent at {iso(entry.due_at)}" if entry.due_at > found.now else f"due since {iso(entry.due_at)}"


def _detail(event: HistoryEntry) -> str:
    detail = dict(event.detail)
    parts: list[str] = []
    if detail.get("from"):
        parts.append(f"{_facts(detail['from'])} → {_facts(detail['to'])}")
    elif detail.get("to"):
        parts.append(_facts(detail["to"]))
    if detail.get("kinds"):
        parts.append("because: " + ", ".join(detail["kinds"]))
    parts += [
        f"{name} {detail[name]}" for name in ("by", "attempt", "reason", "seconds") if detail.get(name) is not None
    ]
    parts += [f"{name} {iso(detail[name])}" for name in _DATES if detail.get(name) is not None]
    return "; ".join(parts)


def _facts(facts: dict[str, Any]) -> str:
    return f"{facts['status']}, job {facts['job_id']}{', deleted' if facts['deleted'] else ''}"


def _words(content: Content) -> str:
    return _facts({"status": content.status, "job_id": content.job_id, "deleted": content.deleted})


def _as_json(story: _Story) -> dict[str, Any]:
    record, events, entry = story.record, story.events, story.record.entry
    return {
        "watch": record.watch,
        "application_id": record.application_id,
        "key": list(record.key),
        "in_scope": record.in_scope,
        "told": None if record.told is None else _content(record.told),
        "told_at": None if record.told_at is None else iso(record.told_at),
        "adopted": story.is_adopted,
        "discarded": story.is_discarded,
        "entry": None
        if entry is None
        else {
            "state": entry.state,
            "kinds": sorted(entry.kinds),
            "content": _content(entry.content),
            "due_at": iso(entry.due_at),
            "queued_at": iso(entry.queued_at),
            "attempts": entry.attempts,
            "reason": entry.reason,
        },
        "suspected_deletion_due_at": None if record.suspicion is None else iso(record.suspicion.due_at),
        "skipped": record.skipped,
        "next": story.next,
        "events": [_event(event) for event in events],
    }


def _event(event: HistoryEntry) -> dict[str, Any]:
    dates = {name: iso(event.detail[name]) for name in _DATES if event.detail.get(name) is not None}
    return {"at": iso(event.at), "event": event.event, **event.detail, **dates}


def _content(content: Content) -> dict[str, Any]:
    return {
        "status": content.status,
        "job_id": content.job_id,
        "deleted": content.deleted,
        "created": iso(content.created),
        "event_date": iso(content.event_date),
        "url": content.url,
    }

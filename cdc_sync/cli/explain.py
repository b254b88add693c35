"""`cdc-sync explain`: everything known of one application, in order of time."""

import asyncio
from typing import Any

import typer

from cdc_sync.cli.context import JsonOption, WatchOption, check_watch, console, invocation, opened, print_json
from cdc_sync.config import Config
from cdc_sync.core.content import Content
from cdc_sync.core.instants import iso
from cdc_sync.store.protocol import Event, Record

_MOST_EVENTS = 500
_DATES = ("due_at", "again_at")
"""What an event may tell of the future, in milliseconds since the epoch."""


def explain(
    context: typer.Context, application_id: str, watch: WatchOption = None, as_json: JsonOption = False
) -> None:
    """Tell one application's story: what was seen, sent, answered; what is pending, and why."""
    config = invocation(context).config()
    check_watch(config, watch)
    records, events = asyncio.run(_look_up(config, application_id, watch))
    if as_json:
        print_json([_as_json(record, [event for event in events if event.watch == record.watch]) for record in records])
    if not records:
        where = f"the watch {watch}" if watch else f"any watch ({', '.join(config.watches)})"
        typer.echo(
            f"No application {application_id!r} in {where} of the store {config.state.path}. Looked for it among "
            f"known applications, pending, held and dead entries, and rows that cannot be reported. Is it the id on "
            f"HelloWork's side (columns.application_id, or the one inside the status URL), and did the daemon run "
            f"since the row exists?",
            err=True,
        )
        raise typer.Exit(1)
    if not as_json:
        for record in records:
            _tell(record, [event for event in events if event.watch == record.watch])


async def _look_up(config: Config, application_id: str, watch: str | None) -> tuple[list[Record], list[Event]]:
    async with opened(config, read_only=True) as store:
        return await store.records(application_id, watch), await store.story(application_id, watch, _MOST_EVENTS)


def _tell(record: Record, events: list[Event]) -> None:
    console.print(f"{record.watch}: application {record.application_id}, row {'/'.join(record.key)}")
    for event in events:
        console.print(f"  {iso(event.at)}  {event.event}: {_detail(event)}", soft_wrap=True)
    told = "nothing yet" if record.told is None else f"{_words(record.told)}, since {iso(record.told_at or 0)}"
    console.print(f"  HelloWork was told: {told}")
    for line in _next(record):
        console.print(f"  {line}", soft_wrap=True)


def _next(record: Record) -> list[str]:
    """What will happen, and when."""
    lines: list[str] = []
    entry = record.entry
    if entry is not None:
        what = f"{_words(entry.content)} ({', '.join(sorted(entry.kinds)) or 'resend'})"
        match entry.state:
            case "pending":
                again = f", after {entry.attempts} attempts: {entry.reason}" if entry.reason else ""
                lines.append(f"pending: {what}, to be sent at {iso(entry.due_at)}{again}")
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


def _detail(event: Event) -> str:
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


def _as_json(record: Record, events: list[Event]) -> dict[str, Any]:
    entry = record.entry
    return {
        "watch": record.watch,
        "application_id": record.application_id,
        "key": list(record.key),
        "in_scope": record.in_scope,
        "told": None if record.told is None else _content(record.told),
        "told_at": None if record.told_at is None else iso(record.told_at),
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
        "events": [_event(event) for event in events],
    }


def _event(event: Event) -> dict[str, Any]:
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

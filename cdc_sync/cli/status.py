"""`cdc-sync status`: is all well, and what is pending; and `explain`: everything known of one application."""

import http.client
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from cdc_sync.admin.report import EVENTS, acknowledged_request, local_time, request_of, status_report
from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, configured, decodable, facts, in_store, print_json, say, words
from cdc_sync.config import Config
from cdc_sync.config.models import built_urls
from cdc_sync.core.content import Content, iso
from cdc_sync.core.delivery import HEALTHY, is_paused
from cdc_sync.core.outbox import Entry
from cdc_sync.core.plan import HistoryEntry
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.pipeline.baseline import is_adopted
from cdc_sync.store.opening import place_of
from cdc_sync.store.protocol import MOST_HITS, Hit, Record, meant
from cdc_sync.store.sqlite.schema import holder_of
from cdc_sync.store.store import Store

_LISTS = (
    ("wrong now", "conditions", "{name}: {message}"),
    ("standby", "standby", "{of}: {message}"),
    ("endpoints", "endpoints", "{endpoint}: {mode} until {until}: {reason}"),
    ("sending is paused to", "paused", "{endpoint}"),
    ("last failures", "last_failures", "{at} {watch} {application_id}: {reason}"),
    ("rows that cannot be reported", "skipped_rows", "{watch} {row}: {reason}"),
)
"""The lists below the table: their titles, whence they are in the report, and a line; `of` is a condition's watch."""

_CELLS = ("watch", "mode", "baseline", "known", "pending", "oldest", "held", "dead_letters", "skipped")
_WITHIN = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how a wildcard address is reached from here
"""Whoever listens everywhere is reached here too."""

_DETAILS = ("by", "who", "attempt", "reason", "seconds")
_DATES = ("due_at", "again_at", "event_date", "event_date_of_row")
"""What an event may tell of other times than its own, in milliseconds since the epoch."""


def status(
    context: typer.Context,
    as_json: JsonOption = False,
    healthy: Annotated[
        bool,
        typer.Option(
            "--healthy", help="Only say whether the daemon is alive; exit 1 if not. For a container's engine."
        ),
    ] = False,
) -> None:
    """Show watches, lag, what is pending, held or given up, and the last errors. Works with the daemon up or down."""
    config = configured(context)
    if healthy:
        wrong = _what_is_wrong(config)
        say(wrong or "healthy")
        raise typer.Exit(1 if wrong else 0)
    report = in_store(config, None, lambda store: _report(config, store))
    if as_json:
        print_json(report)
        return
    daemon = report["daemon"]
    for one in daemon.get("all", [daemon] if daemon["running"] else []):
        where = f" on {one['host']}" if "host" in one else ""
        console.print(f"daemon: running (process {one['process'] or 'unknown'}{where})")
    if not daemon["running"]:
        console.print("daemon: not running", style="red")
    table = Table("watch", "mode", "baseline", "known", "pending", "oldest", "held", "dead letters", "skipped")
    for watch in report["watches"]:
        oldest = watch["oldest_pending_seconds"]
        cells = {**watch, "mode": watch["mode"] or "not configured", "baseline": watch["baseline"]["state"]}
        cells["oldest"] = "" if oldest is None else f"{oldest:.0f} s"
        table.add_row(*(str(cells[name]) for name in _CELLS))
    console.print(table)
    for watch in report["watches"]:
        _show_remarks(watch)
    endpoints = report["endpoints"]
    lists = {
        **report,
        "endpoints": [item for item in endpoints if item["mode"] != "healthy"],
        "paused": [item for item in endpoints if item["sending_paused"]],
    }
    for title, name, line in _LISTS:
        if lists[name]:
            console.print(f"{title}:")
        for item in lists[name]:
            row = item.get("application_id") or "/".join(item.get("key", ()))
            say("  " + line.format(**item, row=row, of=item.get("name", "").partition(" ")[2]))


def _what_is_wrong(config: Config) -> str | None:
    """Why the daemon is not alive, or None: it has the store, and says itself that none of its loops is stalled.

    A database or a HelloWork that is down is no reason: a new process would not mend it.
    """
    if config.state.backend == "sqlite" and holder_of(config.state.path) is None:
        return f"no daemon works on the store {config.state.path}"
    listen = config.admin.listen
    if listen is None or not listen.port:
        return None
    connection = http.client.HTTPConnection(_EVERYWHERE.get(listen.host, listen.host), listen.port, timeout=_WITHIN)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        text = answer.read(1000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"the daemon does not answer on {listen}: {error}"
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"the daemon says: {text}"


def _show_remarks(watch: dict[str, Any]) -> None:
    """What is out of the ordinary about a watch."""
    name = watch["watch"]
    if not watch["configured"]:
        text = (
            f"{name} is not configured: what is pending is sent, changes are not watched. Renamed? See cdc-sync check"
        )
        console.print(text, style="yellow", soft_wrap=True)
    if watch["over_earlier_work"]:
        text = (
            f"{name} was worked before, with another store: this one took the rows that it found as acknowledged, "
            "so what was pending in the other was not sent. Was it lost? Put it back, or restore a backup"
        )
        console.print(text, style="yellow", soft_wrap=True)
    if watch["sweep_repairs"]:
        causes = ", ".join(f"{cause}: {number}" for cause, number in watch["sweep_repairs"].items())
        console.print(f"sweeps of {name} found what capture had missed, or had left to them: {causes}")
    if watch["fuse"] == "blown":
        console.print(f"fuse of {name} is blown: {watch['fuse_reason']}; see cdc-sync fuse show", style="red")
    elif watch["held"]:
        console.print(f"deletions of {name} are held: {watch['held_reason']}; see cdc-sync fuse show")


async def _report(config: Config, store: Store) -> dict[str, Any]:
    report = await status_report(config, store, store.clock.for_people())
    running = await store.daemons()
    if not running:
        # What a daemon noted before it ended is not wrong *now*.
        report["standby"] = []
        report["conditions"] = [{"name": "daemon", "message": "it is not running", "since": report["at"]}]
    daemon: dict[str, Any] = {"running": bool(running), "process": running[0][1] if running else None}
    if len(running) > 1:
        daemon["all"] = [{"host": host, "process": process} for host, process in running]
    return {"daemon": daemon, **report}


def explain(
    context: typer.Context,
    application_id: Annotated[
        str,
        typer.Argument(
            help="Or its row's key (several columns as a,b or JSON), or how its id begins.", callback=decodable
        ),
    ],
    watch: WatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell one application's story: what was seen, sent, answered; what is pending, and why.

    Several that may be meant are listed instead, and it exits with 1; with --json also one found by its beginning.
    """
    config = configured(context)

    async def look(store: Store) -> tuple[Sequence[Hit], list[dict[str, Any]], list[str]]:
        hits = await store.search(application_id, watch, MOST_HITS + 1)
        whose = meant(hits)
        stories = [] if whose is None else await _stories(store, config, whose, watch)
        unread = [name for name in config.watches if watch in (None, name) and not await is_adopted(store, name)]
        return hits, stories, unread

    hits, stories, unread = in_store(config, watch, look)
    by = hits[0].by if hits else "id"
    if as_json:
        # A script that asks for an unknown id must not read another application's story.
        stories = [] if by == "beginning" else stories
        print_json(stories or list(map(asdict, hits)))
    elif hits and not stories:
        _list(application_id, hits)
    if not hits:
        where = f"the watch {watch}" if watch else f"any watch ({', '.join(config.watches)})"
        not_yet = "".join(f" The baseline of {name} is not done: it may not have been seen yet." for name in unread)
        say(
            f"No application {application_id!r} in {where} of the store {place_of(config)}. Looked for it among "
            f"known applications, pending, held and dead entries, and rows that cannot be reported: by id, by the "
            f"row's key, and by how ids begin. Is it the id on HelloWork's side (columns.application_id, or the one "
            f"inside the status URL), and did the daemon run since the row exists?{not_yet}",
            err=True,
        )
    if not stories:
        raise typer.Exit(1)
    if not as_json:
        if by != "id":
            how = "its row's key" if by == "row" else "how its id begins"
            say(f"No application {application_id!r}: this is {stories[0]['application_id']!r}, found by {how}.")
        for story in stories:
            _tell(story)


async def _stories(store: Store, config: Config, application_id: str, watch: str | None) -> list[dict[str, Any]]:
    """The application's records, each with its events and what follows from them."""
    events, paused = await store.story(application_id, watch, EVENTS), await store.paused()
    clock, runs = store.clock, bool(await store.daemons())
    endpoints, now, built = await store.endpoints(), clock.for_people(), built_urls(config)

    def when(record: Record, entry: Entry) -> str:
        """When a pending entry is sent, as far as anybody can know."""
        if not runs:
            return f"due {iso(entry.due_at)}, to be sent when the daemon runs: it does not"
        if record.under_way:
            return "a call is under way, or about to be; what comes after it is decided by its answer"
        endpoint = endpoint_of(entry.content.url)
        if is_paused(paused, endpoint):
            return f"waits for `cdc-sync resume`: an operator has paused sending to {endpoint}"
        health, _ = endpoints.get(endpoint, (HEALTHY, None))
        until = clock.for_people(health.until)
        if health.mode in ("open", "paused") or (health.mode == "throttled" and until > now):
            return f"waits for {endpoint}, which is {health.mode}: {health.reason}; next try at {iso(until)}"
        return f"to be sent at {iso(entry.due_at)}" if entry.due_at > now else f"due since {iso(entry.due_at)}"

    stories = []
    for record in await store.records(application_id, watch):
        own = [event for event in events if event.watch == record.watch]
        when_told = [event.event for event in own if event.at == record.told_at]
        stories.append(
            {
                "watch": record.watch,
                "application_id": record.application_id,
                "key": list(record.key),
                "in_scope": record.in_scope,
                "told": record.told and _content(record.told),
                "told_at": record.told_at and iso(record.told_at),
                # It was never sent, but found so when the application was first seen.
                "adopted": record.told is not None and record.adopted,
                # It was never sent, but discarded by a person.
                "discarded": "discarded" in when_told and "acknowledged" not in when_told,
                "told_request": acknowledged_request(record, own),
                "entry": record.entry and _entry(record.entry.addressed(built)),
                "suspected_deletion_due_at": record.suspicion and iso(record.suspicion.due_at),
                "skipped": record.skipped,
                "next": _next(record, when),
                "events": list(map(_event, own)),
            }
        )
    return stories


def _list(text: str, hits: Sequence[Hit]) -> None:
    say(f"{text!r} may mean several, or a row of no application:")
    for hit in hits[:MOST_HITS]:
        whose = "no application" if hit.application_id is None else f"application {hit.application_id}"
        say(f"  {hit.watch}: {whose}, row {'/'.join(hit.key)}{f': {hit.reason}' if hit.reason else ''}")
    if len(hits) > MOST_HITS:
        say(f"  (the first {MOST_HITS}; give more of the id)")


def _tell(story: dict[str, Any]) -> None:
    say(f"{story['watch']}: application {story['application_id']}, row {'/'.join(story['key'])}")
    if len(story["events"]) == EVENTS:
        say(f"  (the newest {EVENTS} events)")
    for event in story["events"]:
        say(f"  {event['at']}{local_time(event['at'])}  {event['event']}: {_detail(event)}")
    told, at = story["told"] and words(story["told"]), story["told_at"]
    if told is None:
        say("  HelloWork was told: nothing yet")
    elif story["discarded"]:
        say(f"  HelloWork was not told: {told}; a person discarded it at {at}, and it counts as told")
    else:
        adopted = " (adopted without a call: it was so when it was first seen)" if story["adopted"] else ""
        say(f"  HelloWork was told: {told}, since {at}{local_time(at)}{adopted}")
    _show(story["told_request"])
    for line in story["next"]:
        say(f"  {line}")
    _show(story["entry"] and story["entry"]["request"])


def _show(call: Mapping[str, str] | None) -> None:
    if call is not None:
        for line in (f"{call['method']} {call['url']}", f"Idempotency-Key: {call['idempotency_key']}", call["body"]):
            say(f"    {line}")


def _next(record: Record, when: Callable[[Record, Entry], str]) -> list[str]:
    """What follows."""
    lines: list[str] = []
    if (entry := record.entry) is not None:
        what = f"{words(facts(entry.content))} ({', '.join(sorted(entry.kinds)) or 'resend'})"
        again = f", after {entry.attempts} attempts: {entry.reason}" if entry.reason else ""
        release = ["cdc-sync", "fuse", "release", "--watch", entry.watch, "--", entry.application_id]
        match entry.state:
            case "pending":
                lines.append(f"pending: {what}, {when(record, entry)}{again}")
            case "held":
                lines.append(f"held by the fuse: {what}: {entry.reason}. Release it with {shlex.join(release)}")
            case "dead":
                lines.append(f"dead letter: {what}: {entry.reason}. Try again with cdc-sync dead-letters retry")
    if record.suspicion is not None:
        lines.append(f"its row seems gone; a fresh read at {iso(record.suspicion.due_at)} will tell")
    if record.skipped is not None:
        lines.append(f"its row cannot be reported: {record.skipped}")
    if not record.in_scope:
        lines.append("its row is out of scope (where): no calls")
    return lines or ["nothing is pending"]


def _detail(event: dict[str, Any]) -> str:
    to, before, kinds = (event.get(name) for name in ("to", "from", "kinds"))
    parts = [f"{words(before)} → {words(to)}" if before else words(to)] if to else []
    parts += [f"because: {', '.join(kinds)}"] if kinds else []
    parts += [f"{name} {event[name]}" for name in (*_DETAILS, *_DATES) if event.get(name) is not None]
    return "; ".join(parts)


def _event(event: HistoryEntry) -> dict[str, Any]:
    dates = {name: iso(event.detail[name]) for name in _DATES if event.detail.get(name) is not None}
    return {"at": iso(event.at), "event": event.event, **event.detail, **dates}


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "state": entry.state,
        "kinds": sorted(entry.kinds),
        "content": _content(entry.content),
        "request": request_of(entry.application_id, entry.content),
        "due_at": iso(entry.due_at),
        "queued_at": iso(entry.queued_at),
        "attempts": entry.attempts,
        "reason": entry.reason,
    }


def _content(content: Content) -> dict[str, Any]:
    dates = {"created": iso(content.created), "event_date": iso(content.event_date)}
    return {**facts(content), **dates, "url": content.url}

"""`cdc-sync status`: daemon and watches; and `explain`: everything known of one application."""

import http.client
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cdc_sync.admin.report import status_report
from cdc_sync.admin.story import EVENTS, stories
from cdc_sync.admin.watches import part_of, troubles, worst_first
from cdc_sync.ats.beginning import BASELINE, is_done
from cdc_sync.cli.console import print_table, print_text, text
from cdc_sync.cli.context import (
    JsonOption,
    WatchOption,
    configured,
    decodable,
    in_store,
    no_such_watch,
    print_json,
    say,
    with_known_tenants,
)
from cdc_sync.config import Config
from cdc_sync.core.conditions import is_for_a_person
from cdc_sync.core.content import iso
from cdc_sync.core.replies import HEALTHY, is_paused
from cdc_sync.core.status_url import LONGEST_ID
from cdc_sync.core.watch_names import listed, matches
from cdc_sync.store import Store
from cdc_sync.store.opening import place_of
from cdc_sync.store.protocol import MOST_HITS, Hit, meant
from cdc_sync.store.sqlite.schema import holder_of

_MOST_HEALTHY = 50
"""Most listed watches without problems."""

_WITHIN = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""How a wildcard address is reached from here."""


def status(
    context: typer.Context,
    as_json: JsonOption = False,
    healthy: Annotated[
        bool,
        typer.Option(
            "--healthy", help="Only say whether the daemon is alive; exit 1 if not. For a container's engine."
        ),
    ] = False,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch",
            metavar="PATTERN",
            help="Only watches of this name; % or * in it stands for any characters.",
            callback=decodable,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"List every watch that is well, not only the first {_MOST_HEALTHY}.")
    ] = False,
) -> None:
    """Show watches, lag, what is pending, held or given up, and the last errors. Works with the daemon up or down.

    Watches with problems come first.
    """
    config = configured(context)
    if healthy:
        wrong = _what_is_wrong(config)
        say(wrong or "healthy")
        raise typer.Exit(1 if wrong else 0)
    config = with_known_tenants(config)
    report = in_store(config, None, lambda store: _report(config, store))
    if watch is not None:
        report = part_of(report, watch, problems=False)
        if not report["watches"]:
            raise no_such_watch(config, watch)
    if as_json:
        print_json(report)
        return
    print_text("daemon", leader=report["leader"])
    watches = worst_first(report["watches"], troubled := troubles(report))
    shown = watches if every else watches[: len(troubled) + _MOST_HEALTHY]
    _print_watches(shown, several_databases=len(config.all_databases) > 1)
    decisions = [each for each in report["conditions"] if is_for_a_person(each["name"])]
    faults = [each for each in report["conditions"] if each not in decisions]
    more = len(watches) - len(shown)
    print_text("status", report=report, watches=shown, more=more, faults=faults, decisions=decisions)


def _print_watches(watches: Sequence[dict[str, Any]], *, several_databases: bool) -> None:
    several = ("database",) if several_databases else ()
    columns = ["watch", *several, "mode", "baseline", "known", "pending", "oldest", "held", "dead letters", "skipped"]
    rows = []
    for each in watches:
        oldest = each["oldest_pending_seconds"]
        cells = {**each, "mode": each["mode"] or "not configured", "baseline": each["baseline"]["state"]}
        cells["oldest"] = None if oldest is None else f"{oldest:.0f} s"
        rows.append([cells[column.replace(" ", "_")] for column in columns])
    print_table(columns, rows)


def _what_is_wrong(config: Config) -> str | None:
    """Why a new process might help; None if the daemon has the store, and answers."""
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
    return None if answer.status == http.client.OK else f"the daemon reports: {text}"


async def _report(config: Config, store: Store) -> dict[str, Any]:
    report = await status_report(config, store, store.driver.clock.for_people())
    leader = report["leader"]
    if leader is None:
        # Those of an ended daemon are past.
        report["standby"] = []
        report["conditions"] = [{"name": "daemon", "message": "it is not running", "since": report["at"]}]
    return {"daemon": {"running": leader is not None, "process": leader and leader["process"]}, **report}


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
    config = with_known_tenants(configured(context))

    async def look(store: Store) -> tuple[Sequence[Hit], list[dict[str, Any]], list[str]]:
        hits = await store.report.search(application_id, watch, MOST_HITS + 1)
        id_ = meant(hits)
        found = [] if id_ is None else await _stories(store, config, id_, watch)
        return hits, found, await _unread(store, config, watch)

    hits, found, unread = in_store(config, watch, look)
    by = hits[0].by if hits else "id"
    if as_json:
        # For an unknown id, a script must not get another application's story.
        found = [] if by == "beginning" else found
        print_json(found or list(map(asdict, hits)))
    elif found:
        print_text("stories", searched=application_id, by=by, stories=found, most=EVENTS)
    elif hits:
        print_text("hits", searched=application_id, hits=hits, most=MOST_HITS)
    if not hits:
        where = {"watch": watch, "watches": listed(config.watches), "place": place_of(config), "unread": listed(unread)}
        say(text("unknown", searched=application_id, longest=LONGEST_ID, **where), err=True)
    if not found:
        raise typer.Exit(1)


async def _unread(store: Store, config: Config, watch: str | None) -> list[str]:
    """The watches whose table was not read as a whole yet."""
    reached = await store.report.positions_of_all(BASELINE)
    read = {name for name, of in reached.items() if is_done(of[BASELINE])}
    return [name for name in config.watches if (watch is None or matches(watch, name)) and name not in read]


async def _stories(store: Store, config: Config, application_id: str, watch: str | None) -> list[dict[str, Any]]:
    paused = await store.operation.paused()
    endpoints = await store.delivery.endpoints()
    runs = await store.report.leader() is not None
    clock, configured = store.driver.clock, await store.delivery.configured()
    found = list[dict[str, Any]]()
    conditions = {each.name: each.message for each in await store.operation.conditions()}
    for record, story in await stories(config, store, application_id, watch):
        entry = record.entry
        endpoint, gone = "", None
        if entry is not None and entry.state == "pending":
            endpoint = entry.content.endpoint
            gone = None if configured.has(endpoint) else entry.content.account
        health, _ = endpoints.get(endpoint, (HEALTHY, None))
        until, is_held_up = iso(clock.for_people(health.until)), is_paused(paused, endpoint)
        sending = {"runs": runs, "gone": gone, "is_paused": is_held_up, "endpoint": endpoint}
        waits = conditions.get(f"deletions {record.watch}")
        about = {"health": health, "until": until, "now": iso(clock.for_people()), "waits": waits}
        lines = text("next", story=story, **sending, **about)
        found.append({**story, "next": lines.splitlines() or ["nothing is pending"]})
    return found

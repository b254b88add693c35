"""`cdc-sync status`: daemon and watches; and `explain`: everything known of one application."""

from dataclasses import asdict
from http.client import HTTPException
from typing import Annotated
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import typer

from cdc_sync.admin.report import EVENTS, Json, part_of, status_report, stories, troubled, worst_first
from cdc_sync.config import Config
from cdc_sync.core.conditions import is_for_a_person
from cdc_sync.core.status_url import LONGEST_ID
from cdc_sync.core.watch_names import listed
from cdc_sync.store import Store
from cdc_sync.store.opening import place_of
from cdc_sync.store.report import MOST_HITS, meant
from cdc_sync.store.sqlite.schema import holder_of

from .console import print_table, print_text, text
from .context import JsonOption, WatchOption, configured, opened, print_json, say

_MOST_HEALTHY = 50
"""Most listed watches without problems."""

_WITHIN = 5.0


async def status(
    context: typer.Context,
    as_json: JsonOption = False,
    healthy: Annotated[
        bool,
        typer.Option(
            "--healthy", help="Only say whether the daemon is alive; exit 1 if not. For a container's engine."
        ),
    ] = False,
    watch: WatchOption = None,
) -> None:
    """Show watches, lag, what is pending, held or given up, and the last errors. Works with the daemon up or down.

    Watches with problems come first. Of the others 50 are listed, or all that --watch names.
    """
    config = configured(context)
    if healthy:
        wrong = _what_is_wrong(config)
        say(wrong or "healthy")
        raise typer.Exit(1 if wrong else 0)
    async with opened(context, watch) as (_, store):
        report = await status_report(config, store, store.driver.clock.for_people())
    leader = report["leader"]
    report["daemon"] = {"running": leader is not None, "process": leader and leader["process"]}
    if leader is None:
        # Those of an ended daemon are past.
        report["standby"] = []
        report["conditions"] = [{"name": "daemon", "message": "it is not running", "since": report["at"]}]
    report = part_of(report, watch, problems=False)
    if as_json:
        print_json(report)
        return
    print_text("daemon", leader=leader)
    watches = worst_first(report)
    shown = watches if watch else watches[: len(troubled(report)) + _MOST_HEALTHY]
    _print_watches(config, shown)
    decisions = [each for each in report["conditions"] if is_for_a_person(each["name"])]
    faults = [each for each in report["conditions"] if each not in decisions]
    more = len(watches) - len(shown)
    print_text("status", report=report, watches=shown, more=more, faults=faults, decisions=decisions)


def _print_watches(config: Config, watches: list[Json]) -> None:
    several = ("database",) if len(config.all_databases) > 1 else ()
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
    try:
        # Not by a proxy of the environment. A wildcard address leads here too.
        build_opener(ProxyHandler({})).open(f"http://{listen}/healthz", timeout=_WITHIN).close()
    except HTTPError as error:
        return f"the daemon reports: {error.read(1000).decode('utf-8', 'replace').strip()}"
    except (OSError, HTTPException) as error:
        return f"the daemon does not answer on {listen}: {error}"
    return None


async def explain(
    context: typer.Context,
    application_id: Annotated[str, typer.Argument(help="Or its row's key (several columns as a/b).")],
    watch: WatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell one application's story: what was seen, sent, answered; what is pending, and why.

    Several that may be meant are listed instead, and it exits with 1.
    """
    async with opened(context, watch) as (config, store):
        hits = await store.report.search(application_id, watch, MOST_HITS + 1)
        id_ = meant(hits)
        found = [] if id_ is None else await _stories(store, config, id_, watch)
    if not hits:
        where = {"watch": watch, "watches": listed(config.watches), "place": place_of(config)}
        say(text("unknown", searched=application_id, longest=LONGEST_ID, **where), err=True)
    if as_json:
        print_json(found or list(map(asdict, hits)))
    elif found:
        print_text("stories", searched=application_id, stories=found, most=EVENTS)
    elif hits:
        print_text("hits", searched=application_id, hits=hits, most=MOST_HITS)
    if not found:
        raise typer.Exit(1)


async def _stories(store: Store, config: Config, id_: str, watch: str | None) -> list[Json]:
    """The stories of an application, each with what comes next."""
    report, found = await status_report(config, store, store.driver.clock.for_people()), list[Json]()
    for record, story in await stories(config, store, id_, watch):
        lines = text("next", story=story, report=report, content=record.entry and record.entry.content)
        found.append({**story, "next": lines.splitlines() or ["nothing is pending"]})
    return found

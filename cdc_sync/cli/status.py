"""`cdc-sync status`: is all well, and what is pending."""

import http.client
from typing import Annotated, Any

import typer
from rich.table import Table

from cdc_sync.admin.report import status_report
from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, configured, in_store, print_json, say
from cdc_sync.config import Config
from cdc_sync.store.lock import holder_of
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
        text = f"{name} was worked before, with another store: what was pending there was not sent. Lost? Restore it"
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

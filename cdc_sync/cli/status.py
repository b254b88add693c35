"""`cdc-sync status`: is all well, and what waits."""

import http.client
from typing import Annotated, Any

import typer
from rich.table import Table

from cdc_sync.admin.report import status_report
from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, in_store, invocation
from cdc_sync.cli.saying import print_json, say
from cdc_sync.config import Config
from cdc_sync.store.lock import holder_of
from cdc_sync.store.opening import daemons
from cdc_sync.store.store import Store

_WITHIN = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how a wildcard address is reached from here
"""Whoever listens everywhere is reached here too."""


def status(
    context: typer.Context,
    as_json: JsonOption = False,
    healthy: Annotated[
        bool,
        typer.Option(
            "--healthy", help="Only tell whether the daemon is alive; exit 1 if not. For a container's engine."
        ),
    ] = False,
) -> None:
    """Show watches, lag, what is pending, held or given up, and the last errors. Works with the daemon up or down."""
    config = invocation(context).config()
    if healthy:
        wrong = _what_is_wrong(config)
        say(wrong or "healthy")
        raise typer.Exit(1 if wrong else 0)
    report = in_store(config, None, lambda store: _report(config, store))
    if as_json:
        print_json(report)
        return
    for daemon in report["daemon"].get("all", [report["daemon"]] if report["daemon"]["running"] else []):
        where = f" on {daemon['host']}" if "host" in daemon else ""
        console.print(f"daemon: running (process {daemon['process'] or 'unknown'}{where})")
    if not report["daemon"]["running"]:
        console.print("daemon: not running", style="red")
    table = Table("watch", "mode", "baseline", "known", "pending", "oldest", "held", "dead letters", "skipped")
    for watch in report["watches"]:
        oldest = watch["oldest_pending_seconds"]
        table.add_row(
            watch["watch"],
            watch["mode"] or "not configured",
            watch["baseline"]["state"],
            str(watch["known"]),
            str(watch["pending"]),
            "" if oldest is None else f"{oldest:.0f} s",
            str(watch["held"]),
            str(watch["dead_letters"]),
            str(watch["skipped"]),
        )
    console.print(table)
    for watch in report["watches"]:
        _show_remarks(watch)
    _list("wrong now", [f"{item['name']}: {item['message']}" for item in report["conditions"]])
    _list("standby", [f"{item['name'].partition(' ')[2]}: {item['message']}" for item in report["standby"]])
    _list("endpoints", [_endpoint(item) for item in report["endpoints"] if item["mode"] != "healthy"])
    _list("sending is paused to", [item["endpoint"] for item in report["endpoints"] if item["sending_paused"]])
    _list(
        "last failures",
        [
            f"{item['at']} {item['watch']} {item['application_id']}: {item['reason']}"
            for item in report["last_failures"]
        ],
    )
    _list(
        "rows that cannot be reported",
        [
            f"{item['watch']} {item['application_id'] or '/'.join(item['key'])}: {item['reason']}"
            for item in report["skipped_rows"]
        ],
    )


def _what_is_wrong(config: Config) -> str | None:
    """Why the daemon is not alive, or None: it has the store, and says itself that all its loops get round.

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
        console.print(
            f"{name} is not configured: what waits of it is sent, but its changes are watched no more. Was it renamed? "
            f"cdc-sync check tells what to do",
            style="yellow",
            soft_wrap=True,
        )
    if watch["over_earlier_work"]:
        console.print(
            f"{name} was worked before, with another store: this one took the rows that it found as told, so what "
            f"waited in the other was not sent. Was it lost by mistake? Put it back, or restore a backup",
            style="yellow",
            soft_wrap=True,
        )
    if watch["sweep_repairs"]:
        causes = ", ".join(f"{cause}: {number}" for cause, number in watch["sweep_repairs"].items())
        console.print(f"sweeps of {name} found what capture had missed, or had left to them: {causes}")
    if watch["fuse"] == "blown":
        console.print(f"fuse of {name} is blown: {watch['fuse_reason']}; see cdc-sync fuse show", style="red")
    elif watch["held"]:
        console.print(f"deletions of {name} are held: {watch['held_reason']}; see cdc-sync fuse show")


async def _report(config: Config, store: Store) -> dict[str, Any]:
    report = await status_report(config, store, store.clock.for_people())
    running = await daemons(config, store)
    if not running:
        # What a daemon noted before it ended is not wrong *now*.
        report["standby"] = []
        report["conditions"] = [{"name": "daemon", "message": "it is not running", "since": report["at"]}]
    daemon: dict[str, Any] = {"running": bool(running), "process": running[0][1] if running else None}
    if len(running) > 1:
        daemon["all"] = [{"host": host, "process": process} for host, process in running]
    return {"daemon": daemon, **report}


def _endpoint(item: dict[str, Any]) -> str:
    return f"{item['endpoint']}: {item['mode']} until {item['until']}: {item['reason']}"


def _list(title: str, lines: list[str]) -> None:
    if lines:
        console.print(f"{title}:")
        for line in lines:
            say(f"  {line}")

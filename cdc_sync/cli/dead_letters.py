"""`cdc-sync dead-letters`: what was given up, and what to do with it."""

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import (
    IdsArgument,
    JsonOption,
    WatchOption,
    check_watch_in,
    invocation,
    opened,
    print_json,
)
from cdc_sync.cli.saying import say
from cdc_sync.config import Config
from cdc_sync.core.instants import iso
from cdc_sync.core.outbox import Entry

app = typer.Typer(
    no_args_is_help=True, help="List, retry or discard what was given up. Works with the daemon up or down."
)

AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]

_MOST = 100_000


@app.command("list")
def list_(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show the dead letters, with the reason of each."""
    config = invocation(context).config()
    letters = asyncio.run(_letters(config, watch))
    if as_json:
        print_json([_as_json(letter) for letter in letters])
        return
    if not letters:
        console.print("No dead letters.")
        return
    table = Table("watch", "application", "status", "since", "attempts", "reason")
    for letter in letters:
        cells = (letter.content.status, iso(letter.queued_at), str(letter.attempts), letter.reason or "")
        table.add_row(letter.watch, letter.application_id, *cells)
    console.print(table)


@app.command()
def retry(context: typer.Context, ids: IdsArgument = None, every: AllOption = False, watch: WatchOption = None) -> None:
    """Send dead letters again."""
    _act(context, ids, watch, every=every, discard=False)


@app.command()
def discard(
    context: typer.Context, ids: IdsArgument = None, every: AllOption = False, watch: WatchOption = None
) -> None:
    """Take dead letters as told, without a call: only the application's next change is sent."""
    _act(context, ids, watch, every=every, discard=True)


def _act(context: typer.Context, ids: list[str] | None, watch: str | None, *, every: bool, discard: bool) -> None:
    if bool(ids) == every:
        raise typer.BadParameter("name applications, or say --all")
    config = invocation(context).config()
    found = asyncio.run(_change(config, watch, None if every else ids, discard=discard))
    for name, application_id in found:
        say(f"{'discarded' if discard else 'to be sent again'}: {name} {application_id}")
    missing = [] if every or ids is None else sorted(set(ids) - {application_id for _, application_id in found})
    for application_id in missing:
        say(f"{application_id} has no dead letter; `cdc-sync explain {application_id}` tells its story", err=True)
    if missing:
        raise typer.Exit(1)
    if not found:
        say("No dead letters.")


async def _letters(config: Config, watch: str | None) -> list[Entry]:
    async with opened(config, read_only=True) as store:
        await check_watch_in(store, config, watch)
        return await store.entries("dead", watch, _MOST)


async def _change(config: Config, watch: str | None, ids: list[str] | None, *, discard: bool) -> list[tuple[str, str]]:
    async with opened(config, read_only=False) as store:
        await check_watch_in(store, config, watch)
        if discard:
            return await store.discard("dead", watch, ids, now=store.clock.for_people())
        return await store.retry_dead(watch, ids, store.clock.for_people())


def _as_json(letter: Entry) -> dict[str, Any]:
    return {
        "watch": letter.watch,
        "application_id": letter.application_id,
        "status": letter.content.status,
        "job_id": letter.content.job_id,
        "deleted": letter.content.deleted,
        "kinds": sorted(letter.kinds),
        "queued_at": iso(letter.queued_at),
        "attempts": letter.attempts,
        "reason": letter.reason,
        "url": letter.content.url,
    }

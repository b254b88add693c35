"""`cdc-sync dead-letters`: what was given up, and what to do with it."""

from typing import Annotated

import typer
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import IdsArgument, JsonOption, WatchOption, in_store, invocation
from cdc_sync.cli.saying import entry_facts, print_json, say
from cdc_sync.core.payload import iso
from cdc_sync.store.store import Store

app = typer.Typer(
    no_args_is_help=True, help="List, retry or discard what was given up. Works with the daemon up or down."
)

AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]

_MOST = 100_000


@app.command("list")
def list_(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show the dead letters, with the reason of each."""
    config = invocation(context).config()
    letters = in_store(config, watch, lambda store: store.entries("dead", watch, _MOST))
    if as_json:
        print_json([{**entry_facts(each), "attempts": each.attempts, "url": each.content.url} for each in letters])
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
    wanted = None if every else ids

    async def act(store: Store) -> list[tuple[str, str]]:
        if discard:
            return await store.discard("dead", watch, wanted, now=store.clock.for_people())
        return await store.retry_dead(watch, wanted, store.clock.for_people())

    found = in_store(config, watch, act, writes=True)
    for name, application_id in found:
        say(f"{'discarded' if discard else 'to be sent again'}: {name} {application_id}")
    missing = sorted(set(wanted or ()) - {application_id for _, application_id in found})
    for application_id in missing:
        say(f"{application_id} has no dead letter; `cdc-sync explain {application_id}` tells its story", err=True)
    if missing:
        raise typer.Exit(1)
    if not found:
        say("No dead letters.")

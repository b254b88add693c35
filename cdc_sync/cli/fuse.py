"""`cdc-sync fuse`: a mass change was held; look at it, then release or discard it."""

from typing import Annotated

import typer
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, in_store, invocation
from cdc_sync.cli.saying import entry_facts, print_json, say
from cdc_sync.core.diff import Fuse
from cdc_sync.core.outbox import Entry
from cdc_sync.core.payload import iso
from cdc_sync.store import in_steps
from cdc_sync.store.protocol import Only
from cdc_sync.store.store import Store

app = typer.Typer(no_args_is_help=True, help="Look at held mass changes, release or discard them.")

OnlyOption = Annotated[
    Only | None, typer.Option("--only", metavar="changes|deletions", help="Only entries of this sort.")
]

_MOST = 1_000_000


@app.command()
def show(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show the held entries, and what blew the fuse."""
    config = invocation(context).config()
    fuses, held = in_store(config, watch, lambda store: _held(store, watch))
    if as_json:
        print_json([entry_facts(entry) for entry in held])
        return
    for name, fuse in fuses.items():
        if fuse.blown_at is not None and watch in (None, name):
            console.print(f"{name}: blown at {iso(fuse.blown_at)}: {fuse.reason}")
    blown = {fuse.reason for fuse in fuses.values()}
    for reason in sorted({entry.reason for entry in held if entry.reason} - blown):
        console.print(f"held: {reason}")
    if not held:
        console.print("Nothing is held.")
        return
    deletions = sum(entry.content.deleted for entry in held)
    console.print(f"{len(held)} held: {len(held) - deletions} changes, {deletions} deletions")
    table = Table("watch", "application", "would be told", "because", "since")
    for entry in held[:50]:
        told = f"{entry.content.status}, job {entry.content.job_id}"
        table.add_row(entry.watch, entry.application_id, told, ", ".join(sorted(entry.kinds)), iso(entry.queued_at))
    console.print(table)
    if len(held) > len(table.rows):
        console.print(f"… and {len(held) - len(table.rows)} more (--json shows all)")
    console.print("Send them: cdc-sync fuse release. Take them as told without a call: cdc-sync fuse discard.")


@app.command()
def release(
    context: typer.Context,
    watch: WatchOption = None,
    only: OnlyOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the oldest first.")] = None,
) -> None:
    """Let held entries be sent."""
    number = in_store(
        invocation(context).config(),
        watch,
        lambda store: in_steps.release_held(store, watch, store.clock.for_people, only=only, limit=limit),
        writes=True,
    )
    say(f"{number} released")


@app.command()
def discard(context: typer.Context, watch: WatchOption = None, only: OnlyOption = None) -> None:
    """Take the held entries as told, without a call."""
    discarded = in_store(
        invocation(context).config(),
        watch,
        lambda store: in_steps.discard(store, "held", watch, store.clock.for_people, only=only),
        writes=True,
    )
    say(f"{len(discarded)} discarded")


async def _held(store: Store, watch: str | None) -> tuple[dict[str, Fuse], list[Entry]]:
    fuses = {
        name: fuse if fuse.blown_at is None else fuse._replace(blown_at=store.clock.for_people(fuse.blown_at))
        for name, fuse in (await store.fuses()).items()
    }
    return fuses, await store.entries("held", watch, _MOST)

"""`cdc-sync fuse`: a mass change was held; look at it, then release or discard it."""

import asyncio
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, check_watch_in, invocation, opened, print_json
from cdc_sync.cli.saying import say
from cdc_sync.config import Config
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.instants import iso
from cdc_sync.core.outbox import Entry
from cdc_sync.store import in_steps
from cdc_sync.store.protocol import Only

app = typer.Typer(no_args_is_help=True, help="Look at held mass changes, release or discard them.")

OnlyOption = Annotated[
    str | None, typer.Option("--only", metavar="changes|deletions", help="Only entries of this sort.")
]

_MOST = 1_000_000


@app.command()
def show(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show the held entries, and what blew the fuse."""
    config = invocation(context).config()
    fuses, held = asyncio.run(_held(config, watch))
    if as_json:
        print_json([_as_json(entry) for entry in held])
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
    sort = _only(only)
    config = invocation(context).config()
    number = asyncio.run(_release(config, watch, sort, limit))
    say(f"{number} released")


@app.command()
def discard(context: typer.Context, watch: WatchOption = None, only: OnlyOption = None) -> None:
    """Take the held entries as told, without a call."""
    sort = _only(only)
    config = invocation(context).config()
    number = asyncio.run(_discard(config, watch, sort))
    say(f"{number} discarded")


def _only(text: str | None) -> Only | None:
    if text not in (None, "changes", "deletions"):
        raise typer.BadParameter("say changes or deletions", param_hint="--only")
    return cast("Only | None", text)


async def _held(config: Config, watch: str | None) -> tuple[dict[str, Fuse], list[Entry]]:
    async with opened(config, read_only=True) as store:
        await check_watch_in(store, config, watch)
        fuses = {
            name: fuse if fuse.blown_at is None else fuse._replace(blown_at=store.clock.for_people(fuse.blown_at))
            for name, fuse in (await store.fuses()).items()
        }
        return fuses, await store.entries("held", watch, _MOST)


async def _release(config: Config, watch: str | None, only: Only | None, limit: int | None) -> int:
    async with opened(config, read_only=False) as store:
        await check_watch_in(store, config, watch)
        return await in_steps.release_held(store, watch, store.clock.for_people, only=only, limit=limit)


async def _discard(config: Config, watch: str | None, only: Only | None) -> int:
    async with opened(config, read_only=False) as store:
        await check_watch_in(store, config, watch)
        return len(await in_steps.discard(store, "held", watch, store.clock.for_people, only=only))


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        "status": entry.content.status,
        "job_id": entry.content.job_id,
        "deleted": entry.content.deleted,
        "kinds": sorted(entry.kinds),
        "queued_at": iso(entry.queued_at),
        "reason": entry.reason,
    }

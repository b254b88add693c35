"""`cdc-sync fuse`, `dead-letters` and `resend`: what a person decides about entries, with the daemon up or down."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import (
    IdsArgument,
    JsonOption,
    WatchOption,
    decodable,
    facts,
    in_store,
    invocation,
    operator,
    print_json,
    record,
    say,
)
from cdc_sync.config import Config
from cdc_sync.core.failures import OperationError
from cdc_sync.core.outbox import Entry
from cdc_sync.core.payload import iso
from cdc_sync.core.visible import visible
from cdc_sync.store.operation import Selection
from cdc_sync.store.protocol import HeldGroup, Only
from cdc_sync.store.store import Store

fuse = typer.Typer(no_args_is_help=True, help="Look at held mass changes, release or discard them.")
dead_letters = typer.Typer(
    no_args_is_help=True, help="List, retry or discard what was given up. Works with the daemon up or down."
)

AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
OnlyOption = Annotated[
    Only | None, typer.Option("--only", metavar="changes|deletions", help="Only entries of this sort.")
]

TransitionOption = Annotated[
    str | None,
    typer.Option("--transition", metavar="TEXT", help="Only this one, as `fuse show` names it.", callback=decodable),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many, the oldest first.")]

_MOST_LETTERS, _MOST_HELD, _SHOWN = 100_000, 1_000_000, 50
_NAMED = 10
"""How many groups a question names."""


@fuse.command()
def show(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show what is held, grouped by what happens to the applications, and which limit was crossed."""
    config = invocation(context).config()
    blown, groups = in_store(config, watch, lambda store: _held(store, watch))
    if as_json:
        entries = in_store(config, watch, lambda store: store.entries("held", watch, _MOST_HELD))
        shown = [{**asdict(group), "since": iso(group.since)} for group in groups]
        print_json({"fuses": blown, "groups": shown, "entries": [_entry(entry) for entry in entries]})
        return
    for each in blown:
        console.print(f"{each['watch']}: blown at {each['blown_at']}: {each['reason']}")
    if not groups:
        console.print("Nothing is held.")
        return
    console.print(f"{sum(group.number for group in groups)} held")
    table = Table("watch", "number", "transition", "since", "held for", "for example")
    for group in groups[:_SHOWN]:
        more = ", …" if group.number > len(group.examples) else ""
        cells = (iso(group.since), group.reason, ", ".join(group.examples) + more)
        table.add_row(group.watch, str(group.number), group.transition, *cells)
    console.print(table)
    if len(groups) > _SHOWN:
        console.print(f"… and {len(groups) - _SHOWN} more transitions (--json shows all)")
    console.print(
        "Send them: cdc-sync fuse release. Take them as acknowledged without a call: cdc-sync fuse discard. Both take "
        "ids, --transition and --limit."
    )


@fuse.command()
def release(
    context: typer.Context,
    ids: IdsArgument = None,
    *,
    watch: WatchOption = None,
    only: OnlyOption = None,
    transition: TransitionOption = None,
    limit: LimitOption = None,
    yes: YesOption = False,
) -> None:
    """Let held entries be sent."""
    chosen = Selection(ids=ids or None, only=only, transition=transition, limit=limit)
    _decide_held(invocation(context).config(), watch, chosen, yes=yes, discard=False)


@fuse.command("discard")
def discard_held(
    context: typer.Context,
    ids: IdsArgument = None,
    *,
    watch: WatchOption = None,
    only: OnlyOption = None,
    transition: TransitionOption = None,
    limit: LimitOption = None,
    yes: YesOption = False,
) -> None:
    """Take held entries as acknowledged, without a call."""
    chosen = Selection(ids=ids or None, only=only, transition=transition, limit=limit)
    _decide_held(invocation(context).config(), watch, chosen, yes=yes, discard=True)


def _decide_held(config: Config, watch: str | None, chosen: Selection, *, yes: bool, discard: bool) -> None:
    groups = in_store(config, watch, lambda store: store.held_groups(watch, **chosen))
    if not groups and "->" in (chosen["transition"] or ""):
        # As it can be typed.
        chosen["transition"] = str(chosen["transition"]).replace("->", "→")
        groups = in_store(config, watch, lambda store: store.held_groups(watch, **chosen))
    if not groups and chosen["transition"]:
        raise OperationError(f"nothing held is {chosen['transition']!r}; `cdc-sync fuse show` names transitions")
    # No more than was seen, whatever comes to be held from now on.
    parts = [(watch, Selection(**{**chosen, "limit": sum(group.number for group in groups)}))]
    if groups and not yes:
        named = [f"{group.number} × {group.transition}" for group in groups[:_NAMED]]
        named += [f"{len(groups) - _NAMED} more transitions"] * (len(groups) > _NAMED)
        what = "taken as acknowledged, without a call" if discard else "sent to HelloWork"
        _confirm(f"{', '.join(named)} will be {what}.")
        # What means something else by the time of the answer stays: nobody has agreed to it.
        parts = [
            (group.watch, Selection(**{**chosen, "transition": group.transition, "limit": group.number}))
            for group in groups
        ]

    async def act(store: Store) -> tuple[int, list[str]]:
        who, done = operator(), list[tuple[str, str]]()
        for name, part in parts:
            now = store.clock.for_people()
            if discard:
                done += await store.discard("held", name, now, who=who, **part)
            else:
                done += await store.release_held(name, now, who=who, **part)
        await record(store, "discard" if discard else "release", len(done), watch)
        left = set(chosen["ids"] or ()) - {id_ for _, id_ in done}
        if chosen["limit"] is not None:
            # Beyond the limit, as was asked.
            left = {id_ for id_ in left if not await store.held_groups(watch, **Selection(**{**chosen, "ids": [id_]}))}
        return len(done), sorted(left)

    number, left = in_store(config, watch, act, writes=True)
    say(f"{number} {'discarded' if discard else 'released'}")
    for id_ in left:
        say(f"{id_} is not held, or not as was asked for; `cdc-sync explain {id_}` shows what is known of it", err=True)
    if left:
        raise typer.Exit(1)


def _confirm(what: str) -> None:
    """Say what will be done, and ask.

    Raises:
        typer.Abort: the answer is no.
        typer.BadParameter: there is no terminal, so nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(visible(f"{what} Nothing is done yet: there is no terminal to ask on, so say --yes"))
    typer.confirm(visible(f"{what} Go on?"), abort=True, err=True)


@dead_letters.command("list")
def list_(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show the dead letters, with the reason of each."""
    config = invocation(context).config()
    letters = in_store(config, watch, lambda store: store.entries("dead", watch, _MOST_LETTERS))
    if as_json:
        print_json([{**_entry(each), "attempts": each.attempts, "url": each.content.url} for each in letters])
        return
    if not letters:
        console.print("No dead letters.")
        return
    table = Table("watch", "application", "status", "since", "attempts", "reason")
    for letter in letters:
        cells = (letter.content.status, iso(letter.queued_at), str(letter.attempts), letter.reason or "")
        table.add_row(letter.watch, letter.application_id, *cells)
    console.print(table)


@dead_letters.command()
def retry(
    context: typer.Context,
    ids: IdsArgument = None,
    every: AllOption = False,
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Send dead letters again."""
    _decide(context, ids, watch, every=every, yes=yes, discard=False)


@dead_letters.command()
def discard(
    context: typer.Context,
    ids: IdsArgument = None,
    every: AllOption = False,
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Take dead letters as acknowledged, without a call: only the application's next change is sent."""
    _decide(context, ids, watch, every=every, yes=yes, discard=True)


def _decide(
    context: typer.Context, ids: list[str] | None, watch: str | None, *, every: bool, yes: bool, discard: bool
) -> None:
    if bool(ids) == every:
        raise typer.BadParameter("name applications, or say --all")
    config = invocation(context).config()
    if every and not yes:
        letters = in_store(config, watch, lambda store: store.entries("dead", watch, _MOST_LETTERS))
        if letters:
            what = "taken as acknowledged, without a call" if discard else "sent again"
            _confirm(f"{len(letters)} dead letters will be {what}.")
    wanted = None if every else ids

    async def act(store: Store) -> list[tuple[str, str]]:
        now = store.clock.for_people()
        if discard:
            done = await store.discard("dead", watch, now, ids=wanted, who=operator())
        else:
            done = await store.retry_dead(watch, now, ids=wanted, who=operator())
        await record(store, "discard" if discard else "retry", len(done), watch)
        return done

    found = in_store(config, watch, act, writes=True)
    if every and not found:
        say("No dead letters.")
    _report(
        "discarded" if discard else "to be sent again",
        found,
        wanted or (),
        "{id} has no dead letter; `cdc-sync explain {id}` shows its history",
    )


def resend(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="APPLICATION_ID…", show_default=False, callback=decodable)],
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Send these applications' present state to HelloWork once more. Works with the daemon up or down."""
    config = invocation(context).config()

    async def check(_: Store) -> None:
        if watch is not None and watch not in config.watches:
            raise typer.BadParameter(
                f"the watch {watch!r} is no longer configured: what HelloWork acknowledged of it may not be the "
                f"present state. Give it its name back, or name another watch: {', '.join(config.watches)}"
            )

    async def resent(store: Store) -> list[tuple[str, str]]:
        # Of the configured watches only, for the same reason.
        watches = list(config.watches) if watch is None else [watch]
        now, who = store.clock.for_people(), operator()
        done = [each for name in watches for each in await store.resend(name, ids, now, who=who)]
        await record(store, "resend", len(done), watch)
        return done

    in_store(config, watch, check)
    if not yes:
        number = f"{len(ids)} applications" if len(ids) > 1 else "1 application"
        _confirm(f"The present state of {number} will be sent to HelloWork once more: {', '.join(ids)}.")
    _report(
        "to be sent",
        in_store(config, watch, resent, writes=True),
        ids,
        "{id} cannot be resent: it is unknown, held or a dead letter; `cdc-sync explain {id}` shows which",
    )


def _report(done: str, found: Sequence[tuple[str, str]], wanted: Collection[str], missing: str) -> None:
    """Say of which applications it was done; fails if it was not of all that were named."""
    for name, application_id in found:
        say(f"{done}: {name} {application_id}")
    left = sorted(set(wanted) - {application_id for _, application_id in found})
    for application_id in left:
        say(missing.format(id=application_id), err=True)
    if left:
        raise typer.Exit(1)


def _entry(entry: Entry) -> dict[str, Any]:
    """An entry of the outbox, for programs."""
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        **facts(entry.content),
        "kinds": sorted(entry.kinds),
        "queued_at": iso(entry.queued_at),
        "reason": entry.reason,
    }


async def _held(store: Store, watch: str | None) -> tuple[list[dict[str, Any]], list[HeldGroup]]:
    """The blown fuses, and what is held."""
    blown = [
        {"watch": name, "blown_at": iso(store.clock.for_people(fuse.blown_at)), "reason": fuse.reason}
        for name, fuse in (await store.fuses()).items()
        if fuse.blown_at is not None and watch in (None, name)
    ]
    return blown, await store.held_groups(watch)

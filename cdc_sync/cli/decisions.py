"""Decisions about entries, by `cdc-sync fuse`, `dead-letters` and `resend`: choose, show, ask, request."""

from dataclasses import asdict
from functools import partial
from typing import Annotated, NamedTuple

import typer

from cdc_sync.admin.story import facts
from cdc_sync.admin.watches import Json
from cdc_sync.ats.rows_elsewhere import without_live_row
from cdc_sync.cli.asking import asking
from cdc_sync.cli.console import print_table
from cdc_sync.cli.context import (
    JsonOption,
    WatchOption,
    YesOption,
    chosen,
    complain,
    confirm,
    in_tables,
    misused,
    opened,
    print_json,
    say,
)
from cdc_sync.config import Config
from cdc_sync.core.content import iso
from cdc_sync.core.failures import OperationError
from cdc_sync.core.outbox import Entry, EntryId, EntryState
from cdc_sync.core.watch_names import matches
from cdc_sync.store import Store, acts
from cdc_sync.store.acts import Chosen, SeenEntry
from cdc_sync.store.protocol import HeldGroup, Only

fuse = typer.Typer(no_args_is_help=True, help="Look at held mass changes, release or discard them.")
dead_letters = typer.Typer(
    no_args_is_help=True, help="List, retry or discard what was given up. Works with the daemon up or down."
)

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="APPLICATION_ID…", show_default=False)]

_MOST_ENTRIES, _SHOWN = 1_000_000, 50
_NAMED = 10
"""Most transitions in a question."""


class _Decision(NamedTuple):
    """What a command asks of the leader, what follows, for the question, and what is said then."""

    request: type[acts.Decide]
    follows: str
    done: str


_DECISIONS = {
    "release": _Decision(acts.Send, "sent to HelloWork", "released"),
    "retry": _Decision(acts.Send, "sent again", "to be sent again"),
    "discard": _Decision(acts.Discard, "taken as acknowledged, without a call", "discarded"),
}
"""By the command's name."""


@fuse.command()
async def show(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show what is held, grouped by what happens to the applications, and which limit was crossed."""
    async with opened(context, watch) as (_, store):
        blown, groups = await blown_fuses(store, watch), await store.operation.held_groups(watch)
        entries = await store.report.entries("held", watch, _MOST_ENTRIES) if as_json else []
    if as_json:
        shown = [{**asdict(group), "since": iso(group.since)} for group in groups]
        print_json({"fuses": blown, "groups": shown, "entries": list(map(_facts, entries))})
        return
    for each in blown:
        say(f"{each['watch']}: blown at {each['blown_at']}: {each['reason']}")
    if not groups:
        say("Nothing is held.")
        return
    say(f"{sum(group.number for group in groups)} held")
    columns = ("watch", "number", "transition", "since", "held for", "for example")
    print_table(columns, map(_cells, groups[:_SHOWN]))
    if len(groups) > _SHOWN:
        say(f"… and {len(groups) - _SHOWN} more transitions (--json shows all)")
    say("cdc-sync fuse release sends them; discard takes them as acknowledged. Both take ids and --transition.")


async def blown_fuses(store: Store, watch: str | None) -> list[Json]:
    """The blown fuses of these watches, for programs."""
    return [
        {"watch": name, "blown_at": iso(store.driver.clock.for_people(fuse.blown_at)), "reason": fuse.reason}
        for name, fuse in (await store.operation.fuses()).items()
        if fuse.blown_at is not None and (watch is None or matches(watch, name))
    ]


def _cells(group: HeldGroup) -> tuple[object, ...]:
    examples = ", ".join(group.examples) + ", …" * (group.number > len(group.examples))
    return group.watch, group.number, group.transition, iso(group.since), group.reason, examples


@fuse.command("discard", help="Take held entries as acknowledged, without a call.")
@fuse.command("release", help="Let held entries be sent.")
async def decide_held(
    context: typer.Context,
    ids: IdsArgument = None,
    *,
    watch: WatchOption = None,
    only: Annotated[Only | None, typer.Option(metavar="changes|deletions", help="Only entries of this sort.")] = None,
    transition: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only this one, as `fuse show` names it.")
    ] = None,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="Only entries of this account.")] = None,
    yes: YesOption = False,
) -> None:
    """Release or discard held entries, by the command's name."""
    transition = transition and transition.replace("->", "→")  # it may have been typed
    which = Chosen(tuple(ids) if ids else None, only, transition, account)
    async with opened(context, watch) as (config, store):
        # Before what is shown of them.
        entries = await store.operation.chosen("held", watch, which)
        groups = await store.operation.held_groups(watch, which)
    if transition and not entries:
        raise OperationError(f"nothing held is {transition!r}; `cdc-sync fuse show` names transitions")
    shown = [f"{group.number} × {group.transition}" for group in groups[:_NAMED]]
    more = [f"{len(groups) - _NAMED} more kinds"] if len(groups) > _NAMED else []
    decision = _DECISIONS[str(context.info_name)]
    if entries:
        confirm(f"{'; '.join([*shown, *more])} will be {decision.follows}.", yes=yes)
    done = await _decide(context, config, "held", watch, entries)
    say(f"{len(done)} {decision.done}")
    why = "is not held, or not as was asked for; `cdc-sync explain {}` shows what is known of it"
    complain(set(ids or ()) - {id_ for _, id_ in done}, why)


@dead_letters.command("list")
async def list_(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show the dead letters, with the reason of each."""
    async with opened(context, watch) as (_, store):
        letters = await store.report.entries("dead", watch, _MOST_ENTRIES)
    if as_json:
        print_json([{**_facts(each), "attempts": each.attempts, "url": each.content.url} for each in letters])
    elif not letters:
        say("No dead letters.")
    else:
        rows = ((x.watch, x.application_id, x.content.status, iso(x.queued_at), x.attempts, x.reason) for x in letters)
        print_table(("watch", "application", "status", "since", "attempts", "reason"), rows)


@dead_letters.command(
    "discard", help="Take dead letters as acknowledged, without a call: only the application's next change is sent."
)
@dead_letters.command("retry", help="Send dead letters again.")
async def decide_dead(
    context: typer.Context,
    ids: IdsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Retry or discard dead letters, by the command's name."""
    if bool(ids) == every:
        raise misused("name applications, or say --all")
    async with opened(context, watch) as (config, store):
        entries = await store.operation.chosen("dead", watch, Chosen(tuple(ids) if ids else None))
    if every and not entries:
        say("No dead letters.")
        return
    decision = _DECISIONS[str(context.info_name)]
    if every:
        confirm(f"{len(entries)} dead letters will be {decision.follows}.", yes=yes)
    done = await _decide(context, config, "dead", watch, entries)
    _say_done(decision.done, done)
    complain(set(ids or ()) - {id_ for _, id_ in done}, "has no dead letter; `cdc-sync explain {}` shows its history")


async def _decide(
    context: typer.Context, config: Config, state: EntryState, watch: str | None, entries: list[SeenEntry]
) -> list[EntryId]:
    """Decide, by the command's name, about those of these entries that are still as they were read; returns which."""
    action = str(context.info_name)
    async with asking(config, action, watch) as asked:
        return await asked.ask_in_steps(partial(_DECISIONS[action].request, state, watch, by=asked.by), entries)


def _say_done(done: str, found: list[EntryId]) -> None:
    for name, application_id in found:
        say(f"{done}: {name} {application_id}")


def _facts(entry: Entry) -> Json:
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        **facts(entry.content),
        "account": entry.content.account,
        "kinds": sorted(entry.kinds),
        "queued_at": iso(entry.queued_at),
        "reason": entry.reason,
    }


async def resend(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="APPLICATION_ID…", show_default=False)],
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Send these applications' present state to HelloWork once more. Works with the daemon up or down.

    It reads their rows first, and refuses an application that no live row carries.
    """
    async with opened(context) as (config, _):
        watches, found = chosen(config, watch), list[EntryId]()
    confirm(f"The present state of these will be sent to HelloWork once more: {', '.join(ids)}.", yes=yes)
    async with asking(config, "resend", watch) as asked:
        gone = await in_tables(config, asked.store, watches, partial(without_live_row, application_ids=ids))
        for name in watches:
            there = [id_ for id_ in await asked.store.capture.known(name, ids) if id_ not in gone[name]]
            found += await asked.ask_in_steps(partial(acts.Resend, name, by=asked.by), there)
    _say_done("to be sent", found)
    why = "no live row has its id, or it is unknown, held or a dead letter; `cdc-sync explain {}` shows which"
    complain(set(ids) - {id_ for _, id_ in found}, f"cannot be resent: {why}")

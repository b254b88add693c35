"""What an operator has the store do: `cdc-sync fuse`, `dead-letters`, `resend`, `pause`, `backup`, `forget` and so on.

A command reads, shows and asks first. Then it has the request executed: see `asking`.
"""

from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, get_args

import typer

from cdc_sync.admin.report import Json
from cdc_sync.ats.beginning import positions_elsewhere
from cdc_sync.ats.connection import connected
from cdc_sync.ats.facts import hosts_of, server_facts
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.config.models import accounts
from cdc_sync.core.batch import described
from cdc_sync.core.content import iso
from cdc_sync.core.failures import OperationError
from cdc_sync.core.outbox import Entry, EntryId, EntryState
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.watch_names import listed, matches
from cdc_sync.store import acts
from cdc_sync.store.acts import Chosen, Only
from cdc_sync.store.capture import FROM_DATABASE
from cdc_sync.store.opening import opened_alone, place_of
from cdc_sync.store.operation import HeldGroup
from cdc_sync.store.sqlite.schema import copy_store

from .asking import asking
from .console import print_table, print_text
from .context import (
    JsonOption,
    WatchOption,
    YesOption,
    acting,
    configured,
    confirm,
    discovered,
    matching,
    misused,
    opened,
    print_json,
    say,
    the_database,
    writing,
)

fuse = typer.Typer(no_args_is_help=True, help="Look at held mass changes, release or discard them.")
dead_letters = typer.Typer(
    no_args_is_help=True, help="List, retry or discard what was given up. Works with the daemon up or down."
)

EndpointArgument = Annotated[
    str | None, typer.Argument(metavar="[ENDPOINT]", help="As in `status --json`. [default: all]")
]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="APPLICATION_ID…")]

_MOST_ENTRIES = 1_000_000

# Decisions about entries.


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
"""By the command's name; about those of the entries that are still as they were read."""


@fuse.command()
async def show(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show what is held, grouped by what happens to the applications, and which limit was crossed."""
    async with opened(context, watch) as (_, store):
        fuses, groups = await store.operation.fuses(), await store.operation.held_groups(watch)
        entries = await store.report.entries("held", watch, _MOST_ENTRIES) if as_json else []
    blown = [
        {"watch": name, "blown_at": iso(store.driver.clock.for_people(fuse.blown_at)), "reason": fuse.reason}
        for name, fuse in fuses.items()
        if fuse.blown_at is not None and (watch is None or matches(watch, name))
    ]
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
    print_table(columns, map(_cells, groups))
    say("cdc-sync fuse release sends them; discard takes them as acknowledged. Both take ids and --transition.")


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
    if transition and "→" not in transition:
        transition = transition.replace("->", "→")  # typed; a copied one may have a label with "->"
    which = Chosen(tuple(ids) if ids else None, only, transition, account)
    async with opened(context, watch) as (config, store):
        # Before what is shown of them.
        entries = await store.operation.chosen("held", watch, which)
        groups = await store.operation.held_groups(watch, which)
    if transition and not entries:
        raise OperationError(f"nothing held is {transition!r}; `cdc-sync fuse show` names transitions")
    decision = _DECISIONS[str(context.info_name)]
    if entries:
        shown = listed([f"{group.number} × {group.transition}" for group in groups], "; ")
        confirm(f"{shown} will be {decision.follows}.", yes=yes)
    done = list[EntryId]()
    if entries or which == acts.EVERYTHING:  # a choice that meets nothing decides nothing
        async with asking(config, context, watch) as asked:
            done = await acts.in_steps(partial(asked.ask, decision.request, "held", watch), entries)
    say(f"{len(done)} {decision.done}")
    why = "is not held, or not as was asked for; `cdc-sync explain {}` shows what is known of it"
    _complain(ids, done, why)


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
    async with asking(config, context, watch) as asked:
        done = await acts.in_steps(partial(asked.ask, decision.request, "dead", watch), entries)
        left = await asked.store.operation.chosen("dead", watch)
    _say_done(decision.done, done)
    # Of all, what a newer state has replaced since is no failure.
    asked_for = ids or [id_ for _, id_, _ in set(entries).intersection(left)]
    _complain(asked_for, done, "has no dead letter that can be called; `cdc-sync explain {}` shows why")


def _complain(asked_for: Iterable[str] | None, done: Iterable[EntryId], why: str) -> None:
    """Say why nothing was done with some of the named applications, and end with 1, if there are any."""
    left = set(asked_for or ()) - {id_ for _, id_ in done}
    for application_id in sorted(left):
        say(f"{application_id} {why.format(application_id)}", err=True)
    if left:
        raise typer.Exit(1)


def _say_done(done: str, found: list[EntryId]) -> None:
    for name, application_id in found:
        say(f"{done}: {name} {application_id}")


def _facts(entry: Entry) -> Json:
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        **described(entry.content),
        "account": entry.content.account,
        "kinds": sorted(entry.kinds),
        "queued_at": iso(entry.queued_at),
        "reason": entry.reason,
    }


async def resend(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="APPLICATION_ID…")],
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Send these applications' present state to HelloWork once more. Works with the daemon up or down.

    It reads their rows first, and refuses an application without a live row, or whose row is no longer as acknowledged.
    """
    async with opened(context) as (config, _):
        watches, found = matching(watch, config.watches), list[EntryId]()
    confirm(f"The present state of these will be sent to HelloWork once more: {', '.join(ids)}.", yes=yes)
    async with asking(config, context, watch) as asked:
        tables = OtherWatches(config, asked.store)
        states_of = {name: await tables.present(name, ids) for name in watches}
        for name, states in states_of.items():
            found += await acts.in_steps(partial(asked.ask, acts.Resend, name), sorted(states.items()))
    _say_done("to be sent", found)
    why = "no live row in scope has its acknowledged state, or it is held or a dead letter"
    _complain(ids, found, f"cannot be resent: {why}; `cdc-sync explain {{}}` shows which")


# Pauses, and what else there is.


async def pause(context: typer.Context, endpoint: EndpointArgument = None) -> None:
    """Send nothing until `resume`, also after a restart. Nothing is lost. Works with the daemon up or down."""
    await _switch(context, endpoint, acts.Pause, "paused: calls under way end, the rest waits for `cdc-sync resume`")


async def resume(context: typer.Context, endpoint: EndpointArgument = None) -> None:
    """Send again after `pause`. Works with the daemon up or down."""
    if left := await _switch(context, endpoint, acts.Resume, "resumed"):
        paused = ", ".join(name or "all endpoints" for name in sorted(left))
        say(f"still paused: {paused}; `cdc-sync resume` ends every pause", err=True)


async def _switch(context: typer.Context, endpoint: str | None, kind: type[acts.Pause], done: str) -> list[str]:
    """Pause or resume; returns what is paused then."""
    async with asking(configured(context), context, endpoint) as asked:
        delivery = asked.store.delivery
        # An empty one may come from a script's variable.
        if endpoint is not None and not (endpoint and await delivery.has_endpoint(endpoint)):
            there = ", ".join(await delivery.endpoints()) or "(none yet)"
            raise misused(f"nothing is sent to {endpoint!r}: name one of {there}")
        left = await asked.ask(kind, endpoint or ALL_ENDPOINTS)
    say(f"sending {f'to {endpoint} ' if endpoint else ''}is {done}")
    return left


def backup(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist.")]
) -> None:
    """Copy the store into a new file, whole and consistent. Works with the daemon up or down; for a store of SQLite."""
    config = configured(context)
    if config.state.backend == "postgres":
        where = f"in PostgreSQL ({place_of(config)}), and in that server's backups"
        raise OperationError(f"The store is {where}. docs/operations.md has a pg_dump of it alone.")
    with writing(file):
        # O_EXCL: it may have been created meanwhile.
        file.touch(0o600, exist_ok=False)
    try:
        copy_store(config.state.path, file)
    except BaseException:
        file.unlink()  # half a store is none
        raise
    say(f"{file} has the store {config.state.path}")


async def forget(
    context: typer.Context,
    watch: Annotated[str | None, typer.Argument(metavar="[WATCH]", help="As `status` shows it.")] = None,
    *,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="An account instead of a watch.")] = None,
    application: Annotated[str | None, typer.Option(metavar="ID", help="A deleted application instead.")] = None,
    within: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Forget a watch that is no longer configured, or such an account; or an application whose row is gone.

    The history goes too. Works with the daemon up or down.
    """
    named = [each for each in (watch, account, application) if each is not None]
    if len(named) != 1:
        raise misused("name a watch, an account by --account, or an application by --application")
    if within is not None and application is None:
        raise misused("it is for --application", "--watch")
    if application is not None:
        found = await _forget_application(context, application, within, yes=yes)
    else:
        # Without the tenants that only the store knows.
        there = await discovered(configured(context))
        if account in accounts(there.config) or watch in {*there.config.watches, *there.refused}:
            after = "take it out first, and have the daemon reload (SIGHUP)"
            raise misused(f"{named[0]} is configured, or its tenant is there: {after}")
        forgetting = _forget_watch if account is None else _forget_account
        found = await forgetting(context, named[0], yes=yes)
    if not found:
        raise OperationError(f"the store has nothing of {named[0]}")
    say(f"{named[0]} is forgotten")


async def _forget_application(context: typer.Context, application: str, within: str | None, *, yes: bool) -> int:
    async with opened(context) as (config, store):
        records = await store.report.records(application, within)
    confirm(f"What the store has of the application {application} will be removed, with its history.", yes=yes)
    async with asking(config, context, within) as asked:
        tables = OtherWatches(config, asked.store)
        for name in [record.watch for record in records if record.watch in config.watches]:
            if await tables.with_row(name, [application]):
                raise OperationError(
                    f"a row of {name} has the id {application!r}, so it is not forgotten: the daemon would see a new "
                    "application. Delete the row in the ATS first; HelloWork then receives the deletion"
                )
        return await asked.ask(acts.ForgetApplication, application, within)


async def _forget_account(context: typer.Context, account: str, *, yes: bool) -> int:
    async with opened(context) as (config, store):
        which = Chosen(account=account)
        of = {state: len(await store.operation.chosen(state, None, which)) for state in get_args(EntryState)}
    confirm(
        f"What HelloWork acknowledged for the account {account} will be forgotten, and never sent: {of['pending']} "
        f"pending entries, {of['held']} held, {of['dead']} dead letters. Its applications become new to the account "
        "that their rows name by now, or to this one if it is configured again.",
        yes=yes,
    )
    async with asking(config, context, account) as asked:
        steps = range(0, await asked.store.capture.highest_number() + 1, acts.NUMBERS)
        return sum([await asked.ask(acts.ForgetAccount, account, after) for after in steps])


async def _forget_watch(context: typer.Context, watch: str, *, yes: bool) -> bool:
    async with opened(context) as (config, store):
        counts = await store.report.counts()
    if watch not in counts:
        raise misused(f"no watch is called {watch!r}; the store has {listed(counts) or 'none'}")
    of = counts[watch]
    confirm(
        f"{of.known} applications of {watch} will be forgotten, and never sent: {of.pending} pending entries, "
        f"{of.held} held, {of.dead} dead letters. If it is configured again, it begins with a baseline.",
        yes=yes,
    )
    async with asking(config, context, watch) as asked:
        while await asked.ask(acts.Forget, watch):
            pass
    return True


async def adopt_database(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which of `databases`, where there are several.")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Let the store belong to the database that is configured now, after a move or a restore. With the daemon down."""
    configuration = configured(context)
    name = the_database(configuration, name)
    async with opened_alone(configuration):
        pass  # names a daemon at work before the question, and brings an earlier version's store up to date
    async with opened(context) as (whole, store):
        config = whole.of_database(name)
        before = await store.databases.identity(name), await store.databases.hosts(name)
        counts = {watch: of for watch, of in (await store.report.counts()).items() if watch in config.watches}
    dsn = whole.dsn_of(name)
    async with connected(dsn) as connection:
        identity, hosts = (await server_facts(connection)).identity, hosts_of(dsn, connection)
    shown = {"dsn": f"{config.section_of(name)}.dsn", "shown": config.database.shown()}
    print_text("adopting", before=before, identity=identity, hosts=hosts, counts=counts, **shown)
    confirm("The store is to belong to this database.", yes=yes)
    async with opened_alone(whole) as store:
        stored = {watch: await store.capture.positions(watch) for watch in config.watches}
        positions = {watch: {**positions_elsewhere(of), FROM_DATABASE: name} for watch, of in stored.items() if of}
        by = acting(store, "adopt-database", name or None)
        await store.databases.rebind(identity, hosts, positions, by)
    say("done")

"""Operators' decisions: `cdc-sync fuse`, `dead-letters`, `resend`, `pause`, `backup`, `forget`, `adopt-database`."""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cdc_sync.admin.story import facts
from cdc_sync.ats.beginning import positions_elsewhere
from cdc_sync.ats.connection import POSITION, ReplicaGuard, connected
from cdc_sync.ats.database import Database
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import hosts_of, server_facts
from cdc_sync.ats.rows_elsewhere import with_row, without_live_row
from cdc_sync.ats.tenant_table import FORGOTTEN, is_replaced
from cdc_sync.ats.tenant_table import POSITION as TABLE
from cdc_sync.cli.asking import Asking
from cdc_sync.cli.console import print_table, print_text, text
from cdc_sync.cli.context import (
    JsonOption,
    WatchOption,
    YesOption,
    acting,
    by_requests,
    configured,
    decodable,
    in_store,
    is_there,
    misused,
    no_such_watch,
    print_json,
    say,
    the_database,
    with_known_tenants,
)
from cdc_sync.config import Config, Watch
from cdc_sync.config.models import accounts
from cdc_sync.core.content import iso
from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError
from cdc_sync.core.outbox import Entry, EntryId
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR, listed, matches
from cdc_sync.daemon.watching import make_database
from cdc_sync.store import Store
from cdc_sync.store.acts import (
    NUMBERS,
    Chosen,
    Discard,
    Forget,
    ForgetAccount,
    ForgetApplication,
    Pause,
    Resend,
    Resume,
    SeenEntry,
    Send,
    in_steps,
)
from cdc_sync.store.errors import elsewhere
from cdc_sync.store.opening import opened_alone, place_of
from cdc_sync.store.protocol import FROM_DATABASE, HeldGroup, Only
from cdc_sync.store.sqlite import copy_store

fuse = typer.Typer(no_args_is_help=True, help="Look at held mass changes, release or discard them.")
dead_letters = typer.Typer(
    no_args_is_help=True, help="List, retry or discard what was given up. Works with the daemon up or down."
)

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="APPLICATION_ID…", show_default=False, callback=decodable)
]
EndpointArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[ENDPOINT]", help="As `status` shows it. [default: all]", show_default=False, callback=decodable
    ),
]

_MOST_LETTERS, _MOST_HELD, _SHOWN = 100_000, 1_000_000, 50
_NAMED = 10
"""Most transitions or reasons in a question."""


@fuse.command()
def show(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show what is held, grouped by what happens to the applications, and which limit was crossed."""
    config = with_known_tenants(configured(context))
    blown, groups = in_store(config, watch, lambda store: _held(store, watch))
    if as_json:
        entries = in_store(config, watch, lambda store: store.report.entries("held", watch, _MOST_HELD))
        shown = [{**asdict(group), "since": iso(group.since)} for group in groups]
        print_json({"fuses": blown, "groups": shown, "entries": list(map(_entry, entries))})
        return
    print_text("held", blown=blown, groups=groups)
    if groups:
        columns = ("watch", "number", "transition", "since", "held for", "for example")
        print_table(columns, map(_cells, groups[:_SHOWN]))
        print_text("held_more", more=len(groups) - _SHOWN)


def _cells(group: HeldGroup) -> tuple[object, ...]:
    examples = ", ".join(group.examples) + ", …" * (group.number > len(group.examples))
    return group.watch, group.number, group.transition, iso(group.since), group.reason, examples


async def _held(store: Store, watch: str | None) -> tuple[list[dict[str, Any]], list[HeldGroup]]:
    blown = [
        {"watch": name, "blown_at": iso(store.driver.clock.for_people(fuse.blown_at)), "reason": fuse.reason}
        for name, fuse in (await store.operation.fuses()).items()
        if fuse.blown_at is not None and (watch is None or matches(watch, name))
    ]
    return blown, await store.operation.held_groups(watch)


@fuse.command("discard", help="Take held entries as acknowledged, without a call.")
@fuse.command("release", help="Let held entries be sent.")
def decide_held(
    context: typer.Context,
    ids: IdsArgument = None,
    *,
    watch: WatchOption = None,
    only: Annotated[Only | None, typer.Option(metavar="changes|deletions", help="Only entries of this sort.")] = None,
    transition: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only this one, as `fuse show` names it.", callback=decodable)
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only entries of this account.", callback=decodable)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")] = None,
    yes: YesOption = False,
) -> None:
    """Release or discard held entries, by the command's name."""
    config, action = with_known_tenants(configured(context)), str(context.info_name)
    chosen = Chosen(ids=tuple(ids) if ids else None, only=only, transition=transition, account=account, limit=limit)
    entries, groups = _held_entries(config, watch, chosen)
    if not entries and transition:
        chosen = replace(chosen, transition=transition.replace("->", "→"))  # it may have been typed
        entries, groups = _held_entries(config, watch, chosen)
        if not entries:
            raise OperationError(f"nothing held is {chosen.transition!r}; `cdc-sync fuse show` names transitions")
    if entries and not yes:
        _confirm(text("decide_held", groups=groups, most=_NAMED, action=action))

    async def act(asked: Asking) -> tuple[int, set[str]]:
        done = await _decided(asked, action, watch, entries)
        left = set(ids or ()) - {id_ for _, id_ in done}
        return len(done), left if limit is None else await _not_held(asked.store, watch, chosen, left)

    number, left = by_requests(config, act)
    say(f"{number} {'discarded' if action == 'discard' else 'released'}")
    _complain(left, "is not held, or not as was asked for; `cdc-sync explain {}` shows what is known of it")


async def _decided(asked: Asking, action: str, watch: str | None, entries: Sequence[SeenEntry]) -> list[EntryId]:
    """Decide about held entries; returns those that were still so."""
    by = acting(asked.store, action, watch)

    async def step(part: tuple[SeenEntry, ...]) -> list[EntryId]:
        return await asked.ask((Send if action == "release" else Discard)("held", watch, part, by))

    return await in_steps(step, entries)


async def _not_held(store: Store, watch: str | None, chosen: Chosen, ids: Collection[str]) -> set[str]:
    """Those of the applications that are not just beyond the limit."""
    beside = {id_: replace(chosen, ids=(id_,), limit=None) for id_ in ids}
    return {id_ for id_ in ids if not await store.operation.held_groups(watch, beside[id_])}


def _held_entries(config: Config, watch: str | None, chosen: Chosen) -> tuple[list[SeenEntry], list[HeldGroup]]:
    """The chosen held entries, and their groups, read after them: what is decided about is also shown."""

    async def read(store: Store) -> tuple[list[SeenEntry], list[HeldGroup]]:
        entries = await store.operation.chosen("held", watch, chosen)
        return entries, await store.operation.held_groups(watch, chosen)

    return in_store(config, watch, read)


def _confirm(what: str) -> None:
    """Show the operation, and ask; raises `Abort`, or `BadParameter` without a terminal."""
    if not sys.stdin.isatty():
        raise misused(f"{what} Nothing is done yet: there is no terminal to ask on, so say --yes")
    typer.confirm(visible(f"{what} Go on?"), abort=True, err=True)


@dead_letters.command("list")
def list_(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show the dead letters, with the reason of each."""
    config = with_known_tenants(configured(context))
    letters = in_store(config, watch, lambda store: store.report.entries("dead", watch, _MOST_LETTERS))
    if as_json:
        print_json([{**_entry(each), "attempts": each.attempts, "url": each.content.url} for each in letters])
        return
    if not letters:
        say("No dead letters.")
        return
    rows = ((x.watch, x.application_id, x.content.status, iso(x.queued_at), x.attempts, x.reason) for x in letters)
    print_table(("watch", "application", "status", "since", "attempts", "reason"), rows)


@dead_letters.command(
    "discard", help="Take dead letters as acknowledged, without a call: only the application's next change is sent."
)
@dead_letters.command("retry", help="Send dead letters again.")
def decide_dead(
    context: typer.Context,
    ids: IdsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Retry or discard dead letters, by the command's name."""
    if bool(ids) == every:
        raise misused("name applications, or say --all")
    config = with_known_tenants(configured(context))
    action = str(context.info_name)
    which = Chosen(ids=tuple(ids) if ids else None)
    # Before the question: what is given up meanwhile was not shown.
    wanted = in_store(config, watch, lambda store: store.operation.chosen("dead", watch, which))
    letters = in_store(config, watch, lambda store: store.report.entries("dead", watch, _MOST_LETTERS)) if every else []
    if letters and not yes:
        reasons = Counter(letter.reason or "" for letter in letters).most_common()
        examples = {letter.reason or "": letter.application_id for letter in reversed(letters)}
        _confirm(text("decide_dead", reasons=reasons, examples=examples, most=_NAMED, action=action))

    async def act(asked: Asking) -> list[EntryId]:
        by = acting(asked.store, action, watch)

        async def step(entries: tuple[SeenEntry, ...]) -> list[EntryId]:
            return await asked.ask((Discard if action == "discard" else Send)("dead", None, entries, by))

        return await in_steps(step, wanted)

    found = by_requests(config, act) if wanted else []
    if every and not found:
        say("No dead letters.")
    done = "discarded" if action == "discard" else "to be sent again"
    _report(done, found, ids or (), "has no dead letter; `cdc-sync explain {}` shows its history")


def resend(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="APPLICATION_ID…", show_default=False, callback=decodable)],
    watch: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Send these applications' present state to HelloWork once more. Works with the daemon up or down.

    It reads their rows first, and refuses an application that no live row carries.
    """
    config = with_known_tenants(configured(context))
    watches = [name for name in config.watches if watch is None or matches(watch, name)]

    async def check(_: Store) -> None:
        if not watches:
            raise misused(text("unconfigured", watch=watch, watches=listed(config.watches)))

    async def resent(asked: Asking) -> tuple[list[EntryId], dict[str, set[str]]]:
        gone = await _asked(config, asked.store, watches, partial(without_live_row, application_ids=ids), "resent")
        by, found = acting(asked.store, "resend", watch), list[EntryId]()
        for name in watches:
            there = [id_ for id_ in await asked.store.capture.known(name, ids) if id_ not in gone[name]]
            found += await in_steps(_resending(asked, name, by), there)
        return found, gone

    in_store(config, watch, check)
    if not yes:
        _confirm(text("resend", ids=ids))
    found, gone = by_requests(config, resent)
    _report_resent(ids, found, gone)


def _report_resent(ids: Sequence[str], found: Collection[EntryId], gone: Mapping[str, set[str]]) -> None:
    sent = {id_ for _, id_ in found}
    refused = {id_: name for name, of in gone.items() for id_ in of - sent}
    for id_, name in sorted(refused.items()):
        say(f"{id_} cannot be resent: no live row of {name} has its id; `cdc-sync explain {id_}` shows more", err=True)
    missing = "cannot be resent: it is unknown, held or a dead letter; `cdc-sync explain {}` shows which"
    _report("to be sent", found, [id_ for id_ in ids if id_ not in refused], missing)
    if refused:
        raise typer.Exit(1)


def _resending(asked: Asking, watch: str, by: PersonActed) -> Callable[[tuple[str, ...]], Awaitable[list[EntryId]]]:
    return lambda some: asked.ask(Resend(watch, some, by))


async def _asked(
    config: Config,
    store: Store,
    watches: Sequence[str],
    question: Callable[[Database, str, Watch], Awaitable[set[str]]],
    done: str,
) -> dict[str, set[str]]:
    """The answers of watches' tables, by watch.

    Raises:
        SourceError: a table cannot be read, so nothing is `done`.
    """
    databases = {name: make_database(config, name, store) for name in config.all_databases}
    answers: dict[str, set[str]] = {}
    for name in watches:
        database = databases[config.database_name(name)]
        try:
            answers[name] = await question(database, name, config.watches[name])
        except SourceError as error:
            raise error.followed_by(f"The rows of {name} cannot be read, so nothing is {done}.") from error
    return answers


def _report(done: str, found: Collection[tuple[str, str]], wanted: Collection[str], missing: str) -> None:
    for name, application_id in found:
        say(f"{done}: {name} {application_id}")
    _complain(set(wanted) - {application_id for _, application_id in found}, missing)


def _complain(left: Collection[str], why: str) -> None:
    for application_id in sorted(left):
        say(f"{application_id} {why.format(application_id)}", err=True)
    if left:
        raise typer.Exit(1)


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        **facts(entry.content),
        "account": entry.content.account,
        "kinds": sorted(entry.kinds),
        "queued_at": iso(entry.queued_at),
        "reason": entry.reason,
    }


def pause(context: typer.Context, endpoint: EndpointArgument = None) -> None:
    """Send nothing until `resume`, also after a restart. Nothing is lost. Works with the daemon up or down."""
    _switch(context, endpoint, "paused: calls under way end, the rest waits for `cdc-sync resume`")


def resume(context: typer.Context, endpoint: EndpointArgument = None) -> None:
    """Send again after `pause`. Works with the daemon up or down."""
    if left := _switch(context, endpoint, "resumed"):
        paused = ", ".join(name or "all endpoints" for name in sorted(left))
        say(f"still paused: {paused}; `cdc-sync resume` ends every pause", err=True)


def _switch(context: typer.Context, endpoint: str | None, done: str) -> list[str]:
    """Pause or resume, by the command's name; returns what is paused then."""
    config, action = configured(context), str(context.info_name)

    async def check(store: Store) -> None:
        if endpoint and not await store.delivery.has_endpoint(endpoint):
            there = ", ".join(await store.delivery.endpoints()) or "(none yet)"
            raise misused(f"nothing is sent to {endpoint}: name one of {there}")

    async def act(asked: Asking) -> list[str]:
        kind, by = (Pause if action == "pause" else Resume), acting(asked.store, action, endpoint)
        return await asked.ask(kind(endpoint or ALL_ENDPOINTS, by))

    in_store(config, None, check)
    left = by_requests(config, act)
    say(f"sending {f'to {endpoint} ' if endpoint else ''}is {done}")
    return left


def backup(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist.")]
) -> None:
    """Copy the store into a new file, whole and consistent. Works with the daemon up or down; for a store of SQLite."""
    config = configured(context)
    if config.state.backend == "postgres":
        raise OperationError(text("in_postgres", place=place_of(config)))
    try:
        # O_EXCL: it may have been created meanwhile.
        file.touch(0o600, exist_ok=False)
    except FileExistsError:
        raise OperationError(f"{file} exists, and is left as it is. Name another file.") from None
    except OSError as error:
        raise OperationError(f"{file} cannot be written: {error.strerror}. Name one in a folder that can be.") from None
    try:
        copy_store(config.state.path, file)
    except BaseException:
        file.unlink()  # half a store is none
        raise
    say(f"{file} has the store {config.state.path}")


def forget(
    context: typer.Context,
    watch: Annotated[
        str | None,
        typer.Argument(metavar="[WATCH]", help="As `status` shows it.", callback=decodable, show_default=False),
    ] = None,
    *,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="NAME", help="An account instead of a watch.", callback=decodable),
    ] = None,
    application: Annotated[
        str | None,
        typer.Option("--application", metavar="ID", help="A deleted application instead.", callback=decodable),
    ] = None,
    within: WatchOption = None,
    yes: YesOption = False,
) -> None:
    """Forget a watch that is no longer configured, or such an account; or an application whose row is gone.

    The history goes too. Works with the daemon up or down.
    """
    config = configured(context)
    if sum(each is not None for each in (watch, account, application)) != 1:
        raise misused("name a watch, an account by --account, or an application by --application")
    if within is not None and application is None:
        raise misused("it is for --application", "--watch")
    if account is not None:
        _forget_account(config, account, sure=yes)
    elif application is not None:
        _forget_application(with_known_tenants(config), application, within, sure=yes)
    elif watch is not None:
        _forget_watch(config, watch, sure=yes)


def _forget_application(config: Config, application: str, watch: str | None, *, sure: bool) -> None:
    records = in_store(config, watch, lambda store: store.report.records(application, watch))
    if not sure:
        _confirm(f"What the store has of the application {application} will be removed, with its history.")

    async def act(asked: Asking) -> int:
        known = [record.watch for record in records if record.watch in config.watches]
        question = partial(with_row, application_ids=[application])
        for name, found in (await _asked(config, asked.store, known, question, "forgotten")).items():
            if found:
                raise OperationError(
                    f"a row of {name} has the id {application}, so it is not forgotten: the daemon would see a new "
                    "application. Delete the row in the ATS first; HelloWork then receives the deletion"
                )
        return await asked.ask(ForgetApplication(application, watch, acting(asked.store, "forget", watch)))

    if not by_requests(config, act):
        say(f"the store has nothing of an application {application}", err=True)
        raise typer.Exit(1)
    say(f"{application} is forgotten")


def _forget_account(config: Config, account: str, *, sure: bool) -> None:
    if account in accounts(config):
        raise misused(f"the account {account} is configured: take it out first, and have the daemon reload (SIGHUP)")
    pending = in_store(config, None, lambda store: store.delivery.waiting()).get(account, 0)
    if not sure:
        _confirm(
            f"{pending} pending entries of the account {account} will be forgotten, and never sent, and what HelloWork "
            "acknowledged for it. If it is configured again, the applications of its rows are new."
        )

    async def act(asked: Asking) -> int:
        by, highest = acting(asked.store, "forget", account), await asked.store.capture.highest_number()
        return sum([await asked.ask(ForgetAccount(account, after, by)) for after in range(0, highest + 1, NUMBERS)])

    if not by_requests(config, act):
        say(f"the store has nothing of an account {account}", err=True)
        raise typer.Exit(1)
    say(f"{account} is forgotten")


def _forget_watch(config: Config, watch: str, *, sure: bool) -> None:
    # An existing tenant would begin again at once.
    if watch.partition(SEPARATOR)[0] in config.templates and is_there(config, watch):
        raise misused(f"the tenant of the watch {watch} is there: its schema has the table")
    if watch in config.watches:
        raise misused(f"the watch {watch} is configured: take it out first, and have the daemon reload (SIGHUP)")
    of = in_store(config, None, lambda store: store.report.counts()).get(watch)
    if of is not None and not sure:
        _confirm(
            f"{of.known} applications of {watch} will be forgotten, and never sent: {of.pending} pending entries, "
            f"{of.held} held, {of.dead} dead letters. If it is configured again, it begins with a baseline."
        )

    async def act(asked: Asking) -> bool:
        found, request = False, Forget(watch, acting(asked.store, "forget", watch))
        while await asked.ask(request):
            found = True
        return found

    if not by_requests(config, act):
        raise no_such_watch(with_known_tenants(config), watch)
    say(f"{watch} is forgotten")


def adopt_database(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Which of `databases`, where there are several.", show_default=False),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Let the store belong to the database that is configured now, after a move or a restore. With the daemon down."""
    config = with_known_tenants(configured(context))
    asyncio.run(_adopt(config, the_database(config, name), sure=yes))


@dataclass(frozen=True)
class _Binding:
    """What the store says of a database and its watches.

    Attributes:
        bound: the identity in the store.
        hosts: the database's last hosts.
        positions: the capture positions, by watch.
    """

    bound: str | None
    hosts: Sequence[str]
    positions: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _Found:
    """The database that is configured now, compared with a binding; the lists are watches.

    Attributes:
        identity: its own.
        here: where it is.
        fits: whether it is the store's.
        behind: its position is behind theirs.
        moved: they were captured from another database, or under another name.
        replaced: their table is another one.
    """

    identity: str
    here: Sequence[str]
    fits: bool
    behind: Sequence[str]
    moved: Sequence[str]
    replaced: Sequence[str]


async def _adopt(whole: Config, database: str, *, sure: bool) -> None:
    config = whole.of_database(database)
    async with opened_alone(whole) as store:
        binding, counts = await _binding(store, config, database), await store.report.counts()
    found = await _found(config, database, binding)
    if not (found.moved or found.replaced) and (binding.bound is None or found.fits):
        belongs = "belongs to it already" if binding.bound else "belongs to no database yet: it takes the first"
        say(f"Nothing to do: the store {belongs}. ({found.identity})")
        return
    if database:
        counts = {watch: counts[watch] for watch in binding.positions if watch in counts}
    about = {"dsn": f"{config.section_of(database)}.dsn", "shown": config.database.shown(), "counts": counts}
    print_text("adopting", **vars(found), **about, bound=binding.bound, hosts=binding.hosts)
    if not sure:
        _confirm("The store is to belong to this database.")
    async with opened_alone(whole) as store:
        if await _binding(store, config, database) != binding:
            raise OperationError("The store was changed meanwhile, so nothing is done. Run this again.")
        await store.databases.rebind(found.identity, found.here, _adopted(found, binding, database), database)
        await store.operation.record_action(acting(store, "adopt-database", database or None))
    say("done")


async def _binding(store: Store, config: Config, database: str) -> _Binding:
    positions = {watch: await store.capture.positions(watch) for watch in config.watches}
    return _Binding(await store.databases.identity(database), await store.databases.hosts(database), positions)


async def _found(config: Config, database: str, binding: _Binding) -> _Found:
    dsn, stored = config.database.dsn.get_secret_value(), binding.positions
    async with connected(dsn) as connection:
        server, here = await server_facts(connection), hosts_of(dsn, connection)
        tables = {watch: config.watches[watch].table for watch in stored}
        replaced = [watch for watch, of in stored.items() if await is_replaced(connection, tables[watch], of)]
    moved = [watch for watch, of in stored.items() if of and of.get(FROM_DATABASE, "") != database]
    behind = [watch for watch, of in stored.items() if watch not in moved and _is_behind(of, server.position)]
    fits = binding.bound == server.identity and not behind and elsewhere(server.identity, binding.hosts, here) is None
    return _Found(server.identity, here, fits, behind, moved, replaced)


def _adopted(found: _Found, binding: _Binding, database: str) -> dict[str, dict[str, str]]:
    """The capture positions in the adopted database."""
    watches = found.moved if found.fits else binding.positions
    positions = {watch: positions_elsewhere(binding.positions[watch]) for watch in watches}
    for watch in found.moved:
        positions[watch][FROM_DATABASE] = database
    for watch in found.replaced:
        positions.setdefault(watch, {})[TABLE] = FORGOTTEN
    return positions


def _is_behind(positions: Mapping[str, str], now: str) -> bool:
    """Whether a server is behind a watch's replica position."""
    guard = ReplicaGuard()
    guard.load(positions.get(POSITION))
    with suppress(SourceError):
        guard.check(now)
        return False
    return True

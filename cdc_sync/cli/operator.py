"""Operators' other commands: `cdc-sync pause`, `resume`, `backup`, `forget`, `adopt-database`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cdc_sync.ats.beginning import positions_elsewhere
from cdc_sync.ats.connection import connected
from cdc_sync.ats.facts import hosts_of, server_facts
from cdc_sync.ats.rows_elsewhere import with_row
from cdc_sync.cli.asking import asking
from cdc_sync.cli.console import print_text
from cdc_sync.cli.context import (
    WatchOption,
    YesOption,
    acting,
    configured,
    confirm,
    has_tenant,
    in_tables,
    misused,
    opened,
    say,
    the_database,
    writing,
)
from cdc_sync.config.models import accounts
from cdc_sync.core.failures import OperationError
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.core.watch_names import listed
from cdc_sync.store import acts
from cdc_sync.store.opening import opened_alone, place_of
from cdc_sync.store.protocol import FROM_DATABASE
from cdc_sync.store.sqlite import copy_store

EndpointArgument = Annotated[
    str | None, typer.Argument(metavar="[ENDPOINT]", help="As `status` shows it. [default: all]", show_default=False)
]

_TAKE_OUT = "take it out first, and have the daemon reload (SIGHUP)"


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
    async with asking(configured(context), str(context.info_name), endpoint) as asked:
        delivery = asked.store.delivery
        if endpoint and not await delivery.has_endpoint(endpoint):
            there = ", ".join(await delivery.endpoints()) or "(none yet)"
            raise misused(f"nothing is sent to {endpoint}: name one of {there}")
        left = await asked.ask(kind(endpoint or ALL_ENDPOINTS, asked.by))
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
    watch: Annotated[
        str | None, typer.Argument(metavar="[WATCH]", help="As `status` shows it.", show_default=False)
    ] = None,
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="An account instead of a watch.")
    ] = None,
    application: Annotated[
        str | None, typer.Option("--application", metavar="ID", help="A deleted application instead.")
    ] = None,
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
    elif account is not None:
        found = await _forget_account(context, account, yes=yes)
    else:
        found = await _forget_watch(context, named[0], yes=yes)
    if not found:
        raise OperationError(f"the store has nothing of {named[0]}")
    say(f"{named[0]} is forgotten")


async def _forget_application(context: typer.Context, application: str, watch: str | None, *, yes: bool) -> int:
    async with opened(context, watch) as (config, store):
        records = await store.report.records(application, watch)
    confirm(f"What the store has of the application {application} will be removed, with its history.", yes=yes)
    watches = [record.watch for record in records if record.watch in config.watches]
    async with asking(config, "forget", watch) as asked:
        rows = await in_tables(config, asked.store, watches, partial(with_row, application_ids=[application]))
        if there := [name for name, found in rows.items() if found]:
            raise OperationError(
                f"a row of {there[0]} has the id {application!r}, so it is not forgotten: the daemon would see a new "
                "application. Delete the row in the ATS first; HelloWork then receives the deletion"
            )
        return await asked.ask(acts.ForgetApplication(application, watch, asked.by))


async def _forget_account(context: typer.Context, account: str, *, yes: bool) -> int:
    config = configured(context)
    if account in accounts(config):
        raise misused(f"the account {account} is configured: {_TAKE_OUT}")
    async with opened(context) as (_, store):
        pending = (await store.delivery.waiting()).get(account, 0)
    confirm(
        f"{pending} pending entries of the account {account} will be forgotten, and never sent, and what HelloWork "
        "acknowledged for it. If it is configured again, the applications of its rows are new.",
        yes=yes,
    )
    async with asking(config, "forget", account) as asked:
        steps = range(0, await asked.store.capture.highest_number() + 1, acts.NUMBERS)
        return sum([await asked.ask(acts.ForgetAccount(account, after, asked.by)) for after in steps])


async def _forget_watch(context: typer.Context, watch: str, *, yes: bool) -> bool:
    config = configured(context)
    if watch in config.watches or await has_tenant(config, watch):
        raise misused(f"the watch {watch} is configured, or its tenant is there: {_TAKE_OUT}")
    async with opened(context) as (_, store):
        counts = await store.report.counts()
    if watch not in counts:
        raise misused(f"no watch is called {watch!r}; the store has {listed(counts) or 'none'}")
    of = counts[watch]
    confirm(
        f"{of.known} applications of {watch} will be forgotten, and never sent: {of.pending} pending entries, "
        f"{of.held} held, {of.dead} dead letters. If it is configured again, it begins with a baseline.",
        yes=yes,
    )
    async with asking(config, "forget", watch) as asked:
        while await asked.ask(acts.Forget(watch, asked.by)):
            pass
        return True


async def adopt_database(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Which of `databases`, where there are several.", show_default=False),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Let the store belong to the database that is configured now, after a move or a restore. With the daemon down."""
    name = the_database(configured(context), name)
    async with opened_alone(configured(context)):
        pass  # names a daemon at work before the question, and brings an earlier version's store up to date
    async with opened(context) as (whole, store):
        config = whole.of_database(name)
        before = await store.databases.identity(name), await store.databases.hosts(name)
        counts = {watch: of for watch, of in (await store.report.counts()).items() if watch in config.watches}
    dsn = config.database.dsn.get_secret_value()
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

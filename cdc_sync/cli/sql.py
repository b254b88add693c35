"""`cdc-sync sql`: the DBA's scripts, printed or run."""

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import psycopg
import typer
from pydantic import SecretStr

from cdc_sync import own_path
from cdc_sync.ats import scripts, triggers
from cdc_sync.ats.connection import connected, rows_of
from cdc_sync.ats.errors import translate, unwritable
from cdc_sync.ats.scripts import Part
from cdc_sync.ats.triggers import noticed
from cdc_sync.config import Config, Watch, load
from cdc_sync.config.dsn import user_of
from cdc_sync.config.tenants import expanded, tenants_named
from cdc_sync.config.values import UNRESOLVED
from cdc_sync.core.failures import OperationError
from cdc_sync.core.watch_names import MOST_LISTED, listed
from cdc_sync.store.opening import store_dsn, tables_beside
from cdc_sync.store.postgres import schema as store_scripts

from .console import print_text, text
from .context import (
    DatabaseOption,
    WatchOption,
    is_pattern,
    matching,
    misused,
    put_out,
    say,
    the_database,
    with_tenants,
)

sql = typer.Typer(no_args_is_help=True, help="Print the scripts for the DBA, or run them with --apply.")


ApplyOption = Annotated[bool, typer.Option("--apply", help="Run the script instead of printing it.")]
DsnOption = Annotated[
    str | None,
    typer.Option(metavar="DSN", help="The installer's connection, for --apply. Else database.dsn (state.dsn)."),
]
StoreOption = Annotated[
    bool, typer.Option("--store", help="The tables of state.backend postgres, in state.dsn, instead of the triggers.")
]
RoleOption = Annotated[str | None, typer.Option(help="The daemon's role. Else the DSN's user.")]
OwnerOption = Annotated[
    str | None,
    typer.Option(
        metavar="ROLE", help="The role that shall own schema, log and functions. Else the owner of the watched tables."
    ),
]


class Target:
    """What a script is for, and where it would run: the installer's connection, named (`dsn`) or configured.

    Attributes:
        config: of one database, unless for the store; secrets may be missing.
        section: of the configuration, with the daemon's `dsn`.
        user: the daemon's.
    """

    def __init__(
        self, context: typer.Context, dsn: str | None, *, store: bool = False, database: str | None = None
    ) -> None:
        config = load(context.obj, os.environ, needs_secrets=False)
        if store and config.state.dsn is not None:
            self.section, self.config, configured = "state", config, store_dsn(config)
        else:
            name = the_database(config, database)
            self.section, self.config = config.section_of(name), config.of_database(name)
            configured = config.dsn_of(name)
        self.user = user_of(configured)
        self._dsn = dsn or configured

    def role(self, named: str | None) -> str:
        """The daemon's role: the named one, else the user."""
        if found := named or self.user:
            return found
        raise misused(f"{self.section}.dsn names no user: say which role the daemon runs as", "--role")

    def connection(self) -> str:
        """The installer's connection; raises `OperationError` if a reference in it has no value."""
        if UNRESOLVED in self._dsn:
            raise OperationError(
                f"{self.section}.dsn has a reference that has no value here: `cdc-sync config validate` says why. Name "
                "the installer's connection with --dsn, or print the script without --apply; of a template, with "
                "--watch TEMPLATE@TENANT."
            )
        return self._dsn

    async def put_out(self, script: str | Iterable[Part], *, apply: bool) -> None:
        """Print a script, or run it; if it fails for a watch, the others are done."""
        parts = [Part(None, script)] if isinstance(script, str) else script
        if not apply:
            for text_of_part in scripts.for_psql(parts):
                put_out(text_of_part)
            return
        failed = list[str]()
        async with connected(self.connection()) as connection:
            await connection.execute("SET client_min_messages = warning")
            connection.add_notice_handler(lambda notice: say(f"{notice.severity}: {notice.message_primary}", err=True))
            for part in parts:
                try:
                    # In the connection's encoding: in another, a name's last byte might swallow its quote.
                    await connection.execute(part.script.encode(connection.info.encoding))
                except (UnicodeEncodeError, psycopg.Error) as error:
                    reason = unwritable(error) if isinstance(error, UnicodeEncodeError) else _refused(error)
                    if part.watch is None or connection.closed:
                        raise reason from error
                    say(f"{part.watch}: {reason}", err=True)
                    failed.append(part.watch)
                    await connection.rollback()
        if failed:
            raise OperationError(f"{len(failed)} watch(es) failed, the others are done: {listed(failed)}")
        say("done")

    async def selected(self, watch: str | None) -> Config:
        """The configuration with the watches of a name or a pattern (None: all).

        A fully named tenant need not exist yet; others are looked for, by the installer's connection.

        Raises:
            SourceError: tenants cannot be looked for.
            typer.BadParameter: there is no such watch.
        """
        config = self.config
        named = tenants_named(config, [] if watch is None or is_pattern(watch) else [watch])
        if any(named.values()):
            config = expanded(config, named, config.reveal)[0]
        elif config.templates and watch not in config.watches:
            section = config.database.model_copy(update={"dsn": SecretStr(self.connection())})
            databases = dict.fromkeys(config.databases, section)
            config = await with_tenants(config.model_copy(update={"database": section, "databases": databases}))
        return config.with_watches({name: config.watches[name] for name in matching(watch, config.watches)})


@sql.command()
async def install(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: WatchOption = None,
    function: Annotated[
        bool, typer.Option("--function", help="Functions instead, that install what a template's new tenant needs.")
    ] = False,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    database: DatabaseOption = None,
    owner: OwnerOption = None,
) -> None:
    """What capture.mode notify needs: a log of changed keys, and triggers."""
    if sum((watch is not None, function, store)) > 1:
        raise misused("only one of --watch, --function and --store")
    target = Target(context, dsn, store=store, database=database)
    script: str | Iterable[Part]
    if store:
        script = store_scripts.install(tables_beside(target.config))
    elif function:
        script = scripts.functions_for_tenants(target.config, owner, target.user)
        if not script:
            raise OperationError(
                "No template in capture.mode notify has a tenant for each schema and a name below 39 characters: "
                "`cdc-sync sql install --watch TEMPLATE@TENANT` prints a tenant's script."
            )
    else:
        config = await target.selected(watch)
        if not noticed(config.watches):
            say("-- Nothing to install: no watch is in capture.mode notify; poll needs no triggers.")
            return
        script = scripts.install(config, owner)
    await target.put_out(script, apply=apply)


@sql.command()
async def uninstall(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: WatchOption = None,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    database: DatabaseOption = None,
) -> None:
    """Remove everything that was ever installed, or what belongs to one watch; the store only with --store.

    What the daemon's role was granted stays.
    """
    if watch is not None and store:
        raise misused("only one of --watch and --store")
    script: str | Iterable[Part] = store_scripts.uninstall() if store else scripts.uninstall(watch)
    target = Target(context, dsn, store=store, database=database)
    if watch is not None and is_pattern(watch):
        script = [Part(name, scripts.uninstall(name)) for name in (await target.selected(watch)).watches]
    await target.put_out(script, apply=apply)


@sql.command()
async def verify(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    expect: Annotated[
        Literal["installed", "absent"],
        typer.Option(help="installed: as `install` does it. absent: nothing, of any watch."),
    ] = "installed",
    watch: WatchOption = None,
    database: DatabaseOption = None,
    owner: OwnerOption = None,
) -> None:
    """A query that compares what is installed with what `install` would install, or shows what is left of it.

    With --apply it fails unless everything is as expected.
    """
    target = Target(context, dsn, database=database)
    watches: Mapping[str, Watch] = {}
    if expect == "absent":
        if is_pattern(watch or ""):
            raise misused("--expect absent takes one watch, or all without --watch")
        query = triggers.absent(watch)
    else:
        config = await target.selected(watch)
        watches, templates = config.watches, config.templates if watch is None else {}
        scripts.refuse_undeclared({**templates, **watches})
        functions = scripts.tenant_functions(config, owner, target.user) if templates else {}
        bodies = {each.function: each.body for each in functions.values()}
        query = triggers.verify(watches, bodies, is_all=watch is None)
    if not apply:
        await target.put_out(own_path.in_transaction(query, triggers.tables_of_all(watches)), apply=False)
        return
    async with connected(target.connection()) as connection:
        seen = await triggers.verified(connection, query)
    wrong = [each for each in seen if each.state != "ok"]
    shown = wrong if len(watches) > MOST_LISTED else seen
    print_text("verified", seen=shown, expect=expect, watch=watch, others=len(seen) - len(shown))
    if wrong:
        raise typer.Exit(1)


@sql.command()
async def grants(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: WatchOption = None,
    role: RoleOption = None,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    database: DatabaseOption = None,
) -> None:
    """The least privileges of the role that the daemon runs as."""
    target = Target(context, dsn, store=store, database=database)
    user = target.role(role)
    if store:
        await target.put_out(store_scripts.grants(user), apply=apply)
        return
    config = await target.selected(watch)
    await target.put_out(scripts.grants(config, user), apply=apply)
    if apply:
        # PostgreSQL has only warned of these.
        async with connected(target.connection()) as connection:
            lacking = [
                line
                for name, watch in config.watches.items()
                for (line,) in await rows_of(connection, scripts.missing_grants(name, watch, user).encode())
            ]
        if lacking:
            raise OperationError(
                "This role may not grant everything, and the rest is done. As the owner of what is named, or as a "
                f"superuser: {' '.join(lacking)}"
            )


@sql.command("id-table")
async def id_table(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: WatchOption = None,
    role: RoleOption = None,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    database: DatabaseOption = None,
) -> None:
    """A side table for HelloWork's ids, for an ATS that has no place for them."""
    target = Target(context, dsn, database=database)
    names = matching(watch, target.config.watches)
    if len(names) != 1:
        raise misused(f"expected one watch; there is {listed(names) or 'none yet'}", "--watch")
    script = scripts.id_table(target.config.watches[names[0]], target.role(role))
    await target.put_out(script, apply=apply)


def _refused(error: psycopg.Error) -> OperationError:
    """The error of a script, with its remedy."""
    diag = error.diag
    texts = {"message": diag.message_primary or str(error), "detail": diag.message_detail, "hint": diag.message_hint}
    message = text("refused", kind=type(error).__name__, **texts)
    return OperationError(message) if message else translate(error, "running the script; nothing was changed")

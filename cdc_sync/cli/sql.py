"""`cdc-sync sql`: the DBA's scripts, printed or run."""

import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Annotated, Literal

import psycopg
import typer
from psycopg import errors
from pydantic import SecretStr

from cdc_sync.ats import granting, scripts, side_table, verifying
from cdc_sync.ats.connection import Connection, rows_of
from cdc_sync.ats.depends_on import refuse_undeclared
from cdc_sync.ats.errors import translate, unwritable
from cdc_sync.ats.recorders import noticed
from cdc_sync.ats.triggers import verified
from cdc_sync.cli.console import print_text, text
from cdc_sync.cli.context import (
    DatabaseOption,
    WatchOption,
    chosen,
    decodable,
    in_database,
    misused,
    put_out,
    say,
    the_database,
    with_tenants,
)
from cdc_sync.config import Config, Watch, load
from cdc_sync.config.dsn import user_of
from cdc_sync.config.tenants import expanded, tenants_named
from cdc_sync.core.failures import OperationError
from cdc_sync.core.watch_names import MOST_LISTED, SEPARATOR, listed
from cdc_sync.store.opening import store_dsn, tables_beside
from cdc_sync.store.postgres import scripts as store_scripts

sql = typer.Typer(no_args_is_help=True, help="Print the scripts for the DBA, or run them with --apply.")


def _watch(name: str | None) -> str | None:
    decodable(name)
    if name is not None and not re.sub("[%*]", "_", name.partition(SEPARATOR)[0]).isidentifier():
        raise misused(f"{name!r} cannot be a watch's name")
    return name


ApplyOption = Annotated[bool, typer.Option("--apply", help="Run the script instead of printing it.")]
DsnOption = Annotated[
    str | None,
    typer.Option(metavar="DSN", help="The installer's connection, for --apply. Else database.dsn (state.dsn)."),
]
VersionOption = Annotated[
    int | None, typer.Option(metavar="N", min=10, max=18, help="PostgreSQL's major version; nothing is connected.")
]
StoreOption = Annotated[
    bool, typer.Option("--store", help="The tables of state.backend postgres, in state.dsn, instead of the triggers.")
]
RoleOption = Annotated[str | None, typer.Option(help="The daemon's role. Else the DSN's user.", callback=decodable)]
AnyWatchOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        callback=_watch,
        help="Only what belongs to this watch, configured or not; % and * as elsewhere.",
    ),
]
OwnerOption = Annotated[
    str | None,
    typer.Option(
        metavar="ROLE",
        callback=decodable,
        help="The role that shall own schema, log and functions. Else the owner of the watched tables.",
    ),
]


_NOT_GRANTED = {"01006", "01007"}
"""SQLSTATEs of warnings: this role may not grant, or revoke, something, which the other one may have anyway."""


class Target:
    """The configuration (of one database, unless for the store) and a script's connection.

    Secrets may be missing. `user` is the daemon's.
    """

    def __init__(
        self,
        context: typer.Context,
        dsn: str | None,
        *,
        store: bool = False,
        database: str | None = None,
        watch: str | None = None,
    ) -> None:
        lacking: dict[tuple[str | int, ...], str] = {}
        self.config = load(context.obj, os.environ, lacking)
        if store and self.config.state.dsn is not None:
            self._section, named = "state", store_dsn(self.config)
        else:
            name = the_database(self.config, database, watch)
            self._section, self.config = self.config.section_of(name), self.config.of_database(name)
            named = self.config.database.dsn.get_secret_value()
        self.user = user_of(named)
        self._missing = None if dsn is not None else lacking.get((*self._section.split("."), "dsn"))
        self._connection = dsn or named

    def role(self, named: str | None) -> str:
        """The daemon's role: the named one, else the user."""
        if found := named or self.user:
            return found
        raise misused(f"{self._section}.dsn names no user: say which role the daemon runs as", "--role")

    def connection(self) -> str:
        """The installer's named or configured connection; raises `OperationError` if a reference in it has no value."""
        if self._missing is not None:
            raise OperationError(text("no_dsn", section=self._section, missing=self._missing))
        return self._connection

    def asked(self) -> Config:
        """The configuration, with the installer's connection for the daemon's."""
        section = self.config.database.model_copy(update={"dsn": SecretStr(self.connection())})
        databases = dict.fromkeys(self.config.databases, section)
        return self.config.model_copy(update={"database": section, "databases": databases})


def _selected(target: Target, watch: str | None) -> Config:
    """The configuration with the watches of a name or a pattern (None: all).

    A fully named tenant need not exist yet; others are looked for.

    Raises:
        SourceError: tenants cannot be looked for.
        typer.BadParameter: there is no such watch.
    """
    config = target.config
    named = {} if watch is None or set("%*") & set(watch) else tenants_named(config, [watch])
    template, _, tenant = (watch or "").partition(SEPARATOR)
    if named and tenant and template in config.templates and not any(named.values()):
        raise misused(f"no tenant of {_described(config, template)} is called {tenant!r}")
    if any(named.values()):
        config = expanded(config, named, config.reveal)[0]
    elif config.templates and watch not in config.watches:
        config = with_tenants(target.asked())
    watches = {name: config.watches[name] for name in chosen(config, watch)}
    return config.with_watches(watches)


def _described(config: Config, template: str) -> str:
    """A template with its rule."""
    for_each = config.templates[template].for_each
    names = [] if for_each is None else [" or ".join(for_each.databases), for_each.schemas or ""]
    return f"{template} (for_each: {'.'.join(filter(None, names))})"


@sql.command()
def install(  # noqa: PLR0917 - typer's options
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
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """What capture.mode notify needs: a log of changed keys, and triggers."""
    if sum((watch is not None, function, store)) > 1:
        raise misused("only one of --watch, --function and --store")
    target = Target(context, dsn, store=store, database=database, watch=watch)
    script: str | Iterable[scripts.Part]
    if store:
        script = store_scripts.install(tables_beside(target.config))
    elif function:
        script = scripts.functions_for_tenants(target.config, owner, target.user)
        if not script:
            raise OperationError(text("no_function"))
    elif noticed((config := _selected(target, watch)).watches):
        script = scripts.installation(config, owner)
    else:
        nothing = "Nothing to install: no watch is in capture.mode notify, and capture.mode poll needs no triggers."
        if config.templates and not config.watches:
            nothing = f"Nothing to install: no tenant was found of {listed(config.templates)}."
        say(nothing if apply else f"-- {nothing}")
        return
    _put_out(script, target.connection, apply=apply, store=store)


@sql.command()
def uninstall(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: AnyWatchOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Whatever was ever installed; no configuration is read, so name --dsn.")
    ] = False,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    database: DatabaseOption = None,
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """Remove everything that was ever installed, or what belongs to one watch; the store only with --store."""
    if watch is not None and (store or everything):
        whole = "the store is one for all watches" if store else "that is one watch, and --all is everything"
        raise misused(whole, "--watch")
    if everything and apply and dsn is None:
        raise misused("no configuration is read with --all: name the connection", "--dsn")
    target = None if everything else Target(context, dsn, store=store, database=database, watch=watch)
    script: str | Iterable[scripts.Part]
    if target is not None and watch is not None and set("%*") & set(watch):
        script = [scripts.Part(name, scripts.uninstall(name)) for name in _selected(target, watch).watches]
    else:
        script = store_scripts.uninstall() if store else scripts.uninstall(watch)
    where = (lambda: str(dsn)) if target is None else target.connection
    _put_out(script, where, apply=apply, store=store)
    if apply and watch is None:
        kept = f"cdc-sync sql grants{' --store' if store else ''} --revoke"
        say(f"What the daemon's role was granted is taken back by what `{kept}` prints.", err=True)


@sql.command()
def verify(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    apply: Annotated[
        bool, typer.Option("--apply", help="Run the query; fails unless everything is as it is expected.")
    ] = False,
    dsn: DsnOption = None,
    expect: Annotated[
        Literal["installed", "absent"],
        typer.Option(help="installed: as `install` does it. absent: nothing, of any watch."),
    ] = "installed",
    watch: AnyWatchOption = None,
    database: DatabaseOption = None,
    owner: OwnerOption = None,
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """A query that compares what is installed with what `install` would install, or shows what is left of it."""
    # Remains are found without a configuration.
    needs_none = expect == "absent" and (dsn is not None or not apply)
    target = None if needs_none else Target(context, dsn, database=database, watch=watch)
    config = None if target is None or expect == "absent" else _selected(target, watch)
    query = verifying.absent(watch)
    if target is not None and config is not None:
        query = _comparison(target, config, watch, owner)
    if not apply:
        script = verifying.as_script(query, {} if config is None else config.watches)
        _print([scripts.Part(None, script)])
        return
    seen = in_database(target.connection() if target else str(dsn), partial(verified, query=query))
    # Of many watches only problems.
    shown = [each for each in seen if each.state != "ok"] if config and len(config.watches) > MOST_LISTED else seen
    print_text("verified", seen=shown, expect=expect, watch=watch, others=len(seen) - len(shown))
    if any(each.state != "ok" for each in seen):
        raise typer.Exit(1)


def _comparison(target: Target, config: Config, watch: str | None, owner: str | None) -> str:
    """The query that compares what is installed with what `install` would install, of a watch or of all."""
    if watch is not None:
        refuse_undeclared(config.watches)
        return verifying.verify(config.watches, is_all=False)
    refuse_undeclared({**config.templates, **config.watches})
    return verifying.verify(config.watches, scripts.tenant_functions(config, owner, target.user))


@sql.command()
def grants(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: WatchOption = None,
    role: RoleOption = None,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take back what `grants` gives, so that the role can be dropped.")
    ] = False,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    database: DatabaseOption = None,
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """The least privileges of the role that the daemon runs as."""
    target = Target(context, dsn, store=store, database=database, watch=watch)
    user = target.role(role)
    if store:
        script = store_scripts.revokes(user) if revoke else store_scripts.grants(user)
        _put_out(script, target.connection, apply=apply, store=store)
        return
    config = _selected(target, watch)
    if revoke:
        _put_out(granting.revokes(config, user), target.connection, apply=apply)
        return
    script = granting.grants(config, user)
    if not apply:
        _print([scripts.Part(None, script)])
        return
    _run([scripts.Part(None, script)], target.connection())
    # PostgreSQL has only warned of these.
    if lacking := in_database(target.connection(), partial(_lacking, config=config, role=user)):
        raise OperationError(text("not_granted", lacking=lacking))
    say("done")


async def _lacking(connection: Connection, config: Config, role: str) -> list[str]:
    """The GRANTs that a role lacks."""
    queries = (granting.missing_grants(name, watch, role) for name, watch in config.watches.items())
    return [line for query in queries for (line,) in await rows_of(connection, query.encode())]


@sql.command("id-table")
def id_table(
    context: typer.Context,
    watch: WatchOption = None,
    role: RoleOption = None,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
) -> None:
    """A side table for HelloWork's ids, for an ATS that has no place for them."""
    target = Target(context, dsn, watch=watch)
    script = side_table.script(_the_one(target.config, watch), target.role(role))
    _put_out(script, target.connection, apply=apply)


def _the_one(config: Config, watch: str | None) -> Watch:
    """The named watch, or the only one."""
    if watch is None and len(config.watches) > 1:
        raise misused(f"there are several: {', '.join(config.watches)}", "--watch")
    return config.watches[chosen(config, watch)[0]]


def _put_out(
    script: str | Iterable[scripts.Part], where: Callable[[], str], *, apply: bool, store: bool = False
) -> None:
    parts = [scripts.Part(None, script)] if isinstance(script, str) else script
    if apply:
        _run(parts, where(), store=store)
        say("done")
    else:
        _print(parts)


def _print(parts: Iterable[scripts.Part]) -> None:
    for text_of_part in scripts.for_psql(parts):
        put_out(text_of_part)


def _run(parts: Iterable[scripts.Part], dsn: str, *, store: bool = False) -> None:
    """Run a script, and say of which watches it failed; the others are done."""
    failed = in_database(dsn, partial(_apply_all, parts=parts, store=store))
    for watch, reason in islice(failed.items(), MOST_LISTED):
        say(f"{watch}: {reason}", err=True)
    if failed:
        raise OperationError(f"{len(failed)} watch(es) failed, the others are done: {listed(failed)}")


async def _apply_all(connection: Connection, parts: Iterable[scripts.Part], *, store: bool) -> dict[str, str]:
    """Run a script; returns the errors of watches."""
    failed: dict[str, str] = {}
    connection.add_notice_handler(_note)
    for part in parts:
        try:
            # In the connection's encoding: in another, a name's last byte might swallow its quote.
            await connection.execute(part.script.encode(connection.info.encoding))
        except (UnicodeEncodeError, psycopg.Error) as error:
            reason = unwritable(error) if isinstance(error, UnicodeEncodeError) else _refused(error, store=store)
            if part.watch is None or connection.closed:
                raise reason from error
            failed[part.watch] = str(reason)
            await connection.rollback()
    return failed


def _note(diagnostic: errors.Diagnostic) -> None:
    notice = f"{diagnostic.severity}: {diagnostic.message_primary}"
    of_course = "does not exist, skipping" in notice or "already exists" in notice
    if diagnostic.sqlstate not in _NOT_GRANTED and not of_course:
        say(notice, err=True)


def _refused(error: psycopg.Error, *, store: bool) -> OperationError:
    """The error of a script, with its remedy."""
    diag = error.diag
    texts = {"message": diag.message_primary or str(error), "detail": diag.message_detail, "hint": diag.message_hint}
    message = text("refused", kind=type(error).__name__, store=store, **texts)
    return OperationError(message) if message else translate(error, "running the script; nothing was changed")

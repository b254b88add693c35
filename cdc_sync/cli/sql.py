"""`cdc-sync sql`: the DBA's scripts, printed; or run with `--apply`."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Literal

import psycopg
import typer

from cdc_sync.cli.context import invocation, no_such_watch, put_out, say
from cdc_sync.config import Config, Watch, load, parse_duration
from cdc_sync.config.dsn import user_of
from cdc_sync.config.problems import Mistake
from cdc_sync.core.failures import OperationError
from cdc_sync.core.visible import visible
from cdc_sync.source import scripts, side_table
from cdc_sync.source.connection import connected
from cdc_sync.source.errors import translate, unwritable
from cdc_sync.source.grants import grants as grants_script
from cdc_sync.source.grants import revokes
from cdc_sync.source.triggers import Verified, verified
from cdc_sync.store.opening import store_dsn, tables_beside
from cdc_sync.store.postgres import scripts as store_scripts

sql = typer.Typer(no_args_is_help=True, help="Print the scripts for the DBA, or run them with --apply.")

ApplyOption = Annotated[bool, typer.Option("--apply", help="Run the script instead of printing it.")]
DsnOption = Annotated[
    str | None,
    typer.Option(
        "--dsn", help="The installer's connection, for --apply. Else database.dsn (state.dsn).", metavar="DSN"
    ),
]
VersionOption = Annotated[
    int | None,
    typer.Option(
        "--server-version",
        metavar="N",
        min=10,
        max=18,
        help="PostgreSQL's major version; nothing is connected.",
    ),
]
StoreOption = Annotated[
    bool, typer.Option("--store", help="The tables of state.backend postgres, in state.dsn, instead of the triggers.")
]


def _watch(name: str | None) -> str | None:
    if name is not None and not name.isidentifier():
        raise typer.BadParameter(f"{name!r} cannot be a watch's name")
    return name


WatchOption = Annotated[
    str | None,
    typer.Option(
        "--watch", metavar="NAME", callback=_watch, help="Only what belongs to this watch, configured or not."
    ),
]


def _patience(text: str) -> timedelta:
    try:
        patience = parse_duration(text)
    except Mistake as mistake:
        raise typer.BadParameter(mistake.message) from None
    if not timedelta(milliseconds=1) <= patience <= scripts.LONGEST_PATIENCE:
        raise typer.BadParameter("expected 1ms to 1m: whoever wants the table meanwhile waits behind us")
    return patience


LockTimeoutOption = Annotated[
    timedelta | None,
    typer.Option(
        "--lock-timeout",
        metavar="DURATION",
        parser=_patience,
        help="How long the first table's lock is waited for, such as 500ms. Else 3s.",
    ),
]

_ON_AN_OBJECT = {"not ours", "exposed", "unreadable"}

_NOT_GRANTED = {"01007", "01006"}
"""SQLSTATEs of the warnings with which GRANT and REVOKE leave out what the role may not give or take."""

_OWNERS_LOGIN = (
    "Name the login of the tables' owner with --dsn, if it may create in this database too; or a superuser's."
)


class Target:
    """The configuration, of which the secrets may be missing, and where a script is run.

    Attributes:
        config: the configuration.
        user: the daemon's role, if its connection string names it.
    """

    def __init__(self, context: typer.Context, dsn: str | None, *, store: bool = False) -> None:
        called = invocation(context)
        lacking: dict[tuple[str | int, ...], str] = {}
        self.config = load(called.config_path, called.environ, lacking)
        named = store_dsn(self.config) if store else self.config.database.dsn.get_secret_value()
        section = "state" if store and self.config.state.dsn is not None else "database"
        self.user = user_of(named)
        self._missing = None if dsn is not None else lacking.get((section, "dsn"))
        self._section = section
        self._connection = dsn or named

    def role(self, named: str | None, *, store: bool = False) -> str:
        """The daemon's role, by its name or by its connection string."""
        if found := named or self.user:
            return found
        raise typer.BadParameter(
            f"{'state.dsn' if store else 'database.dsn'} names no user: say which role the daemon runs as",
            param_hint="--role",
        )

    def connection(self) -> str:
        """The installer's connection, if one was named; else the configured one.

        Raises:
            OperationError: the configuration has it by a reference that has no value here.
        """
        if self._missing is not None:
            raise OperationError(
                f"{self._section}.dsn is not known: {self._missing}. Name the installer's connection with --dsn, or "
                f"print the script without --apply."
            )
        return self._connection


@sql.command()
def install(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    lock_timeout: LockTimeoutOption = None,
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """What capture.mode notify needs: a log of changed keys, and triggers."""
    if store and lock_timeout is not None:
        raise typer.BadParameter("the store's tables are nobody else's to lock", param_hint="--lock-timeout")
    found = Target(context, dsn, store=store)
    config = found.config
    if not store and not scripts.noticed(config):
        nothing = "Nothing to install: no watch is in capture.mode notify, and capture.mode poll needs no triggers."
        say(nothing if apply else f"-- {nothing}")
        return
    if store:
        script = store_scripts.install(found.user, store_scripts.owners(tables_beside(config)))
    else:
        script = scripts.install(config, lock_timeout or scripts.PATIENCE)
    _put_out(script, found.connection, apply=apply, store=store)


@sql.command()
def uninstall(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: WatchOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Whatever was ever installed; no configuration is read, so name --dsn.")
    ] = False,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    lock_timeout: LockTimeoutOption = None,
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """Remove everything that was ever installed, or what belongs to one watch; the store only with --store."""
    if store and lock_timeout is not None:
        raise typer.BadParameter("the store's tables are nobody else's to lock", param_hint="--lock-timeout")
    if store and watch is not None:
        raise typer.BadParameter("the store is one for all watches", param_hint="--watch")
    if everything and watch is not None:
        raise typer.BadParameter("that is one watch, and --all is everything", param_hint="--watch")
    if everything and apply and dsn is None:
        raise typer.BadParameter("no configuration is read with --all: name the connection", param_hint="--dsn")
    found = None if everything else Target(context, dsn, store=store)
    script = store_scripts.uninstall() if store else scripts.uninstall(watch, lock_timeout or scripts.PATIENCE)
    _put_out(script, found.connection if found else lambda: str(dsn), apply=apply, store=store)
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
        typer.Option("--expect", help="installed: as `install` does it. absent: nothing, of any watch."),
    ] = "installed",
    watch: WatchOption = None,
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """A query that compares what is installed with what `install` would install, or shows what is left of it."""
    if expect == "installed" and watch is not None:
        raise typer.BadParameter("goes with --expect absent alone", param_hint="--watch")
    # What is left of cdc-sync is found without a configuration.
    needs_none = expect == "absent" and (dsn is not None or not apply)
    found = None if needs_none else Target(context, dsn)
    query = scripts.absent(watch) if found is None or expect == "absent" else scripts.verify(found.config)
    if not apply:
        put_out(scripts.for_psql(query))
        return
    seen = asyncio.run(_verify(found.connection() if found else str(dsn), query))
    for each in seen:
        where = f" on {each.table}" if each.kind == "trigger" or each.state in _ON_AN_OBJECT else ""
        say(f"{each.state:10}  {each.kind:9}  {each.name}{where}")
    if expect == "absent" and not seen:
        say(f"absent      nothing of {'cdc-sync' if watch is None else f'the watch {watch}'} is in this database")
    if any(each.state != "ok" for each in seen):
        raise typer.Exit(1)


@sql.command()
def grants(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    role: Annotated[str | None, typer.Option("--role", help="The daemon's role. Else the DSN's user.")] = None,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take back what `grants` gives, so that the role can be dropped.")
    ] = False,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    server_version: VersionOption = None,  # noqa: ARG001 - the scripts are the same for all
) -> None:
    """The least privileges of the role that the daemon runs as."""
    found = Target(context, dsn, store=store)
    user = found.role(role, store=store)
    if store:
        script = store_scripts.revokes(user) if revoke else store_scripts.grants(user)
    else:
        script = revokes(found.config, user) if revoke else grants_script(found.config, user)
    _put_out(script, found.connection, apply=apply, store=store)


@sql.command("id-table")
def id_table(
    context: typer.Context,
    watch: WatchOption = None,
    role: Annotated[str | None, typer.Option("--role", help="The daemon's role. Else the DSN's user.")] = None,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
) -> None:
    """A side table for HelloWork's ids, for an ATS that has no place for them; `cdc-sync link` fills it."""
    found = Target(context, dsn)
    _put_out(side_table.script(chosen(found.config, watch), found.role(role)), found.connection, apply=apply)


def chosen(config: Config, watch: str | None) -> Watch:
    """The watch of this name, or the only one."""
    if watch is None and len(config.watches) > 1:
        raise typer.BadParameter(f"there are several: {', '.join(config.watches)}", param_hint="--watch")
    name = watch or next(iter(config.watches))
    if name not in config.watches:
        raise no_such_watch(config, name)
    return config.watches[name]


def _put_out(script: str, where: Callable[[], str], *, apply: bool, store: bool = False) -> None:
    if not apply:
        put_out(scripts.for_psql(script))
        return
    for notice in asyncio.run(_apply(where(), script, store=store)):
        say(notice, err=True)
    say("done")


async def _verify(dsn: str, query: str) -> list[Verified]:
    async with connected(dsn) as connection:
        return await verified(connection, query)


async def _apply(dsn: str, script: str, *, store: bool) -> list[str]:
    notices: list[str] = []

    def hear(said: psycopg.errors.Diagnostic) -> None:
        # What may not be granted or revoked is reported by the script's last step, if it is missing then.
        text = f"{said.severity}: {said.message_primary}"
        of_course = "does not exist, skipping" in text or "already exists" in text
        if said.sqlstate not in _NOT_GRANTED and not of_course:
            notices.append(text)

    async with connected(dsn) as connection:
        connection.add_notice_handler(hear)
        try:
            # In the encoding that the server reads it in: in another, a name's last byte might swallow its quote.
            await connection.execute(script.encode(connection.info.encoding))
        except psycopg.Error as error:
            raise _refused(error, store=store) from error
        except UnicodeEncodeError as error:
            raise unwritable(error) from error
    return notices


def _refused(error: psycopg.Error, *, store: bool) -> OperationError:
    """What a script met with, and what its runner can do; all of it is rolled back then."""
    said = visible(error.diag.message_primary or str(error)).rstrip(".")
    detail, hint = (
        f"{each.rstrip('.')}. " if each else "" for each in (error.diag.message_detail, error.diag.message_hint)
    )
    match error:
        case psycopg.errors.LockNotAvailable():
            return OperationError(
                "A table's lock was not to be had in time, so nothing was changed. Something holds it: a long "
                "transaction, a backup, a migration. Run the command again in a quieter moment.",
            )
        case (
            psycopg.errors.WrongObjectType()
            | psycopg.errors.FeatureNotSupported()
            | psycopg.errors.ObjectNotInPrerequisiteState()
        ):
            # What the script itself refuses, and PostgreSQL's like: the remedy is in the hint.
            remedy = visible(detail + hint)
        case psycopg.errors.InsufficientPrivilege():
            remedy = visible(hint) + _OWNERS_LOGIN
        case psycopg.errors.UndefinedObject():
            # The scripts name nothing else of this kind that may be missing.
            remedy = "Create the role first (CREATE ROLE … LOGIN), or name the daemon's with --role."
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName():
            remedy = "Correct the watch's table, or let the connection lead to the database that has it."
            if "cdc_sync" in said:
                remedy = f"Run `cdc-sync sql install{' --store' if store else ''}` first."
        case _:
            return translate(error, "running the script; nothing was changed")
    return OperationError(f"Nothing was changed: {said}. {remedy}".rstrip())

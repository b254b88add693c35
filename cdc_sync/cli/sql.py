"""`cdc-sync sql`: the DBA's scripts, printed; or run with `--apply`."""

import asyncio
from typing import Annotated

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict

from cdc_sync.cli.context import invocation
from cdc_sync.cli.saying import put_out, say
from cdc_sync.config import Config
from cdc_sync.core.visible import visible
from cdc_sync.source import scripts
from cdc_sync.source.connection import connected, conninfo
from cdc_sync.source.errors import SourceError, translate, unwritable
from cdc_sync.source.grants import grants as grants_script
from cdc_sync.source.triggers import Verified, verified
from cdc_sync.store.opening import store_dsn, tables_beside
from cdc_sync.store.postgres import scripts as store_scripts

app = typer.Typer(no_args_is_help=True, help="Print the scripts for the DBA, or run them with --apply.")

ApplyOption = Annotated[bool, typer.Option("--apply", help="Run the script instead of printing it.")]
DsnOption = Annotated[
    str | None,
    typer.Option(
        "--dsn", help="The installer's connection, for --apply. Else database.dsn (state.dsn).", metavar="DSN"
    ),
]
VersionOption = Annotated[
    int | None,
    typer.Option("--server-version", metavar="N", help="PostgreSQL's major version, 10 to 18; nothing is connected."),
]

StoreOption = Annotated[
    bool, typer.Option("--store", help="The tables of state.backend postgres, in state.dsn, instead of the triggers.")
]

_ON_AN_OBJECT = {"not ours", "exposed", "unreadable"}

_OLDEST, _NEWEST = 10, 18

_NOT_GRANTED = "01007"
"""SQLSTATE of the warning with which GRANT leaves out what the role may not grant."""

_OWNERS_LOGIN = (
    "Name the login of the tables' owner with --dsn, if it may create in this database too; or a superuser's."
)


@app.command()
def install(
    context: typer.Context,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    server_version: VersionOption = None,
) -> None:
    """What capture.mode notify needs: a log of changed keys, and triggers."""
    _check_version(server_version)
    config = invocation(context).config()
    if not store and not scripts.noticed(config):
        nothing = "Nothing to install: no watch is in capture.mode notify, and capture.mode poll needs no triggers."
        say(nothing if apply else f"-- {nothing}")
        return
    script = _store_script(config) if store else scripts.install(config)
    _put_out(script, dsn or _dsn_of(config, store=store), apply=apply, store=store)


@app.command()
def uninstall(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    watch: Annotated[
        str | None,
        typer.Option("--watch", metavar="NAME", help="Only what belongs to this watch, configured or not."),
    ] = None,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    server_version: VersionOption = None,
) -> None:
    """Remove everything that was ever installed, or what belongs to one watch; the store only with --store."""
    _check_version(server_version)
    config = invocation(context).config()
    if store:
        if watch is not None:
            raise typer.BadParameter("the store is one for all watches", param_hint="--watch")
        _put_out(store_scripts.uninstall(), dsn or _dsn_of(config, store=True), apply=apply, store=True)
        return
    if watch is not None and not watch.isidentifier():
        raise typer.BadParameter(f"{watch!r} cannot be a watch's name", param_hint="--watch")
    _put_out(scripts.uninstall(watch), dsn or _dsn_of(config), apply=apply)


@app.command()
def verify(
    context: typer.Context,
    apply: Annotated[bool, typer.Option("--apply", help="Run the query; fails unless everything is ok.")] = False,
    dsn: DsnOption = None,
    server_version: VersionOption = None,
) -> None:
    """A query that compares what is installed with what `install` would install."""
    _check_version(server_version)
    config = invocation(context).config()
    query = scripts.verify(config)
    if not apply:
        put_out(scripts.for_psql(query))
        return
    found = asyncio.run(_verify(dsn or config.database.dsn.get_secret_value(), query))
    for each in found:
        where = f" on {each.table}" if each.kind == "trigger" or each.state in _ON_AN_OBJECT else ""
        say(f"{each.state:10}  {each.kind:9}  {each.name}{where}")
    if any(each.state != "ok" for each in found):
        raise typer.Exit(1)


@app.command()
def grants(  # noqa: PLR0917 - typer's options
    context: typer.Context,
    role: Annotated[str | None, typer.Option("--role", help="The daemon's role. Else the DSN's user.")] = None,
    store: StoreOption = False,
    apply: ApplyOption = False,
    dsn: DsnOption = None,
    server_version: VersionOption = None,
) -> None:
    """The least privileges of the role that the daemon runs as."""
    _check_version(server_version)
    config = invocation(context).config()
    user = role or _user_of(_dsn_of(config, store=store))
    if user is None:
        raise typer.BadParameter(
            f"{'state.dsn' if store else 'database.dsn'} names no user: say which role the daemon runs as",
            param_hint="--role",
        )
    script = store_scripts.grants(user) if store else grants_script(config, user)
    _put_out(script, dsn or _dsn_of(config, store=store), apply=apply, store=store)


def _store_script(config: Config) -> str:
    owners = store_scripts.owners(tables_beside(config))
    return store_scripts.install(_user_of(_dsn_of(config, store=True)), owners)


def _check_version(version: int | None) -> None:
    if version is not None and not _OLDEST <= version <= _NEWEST:
        raise typer.BadParameter(
            f"the scripts are for PostgreSQL {_OLDEST} to {_NEWEST}", param_hint="--server-version"
        )


def _dsn_of(config: Config, *, store: bool = False) -> str:
    return store_dsn(config) if store else config.database.dsn.get_secret_value()


def _user_of(dsn: str) -> str | None:
    user = conninfo_to_dict(conninfo(dsn)).get("user")
    return None if user is None else str(user)


def _put_out(script: str, dsn: str, *, apply: bool, store: bool = False) -> None:
    if not apply:
        put_out(scripts.for_psql(script))
        return
    for notice in asyncio.run(_apply(dsn, script, store=store)):
        say(notice, err=True)
    say("done")


async def _verify(dsn: str, query: str) -> list[Verified]:
    async with connected(dsn) as connection:
        return await verified(connection, query)


async def _apply(dsn: str, script: str, *, store: bool) -> list[str]:
    notices: list[str] = []
    not_granted: list[str] = []

    def hear(said: psycopg.errors.Diagnostic) -> None:
        # CONNECT on the database everybody has, unless somebody took it away; it is granted in a block of its own.
        if said.sqlstate == _NOT_GRANTED and said.context is None:
            not_granted.append(visible(str(said.message_primary)))
        else:
            notices.append(f"{said.severity}: {said.message_primary}")

    async with connected(dsn) as connection:
        connection.add_notice_handler(hear)
        try:
            # In the encoding that the server reads it in: in another, a name's last byte might swallow its quote.
            await connection.execute(script.encode(connection.info.encoding))
        except psycopg.Error as error:
            raise _refused(error, store=store) from error
        except UnicodeEncodeError as error:
            raise unwritable(error) from error
    if not_granted:
        raise SourceError(
            "misconfigured",
            f"Not everything was granted: {'; '.join(dict.fromkeys(not_granted))}. {_OWNERS_LOGIN}",
        )
    return [notice for notice in notices if "does not exist, skipping" not in notice and "already exists" not in notice]


def _refused(error: psycopg.Error, *, store: bool) -> SourceError:
    """What a script met with, and what its runner can do; all of it is taken back then."""
    said = visible(error.diag.message_primary or str(error))
    match error:
        case psycopg.errors.LockNotAvailable():
            return SourceError(
                "unreachable",
                "A table's lock was not to be had in time, so nothing was changed. Something holds it: a long "
                "transaction, a backup, a migration. Run the command again in a quieter moment.",
            )
        case (
            psycopg.errors.WrongObjectType()
            | psycopg.errors.FeatureNotSupported()
            | psycopg.errors.ObjectNotInPrerequisiteState()
        ):
            # What the script itself refuses, and PostgreSQL's like: the remedy is in the hint.
            more = (error.diag.message_detail, error.diag.message_hint)
            remedy = visible(" ".join(f"{sentence.rstrip('.')}." for sentence in more if sentence))
        case psycopg.errors.InsufficientPrivilege():
            remedy = _OWNERS_LOGIN
        case psycopg.errors.UndefinedObject():
            # The scripts name nothing else of this kind that may be missing.
            remedy = "Create the role first (CREATE ROLE … LOGIN), or name the daemon's with --role."
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName() if "cdc_sync" in said:
            remedy = f"Run `cdc-sync sql install{' --store' if store else ''}` first."
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName():
            remedy = "Correct the watch's table, or let the connection lead to the database that has it."
        case _:
            return translate(error, "running the script; nothing was changed")
    return SourceError("misconfigured", f"Nothing was changed: {said.rstrip('.')}. {remedy}".rstrip())

"""`cdc-sync backup`: a consistent copy of the store; and `adopt-database`, to which database it belongs."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cdc_sync.cli.context import YesOption, acting, configured, say
from cdc_sync.config import Config
from cdc_sync.core.failures import OperationError
from cdc_sync.core.findings import Whereabouts
from cdc_sync.pipeline.database import found_elsewhere
from cdc_sync.pipeline.watch import positions_elsewhere
from cdc_sync.source.connection import connected
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import server_facts, whereabouts
from cdc_sync.source.replica_guard import POSITION, ReplicaGuard
from cdc_sync.store.opening import opened_alone, place_of
from cdc_sync.store.sqlite import copy_store

_IN_POSTGRES = (
    "pg_dump --data-only --table='cdc_sync.*' --exclude-table='cdc_sync.changes*' --exclude-table='cdc_sync.bell_*' "
    "--exclude-table='cdc_sync.missed_*' --file=FILE DATABASE"
)


def backup(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist.")]
) -> None:
    """Copy the store into a new file, whole and consistent. Works with the daemon up or down; for a store of SQLite."""
    config = configured(context)
    if config.state.backend == "postgres":
        raise OperationError(
            f"The store is in PostgreSQL ({place_of(config)}), and in that server's backups. By itself: {_IN_POSTGRES}"
        )
    try:
        # O_EXCL: a file that came into being meanwhile is not overwritten either.
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
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


def adopt_database(context: typer.Context, yes: YesOption = False) -> None:
    """Let the store belong to the database that is configured now, after a move or a restore. With the daemon down."""
    asyncio.run(_adopt(configured(context), sure=yes))


async def _adopt(config: Config, *, sure: bool) -> None:
    dsn = config.database.dsn.get_secret_value()
    async with opened_alone(config) as store:
        bound, hosts = await store.identity(), await store.hosts()
        async with connected(dsn) as connection:
            server = await server_facts(connection)
            identity, position = server.identity, server.position
            here = await whereabouts(dsn, connection)
            why_not = await found_elsewhere(hosts, identity, dsn, here, connection)
        stored = {watch: await store.positions(watch) for watch in config.watches}
        behind = [watch for watch, positions in stored.items() if _is_behind(positions, position)]
        if bound is None or (bound == identity and not behind and why_not is None):
            belongs = "belongs to no database yet: it takes the first" if bound is None else "belongs to it already"
            say(f"Nothing to do: the store {belongs}. ({identity})")
            return
        say(f"the store belongs to   {bound}{f' on {Whereabouts.from_text(hosts)}' if hosts else ''}")
        say(f"database.dsn leads to  {identity} on {here}  ({config.database.shown()})")
        for watch, counts in (await store.counts()).items():
            sent = f"{counts.pending} pending, which would be sent"
            say(f"{watch}: {counts.known} applications known; {sent}; {counts.held} held, {counts.dead} dead letters")
        for watch in behind:
            say(
                f"{watch}: this server is behind what was read before; that is forgotten, and what the server shows "
                "now is taken as the present state"
            )
        say("The next start compares every row with what HelloWork acknowledged: see `cdc-sync plan` right after this.")
        say("A copy for tests must not take over the real store: give it a store of its own.")
        if not sure:
            typer.confirm("Let the store belong to this database?", abort=True)
        positions = {watch: positions_elsewhere(of) for watch, of in stored.items()}
        await store.rebind(identity, here.to_text(), positions)
        await store.record_action(acting(store, "adopt-database"))
    say("done")


def _is_behind(positions: Mapping[str, str], now: str) -> bool:
    """Whether a server is behind what the store has read of a watch."""
    guard = ReplicaGuard()
    guard.load(positions.get(POSITION))
    with suppress(SourceError):
        guard.check(now)
        return False
    return True

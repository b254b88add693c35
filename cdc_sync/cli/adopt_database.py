"""`cdc-sync adopt-database`: let the store belong to another database, on purpose."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

import typer

from cdc_sync.cli.context import invocation
from cdc_sync.cli.saying import say
from cdc_sync.config import Config
from cdc_sync.core.database_identity import Whereabouts
from cdc_sync.pipeline.recognition import found_elsewhere, positions_elsewhere
from cdc_sync.source.connection import asking, connected
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import server_facts, whereabouts
from cdc_sync.source.replica_guard import POSITION, ReplicaGuard, ask
from cdc_sync.store.opening import opened_alone


def adopt_database(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let the store belong to the database that is configured now, after a move or a restore. With the daemon down."""
    asyncio.run(_adopt(invocation(context).config(), sure=yes))


async def _adopt(config: Config, *, sure: bool) -> None:
    dsn = config.database.dsn.get_secret_value()
    async with connected(dsn) as connection, asking("reading the server's identity"):
        identity = (await server_facts(connection)).identity
        position, here = await ask(connection), await whereabouts(dsn, connection)
    async with opened_alone(config) as store:
        bound = await store.identity()
        stored = {watch: await store.positions(watch) for watch in config.watches}
        behind = [watch for watch, positions in stored.items() if _is_behind(positions, position)]
        hosts = await store.hosts()
        async with connected(dsn) as connection:
            why_not = await found_elsewhere(hosts, identity, dsn, here, connection)
        if bound is None or (bound == identity and not behind and why_not is None):
            belongs = "belongs to no database yet: it takes the first" if bound is None else "belongs to it already"
            say(f"Nothing to do: the store {belongs}. ({identity})")
            return
        remembered = f" on {Whereabouts.from_text(hosts)}" if hosts else ""
        say(f"the store belongs to   {bound}{remembered}")
        say(f"database.dsn leads to  {identity} on {here}  ({config.database.shown()})")
        for watch, counts in (await store.counts()).items():
            say(
                f"{watch}: {counts.known} applications known; {counts.pending} pending calls would be sent from now "
                f"on, {counts.held} held, {counts.dead} dead letters",
            )
        for watch in behind:
            say(
                f"{watch}: this server is behind what was read before; that is forgotten, and what it shows is read as "
                f"the present state",
            )
        say(
            "At its next start the daemon compares every row of this database with what HelloWork was told; `cdc-sync "
            "plan`, right after this, shows what it would send. A copy for tests must not take the real store over: "
            "give it a store of its own.",
        )
        if not sure:
            typer.confirm("Let the store belong to this database?", abort=True)
        positions = {watch: positions_elsewhere(of) for watch, of in stored.items()}
        await store.rebind(identity, here.to_text(), positions)
    say("done")


def _is_behind(positions: Mapping[str, str], now: str) -> bool:
    """Whether a server is behind what the store has read of a watch."""
    guard = ReplicaGuard()
    guard.load(positions.get(POSITION))
    try:
        guard.check(now)
    except SourceError:
        return True
    return False

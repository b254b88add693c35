"""The order of the questions."""

from collections.abc import Callable, Mapping

from cdc_sync.config import Config
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.source.check.connections import check_connections
from cdc_sync.source.check.notify import check_notify
from cdc_sync.source.check.server import (
    check_clock,
    check_lock,
    check_prepared_transactions,
    check_recovery,
    check_replica_positions,
    check_role,
    check_session,
    check_synchronous_standbys,
    psql,
)
from cdc_sync.source.check.shortly import asking_shortly
from cdc_sync.source.check.watch import check_left_over, check_watch
from cdc_sync.source.connection import connected
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import server_facts


async def check_database(
    config: Config, clock: Callable[[], int], tell: Tell, read: Mapping[str, str] | None = None
) -> str | None:
    """Tell of everything about the ATS's database.

    Args:
        config: the configuration.
        clock: this machine's, in milliseconds since the epoch.
        tell: takes each finding.
        read: the replica position that the store has, by watch.

    Returns the database's identity; None if it cannot be reached.
    """
    dsn = config.database.dsn.get_secret_value()
    try:
        async with connected(dsn) as connection, connected(dsn) as other:
            await check_role(connection, config, tell)
            async with asking_shortly(connection, "asking the server for its version and identity"):
                server = await server_facts(connection)
            await check_session(connection, other, tell)
            await check_connections(connection, config, tell)
            await check_clock(connection, clock, tell)
            check_recovery(server, config.watches, tell)
            await check_replica_positions(connection, read or {}, tell)
            await check_lock(server, config, tell)
            check_prepared_transactions(server, config.watches, tell)
            check_synchronous_standbys(server, config.watches, tell)
            await check_notify(connection, other, server, config.watches, tell)
            for name, watch in config.watches.items():
                await check_watch(connection, name, watch, tell)
            await check_left_over(connection, config, tell)
            return server.identity
    except SourceError as error:
        tell(Finding("connection", "failed", error.message, _remedy(error.message, config)))
        return None


def _remedy(said: str, config: Config) -> str:
    # libpq gives text only when connecting fails.
    if "permission denied for database" in said:
        return "GRANT CONNECT ON DATABASE … TO …;   -- cdc-sync sql grants prints it"
    return f"{psql(config)} -c 'SELECT 1'   # must work as the daemon's user; then so does this"

"""The questions of `cdc-sync check` to the ATS's database, beside a running daemon; `findings.yaml` has the texts.

Each is a short transaction, whose settings end with it: a pooler may hand the session on. The catalog, the planner and
LIMIT 0 are enough. All are read-only but those of `depends_on`, which are rolled back.
"""

from collections.abc import Collection, Mapping

from cdc_sync import own_path
from cdc_sync.config import Config
from cdc_sync.config.models import Sessions, sessions_at_server
from cdc_sync.core.findings import Finding, Tell, check_clock, clock_skew
from cdc_sync.core.identifiers import written
from cdc_sync.core.visible import HIDDEN
from cdc_sync.wall_clock import wall_clock

from .check_watch import check_watch, found
from .connection import Connection, ReplicaGuard, connected, look_at_own_schemas, rows_of
from .errors import SourceError
from .expressions import catalog
from .facts import ServerFacts, asking_shortly, server_facts
from .session import own_session, primary_session
from .triggers import left_over, noticed

_OLDEST, _NEWEST = 10, 18

_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


async def check_database(
    whole: Config,
    name: str,
    report: Tell,
    *,
    read: Mapping[str, str],
    only: Collection[str],
) -> bool:
    """Report on a database of the ATS; returns whether it can be reached.

    Args:
        whole: the configuration of all databases.
        name: the database's.
        report: takes each finding.
        read: the store's replica positions, by watch.
        only: the watches to check.
    """
    config = whole.of_database(name)
    dsn = config.dsn_of(name)
    # The reader replaces what may not be shown.
    shown = config.database.shown()
    psql = f"psql '{'…' if shown == HIDDEN else shown}'" if dsn.strip() else "psql"
    try:
        async with connected(dsn) as connection:
            version = connection.info.server_version // 10_000
            what = "old" if version < _OLDEST else "new" if version > _NEWEST else "known"
            report(found(f"server/{what}", version=version, oldest=_OLDEST))
            facts = await _server(connection, shown, psql, report)
            await _search_path(connection, facts.user, report)
            report(await _session(dsn))
            report(await _connections(connection, sessions_at_server(whole, name), facts.user))
            report(await _clock(connection))
            await _standby(config, dsn, facts, report)
            for watch_name in config.watches:
                if watch_name in read:
                    report(_replica_position(facts, watch_name, read[watch_name]))
            _wakeups(config, facts, report)
            for watch_name, watch in config.watches.items():
                if watch_name in only:
                    await check_watch(connection, watch_name, watch, report)
            await _left_over(connection, config, report)
            return True
    except SourceError as error:
        report(found("connection/failed", reason=error.message, psql=psql))
        return False


async def _server(connection: Connection, shown: str, psql: str, report: Tell) -> ServerFacts:
    """Report where the connection leads, and for whom."""
    async with asking_shortly(connection, "asking the server for its version and identity"):
        facts = await server_facts(connection)
    report(found("connection/made", database=facts.database, user=facts.user, shown=shown))
    report(found(f"role/{'superuser' if facts.is_superuser else 'ordinary'}", user=facts.user, psql=psql))
    return facts


async def _standby(config: Config, dsn: str, facts: ServerFacts, report: Tell) -> None:
    """Report what a standby cannot do; a primary can do everything."""
    stuck = noticed(config.watches) if facts.in_recovery else {}
    for name in stuck:
        report(found("standby/notified", watch=name))
    if not stuck:
        report(found("standby/polled" if facts.in_recovery else "standby/primary"))
    # A standby's own locks are unknown elsewhere. A shared store decides itself.
    if facts.in_recovery and config.state.backend != "postgres":
        async with primary_session(dsn) as primary:
            report(found("standby/locked-here" if primary is None else "standby/locked-on-the-primary"))


async def _search_path(connection: Connection, user: str, report: Tell) -> None:
    """Report each schema of the search_path in which others may make what an unqualified name could mean."""
    async with asking_shortly(connection, "asking who may create in the schemas of the search_path"):
        # Behind a pooler the session may be another one by now.
        await connection.execute(own_path.session_start().encode())
        await look_at_own_schemas(connection)
        creators: dict[str, list[str] | None] = dict(await rows_of(connection, catalog("creators")))
    if not any(creators.values()):
        report(found("search-path/owners", schemas=", ".join(creators) or "none"))
    for schema, roles in creators.items():
        if not roles:
            continue
        remedy = "\n".join(f"REVOKE CREATE ON SCHEMA {schema} FROM {role};" for role in roles)
        report(found("search-path/open", remedy, roles=", ".join(roles), schema=schema, user=user))


async def _session(dsn: str) -> Finding:
    """Whether the daemon's lasting session would be its own."""
    try:
        async with own_session(dsn) as session:
            return found(f"session/{'pooled' if session.is_pooled else 'direct'}")
    except SourceError as error:
        if error.code != "pooled":
            raise
        return found("session/shared")


async def _connections(connection: Connection, needed: Sessions, user: str) -> Finding:
    async with asking_shortly(connection, "asking how many connections there are"):
        ((limit, has),) = await rows_of(connection, catalog("limits"))
    taken = (
        f"the daemon takes {needed}; max_connections without the reserved ones is {limit}, of which others have {has}"
    )
    left = limit - has
    what = "few" if left < needed.least else "last" if left < needed.most else "enough"
    return found(f"connections/{what}", taken=taken, role=written(user), least=needed.least)


async def _clock(connection: Connection) -> Finding:
    async with asking_shortly(connection, "asking for the time"):
        before = wall_clock()
        ((theirs,),) = await rows_of(connection, _CLOCK)
        return check_clock("clock", "the database's clock", clock_skew(theirs, before, wall_clock()))


def _replica_position(facts: ServerFacts, watch: str, read: str) -> Finding:
    guard = ReplicaGuard()
    guard.load(read)
    try:
        guard.check(facts.position)
    except SourceError as error:
        return found("replica-position/behind", watch=watch, reason=error.message)
    return found("replica-position/reached", watch=watch)


def _wakeups(config: Config, facts: ServerFacts, report: Tell) -> None:
    """Report whether a NOTIFY could harm a PREPARE or COMMIT of the ATS."""
    rings = any(watch.capture.wakeup == "notify" for watch in noticed(config.watches).values())
    harmed = {"prepared-transactions": facts.prepares_transactions, "synchronous-standbys": facts.waits_for_standbys}
    for check, harms in harmed.items():
        report(found(f"{check}/{'harmed' if harms and rings else 'harmless'}"))


async def _left_over(connection: Connection, config: Config, report: Tell) -> None:
    """Report triggers of watches that are not configured in notify mode."""
    try:
        names = await left_over(connection, config.watches)
    except SourceError as error:
        report(Finding("left-over", "failed", error.message, "cdc-sync sql verify --apply"))
        return
    if not names:
        report(found("left-over/none"))
    for name in names:
        report(found("left-over/triggers", of=name))

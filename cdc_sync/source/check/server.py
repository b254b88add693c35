"""Who answers: version, role, clock, and whether the session is ours alone."""

from collections.abc import Callable, Mapping

from cdc_sync.config import Config, Watch
from cdc_sync.config.dsn import HIDDEN
from cdc_sync.core import clock_skew
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.source.check.shortly import asking_shortly
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import ServerFacts
from cdc_sync.source.replica_guard import ReplicaGuard, ask
from cdc_sync.source.session import primary_session

_OLDEST, _NEWEST = 10, 18
_ROUNDS = 5

_CONNECTED = """
SELECT current_user::text, current_database()::text,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""
_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_PROCESS = "SELECT pg_backend_pid()"


async def check_role(connection: Connection, config: Config, tell: Tell) -> None:
    """Tell who we are, and whether that is more than is needed."""
    async with asking_shortly(connection, "asking who we are"):
        row = await (await connection.execute(_CONNECTED)).fetchone()
    user, database, is_superuser = row or ("", "", False)
    info = connection.info
    tell(Finding("connection", "ok", f"connected to the database {database} as {user} ({config.database.shown()})"))
    if is_superuser:
        tell(
            Finding(
                "role",
                "warning",
                f"{user} is a superuser: the daemon needs to read a few columns, and should be able to do nothing more",
                f"{psql(config)} -c 'CREATE ROLE cdc_sync LOGIN'\n"
                f"cdc-sync sql grants --role cdc_sync > grants.sql   # read it, then run it as the tables' owner",
            )
        )
    else:
        tell(Finding("role", "ok", f"{user} is an ordinary role"))
    version = info.server_version // 10_000
    if version < _OLDEST:
        remedy = f"Upgrade the server to PostgreSQL {_OLDEST} or newer."
        tell(Finding("server", "failed", f"PostgreSQL {version} is older than {_OLDEST}", remedy))
    elif version > _NEWEST:
        remedy = "Look for a newer cdc-sync, or try this one against a copy first."
        tell(Finding("server", "warning", f"PostgreSQL {version} is newer than what this version knows", remedy))
    else:
        tell(Finding("server", "ok", f"PostgreSQL {version}"))


async def check_session(connection: Connection, other: Connection, tell: Tell) -> None:
    """Tell whether each connection has a session of its own: a lock, and LISTEN, belong to a session.

    A pooler in transaction mode gives any free one to each statement. With little other traffic two connections then
    share one; with much, one connection meets several.
    """
    ours: set[int] = set()
    theirs: set[int] = set()
    for _ in range(_ROUNDS):
        for seen, asked in ((ours, connection), (theirs, other)):
            async with asking_shortly(asked, "asking for the session's process"):
                ((process,),) = await (await asked.execute(_PROCESS)).fetchall()
            seen.add(process)
    if len(ours) > 1 or len(theirs) > 1 or ours & theirs:
        tell(
            Finding(
                "session",
                "failed",
                "a transaction pooler stands in between (pgbouncer with pool_mode = transaction?): statements of one "
                "connection run in sessions that others use too. So LISTEN hears nothing, and the lock that keeps a "
                "second daemon away holds nothing.",
                "Let database.dsn lead past the pooler, directly to PostgreSQL; or give the daemon's user a pool in "
                "session mode (pgbouncer.ini):\n[users]\ncdc_sync = pool_mode=session",
            )
        )
    elif connection.info.backend_pid not in ours:
        tell(Finding("session", "ok", "a pooler stands in between, and gives each connection a session of its own"))
    else:
        tell(Finding("session", "ok", "each connection has a session of its own"))


async def check_clock(connection: Connection, clock: Callable[[], int], tell: Tell) -> None:
    """Compare the database's clock with ours."""
    async with asking_shortly(connection, "asking for the time"):
        before = clock()
        ((theirs,),) = await (await connection.execute(_CLOCK)).fetchall()
        after = clock()
    tell(clock_skew.judged("clock", "the database's clock", clock_skew.skew(theirs, before, after)))


def check_recovery(server: ServerFacts, watches: Mapping[str, Watch], tell: Tell) -> None:
    """Tell whether the server is a standby, and which watches cannot work there."""
    if not server.in_recovery:
        tell(Finding("standby", "ok", "the server is no standby"))
        return
    notified = _notified(watches)
    for name in notified:
        tell(
            Finding(
                "standby",
                "failed",
                "the server is a standby: nothing can be consumed from the change log there, and LISTEN and NOTIFY do "
                "not exist",
                "Add target_session_attrs=read-write to database.dsn, with the primary among its hosts; or use "
                "capture.mode poll, which works on a standby.",
                name,
            )
        )
    if not notified:
        tell(Finding("standby", "ok", "the server is a standby, which is enough for capture.mode poll"))


async def check_replica_positions(connection: Connection, read: Mapping[str, str], tell: Tell) -> None:
    """Tell whether the server shows all that was read of each watch; `read` is what the store has of them."""
    async with asking_shortly(connection, "asking how far the server is"):
        now = await ask(connection)
    for watch, text in read.items():
        guard = ReplicaGuard()
        guard.load(text)
        try:
            guard.check(now)
        except SourceError as error:
            remedy = "Let it catch up; or, if it was put back on purpose, with the daemon down: cdc-sync adopt-database"
            tell(Finding("replica-position", "warning", error.message, remedy, watch))
        else:
            tell(Finding("replica-position", "ok", "the server shows all that was read before", watch=watch))


async def check_lock(server: ServerFacts, config: Config, tell: Tell) -> None:
    """Tell on a standby which daemons the watches' locks keep away: a standby's own are known to nobody else."""
    if not server.in_recovery or config.state.backend == "postgres":
        return  # a shared store decides who captures, wherever its daemons read
    async with primary_session(config.database.dsn.get_secret_value()) as primary:
        if primary is not None:
            tell(Finding("standby", "ok", "database.dsn leads to the primary too: the watches' locks are taken there"))
            return
    tell(
        Finding(
            "standby",
            "warning",
            "the watches' locks are taken on this standby, since database.dsn leads to no primary: a second daemon "
            "with a store of its own that reads another server would work the same watches, and each change would be "
            "sent twice",
            "Run one daemon. Or add the primary to the hosts of database.dsn (only the lock is taken there); or let "
            "all daemons share a store: state.backend: postgres.",
        )
    )


def check_prepared_transactions(server: ServerFacts, watches: Mapping[str, Watch], tell: Tell) -> None:
    """Tell whether the server may prepare transactions, which PostgreSQL does not do with one that has notified."""
    _tell_of_bells(
        "prepared-transactions",
        watches if server.prepares_transactions else {},
        tell,
        well="no transaction that is prepared can be kept from it by a NOTIFY",
        why="max_prepared_transactions is above 0, and PostgreSQL prepares no transaction that has notified",
        remedy="If nothing here uses two-phase commit: ALTER SYSTEM SET max_prepared_transactions = 0; then restart "
        "the server.",
    )


def check_synchronous_standbys(server: ServerFacts, watches: Mapping[str, Watch], tell: Tell) -> None:
    """Tell whether commits may wait for a standby, with NOTIFY's lock in their hands if they have notified."""
    _tell_of_bells(
        "synchronous-standbys",
        watches if server.waits_for_standbys else {},
        tell,
        well="no commit can wait for a standby with the lock of NOTIFY",
        why="synchronous_standby_names is set, and a commit that notifies keeps the server's one lock of NOTIFY while "
        "it waits for the standby",
        remedy="If no commit has to wait for a standby: ALTER SYSTEM SET synchronous_standby_names = ''; then SELECT "
        "pg_reload_conf();",
    )


def _tell_of_bells(check: str, watches: Mapping[str, Watch], tell: Tell, *, well: str, why: str, remedy: str) -> None:
    """Warn of each of these watches that would be rung for, and is not; or tell that all is `well`."""
    rung = [name for name in _notified(watches) if watches[name].capture.wakeup == "notify"]
    for name in rung:
        pause = watches[name].capture.poll_interval.total_seconds()
        tell(
            Finding(
                check,
                "warning",
                f"{why}: the daemon asks for no NOTIFY, and looks every {pause:g} s instead",
                f"If that is well: watches.{name}.capture.wakeup: none says the same. {remedy}",
                name,
            )
        )
    if not rung:
        tell(Finding(check, "ok", well))


def _notified(watches: Mapping[str, Watch]) -> list[str]:
    return [name for name, watch in watches.items() if watch.capture.mode == "notify"]


def psql(config: Config) -> str:
    """How to connect by hand as the daemon does; what may not be shown is for the reader to put in."""
    if not config.database.dsn.get_secret_value().strip():
        return "psql"
    shown = config.database.shown()
    return "psql '…'" if shown == HIDDEN else f"psql '{shown}'"

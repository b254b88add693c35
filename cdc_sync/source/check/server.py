"""Who answers: version, role, clock, connections, and whether each session is ours alone; then watch by watch."""

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing

import psycopg

from cdc_sync.config import Config
from cdc_sync.config.sessions import sessions_needed
from cdc_sync.core import clock_skew
from cdc_sync.core.findings import Finding, State, Tell
from cdc_sync.core.visible import HIDDEN
from cdc_sync.source.check.shortly import asking_shortly
from cdc_sync.source.check.watch import check_left_over, check_watch
from cdc_sync.source.connection import Connection, connected
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.facts import ServerFacts, server_facts
from cdc_sync.source.replica_guard import ReplicaGuard, ask
from cdc_sync.source.session import primary_session

_OLDEST, _NEWEST = 10, 18
_ROUNDS = 5

_WITHIN = 5.0
"""Seconds within which a notification must have come; it takes a millisecond."""

_CONNECTED = """
SELECT current_user::text, current_database()::text,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""
_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_PROCESS = "SELECT pg_backend_pid()"

# Every role sees of all sessions which role and database they belong to, and their application_name. Our own are not
# counted: the daemon may be running. -1 is no limit; a superuser has none of his own, and may take the reserved ones.
_LIMITS = """
SELECT quote_ident(r.rolname),
       CASE WHEN r.rolsuper OR r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit END,
       CASE WHEN r.rolsuper OR d.datconnlimit < 0 THEN NULL ELSE d.datconnlimit END,
       current_setting('max_connections')::int
           - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
                       + coalesce(current_setting('reserved_connections', true), '0')::int END,
       others.of_role, others.of_database, others.of_server
  FROM pg_catalog.pg_roles r, pg_catalog.pg_database d,
       (SELECT count(*) FILTER (WHERE usename = current_user)::int AS of_role,
               count(*) FILTER (WHERE datname = current_database())::int AS of_database,
               count(*)::int AS of_server
          FROM pg_catalog.pg_stat_activity
         WHERE datname IS NOT NULL
           AND NOT (usename = current_user
                    AND application_name IN (current_setting('application_name'), 'cdc-sync store'))) AS others
 WHERE r.rolname = current_user AND d.datname = current_database()
"""


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
            one = _Server(connection, other, config, tell)
            await one.check_role()
            async with asking_shortly(connection, "asking the server for its version and identity"):
                one.facts = await server_facts(connection)
            await one.check_session()
            await one.check_connections()
            await one.check_clock(clock)
            one.check_recovery()
            await one.check_replica_positions(read or {})
            await one.check_lock()
            one.check_prepared_transactions()
            one.check_synchronous_standbys()
            await one.check_notify()
            for name, watch in config.watches.items():
                await check_watch(connection, name, watch, tell)
            await check_left_over(connection, config, tell)
            return one.facts.identity
    except SourceError as error:
        remedy = f"{_psql(config)} -c 'SELECT 1'   # must work as the daemon's user; then so does this"
        # libpq gives text only when connecting fails.
        if "permission denied for database" in error.message:
            remedy = "GRANT CONNECT ON DATABASE … TO …;   -- cdc-sync sql grants prints it"
        tell(Finding("connection", "failed", error.message, remedy))
        return None


class _Server:
    """The questions about the server; `facts` are asked for once it is known who asks."""

    facts: ServerFacts

    def __init__(self, connection: Connection, other: Connection, config: Config, tell: Tell) -> None:
        self._connection = connection
        self._other = other
        self._config = config
        self._notified = {name: watch for name, watch in config.watches.items() if watch.capture.mode == "notify"}
        self._rung = [name for name, watch in self._notified.items() if watch.capture.wakeup == "notify"]
        self._tell_all = tell

    def _tell(
        self, check: str, state: State, message: str, remedy: str | None = None, watch: str | None = None
    ) -> None:
        self._tell_all(Finding(check, state, message, remedy, watch))

    async def check_role(self) -> None:
        """Tell who we are, and whether that is more than is needed."""
        async with asking_shortly(self._connection, "asking who we are"):
            row = await (await self._connection.execute(_CONNECTED)).fetchone()
        user, database, is_superuser = row or ("", "", False)
        shown = self._config.database.shown()
        self._tell("connection", "ok", f"connected to the database {database} as {user} ({shown})")
        if is_superuser:
            self._tell(
                "role",
                "warning",
                f"{user} is a superuser: the daemon needs to read a few columns, and should be able to do nothing more",
                f"{_psql(self._config)} -c 'CREATE ROLE cdc_sync LOGIN'\n"
                f"cdc-sync sql grants --role cdc_sync > grants.sql   # read it, then run it as the tables' owner",
            )
        else:
            self._tell("role", "ok", f"{user} is an ordinary role")
        version = self._connection.info.server_version // 10_000
        if version < _OLDEST:
            remedy = f"Upgrade the server to PostgreSQL {_OLDEST} or newer."
            self._tell("server", "failed", f"PostgreSQL {version} is older than {_OLDEST}", remedy)
        elif version > _NEWEST:
            remedy = "Look for a newer cdc-sync, or try this one against a copy first."
            self._tell("server", "warning", f"PostgreSQL {version} is newer than what this version knows", remedy)
        else:
            self._tell("server", "ok", f"PostgreSQL {version}")

    async def check_session(self) -> None:
        """Tell whether each connection has a session of its own: a lock, and LISTEN, belong to a session.

        A pooler in transaction mode gives any free one to each statement. With little other traffic two connections
        then share one; with much, one connection meets several.
        """
        ours: set[int] = set()
        theirs: set[int] = set()
        for _ in range(_ROUNDS):
            for seen, asked in ((ours, self._connection), (theirs, self._other)):
                async with asking_shortly(asked, "asking for the session's process"):
                    ((process,),) = await (await asked.execute(_PROCESS)).fetchall()
                seen.add(process)
        if len(ours) > 1 or len(theirs) > 1 or ours & theirs:
            self._tell(
                "session",
                "failed",
                "a transaction pooler stands in between (pgbouncer with pool_mode = transaction?): statements of one "
                "connection run in sessions that others use too. So LISTEN hears nothing, and the lock that keeps a "
                "second daemon away holds nothing.",
                "Let database.dsn lead past the pooler, directly to PostgreSQL; or give the daemon's user a pool in "
                "session mode (pgbouncer.ini):\n[users]\ncdc_sync = pool_mode=session",
            )
        elif self._connection.info.backend_pid not in ours:
            self._tell("session", "ok", "a pooler stands in between, and gives each connection a session of its own")
        else:
            self._tell("session", "ok", "each connection has a session of its own")

    async def check_connections(self) -> None:
        """Tell whether the limits of the role, the database and the server leave the daemon what it needs."""
        async with asking_shortly(self._connection, "asking how many connections there are"):
            found = await (await self._connection.execute(_LIMITS)).fetchone()
        if found is None:
            return
        role, of_role, of_database, of_server, role_has, database_has, server_has = found
        shares_store = self._config.state.backend == "postgres" and self._config.state.dsn is None
        needed = sessions_needed(len(self._config.watches), shares_store=shares_store)
        enough = f"ALTER ROLE {role} CONNECTION LIMIT"
        limits = [
            (of_role, role_has, f"the CONNECTION LIMIT of the role {role}", f"{enough} {needed.most};"),
            (of_database, database_has, "the CONNECTION LIMIT of the database", "ALTER DATABASE … CONNECTION LIMIT …;"),
            (
                of_server,
                server_has,
                "max_connections without the reserved ones",
                "ALTER SYSTEM SET max_connections = …;",
            ),
        ]
        left, limit, has, name, remedy = min(
            (limit - has, limit, has, name, remedy) for limit, has, name, remedy in limits if limit is not None
        )
        said = f"the daemon takes {needed}; {name} is {limit}, of which others have {has}"
        if left < needed.least:
            self._tell("connections", "failed", f"{said}: too few are left", remedy)
        elif limit == of_server and left < needed.most:
            remedy = f"{enough} {needed.least};   -- so many are enough"
            self._tell("connections", "warning", f"{said}: it could take the last ones from the ATS", remedy)
        else:
            self._tell("connections", "ok", said)

    async def check_clock(self, clock: Callable[[], int]) -> None:
        """Compare the database's clock with ours."""
        async with asking_shortly(self._connection, "asking for the time"):
            before = clock()
            ((theirs,),) = await (await self._connection.execute(_CLOCK)).fetchall()
            after = clock()
        self._tell_all(clock_skew.judged("clock", "the database's clock", clock_skew.skew(theirs, before, after)))

    def check_recovery(self) -> None:
        """Tell whether the server is a standby, and which watches cannot work there."""
        if not self.facts.in_recovery:
            self._tell("standby", "ok", "the server is no standby")
        elif not self._notified:
            self._tell("standby", "ok", "the server is a standby, which is enough for capture.mode poll")
        else:
            for name in self._notified:
                self._tell(
                    "standby",
                    "failed",
                    "the server is a standby: nothing can be consumed from the change log there, and LISTEN and NOTIFY "
                    "do not exist",
                    "Add target_session_attrs=read-write to database.dsn, with the primary among its hosts; or use "
                    "capture.mode poll, which works on a standby.",
                    name,
                )

    async def check_replica_positions(self, read: Mapping[str, str]) -> None:
        """Tell whether the server shows all that was read of each watch; `read` is what the store has of them."""
        async with asking_shortly(self._connection, "asking how far the server is"):
            now = await ask(self._connection)
        for watch, text in read.items():
            guard = ReplicaGuard()
            guard.load(text)
            try:
                guard.check(now)
            except SourceError as error:
                remedy = (
                    "Let it catch up; or, if it was put back on purpose, with the daemon down: cdc-sync adopt-database"
                )
                self._tell("replica-position", "warning", error.message, remedy, watch)
            else:
                self._tell("replica-position", "ok", "the server shows all that was read before", watch=watch)

    async def check_lock(self) -> None:
        """Tell on a standby which daemons the watches' locks keep away: a standby's own are known to nobody else."""
        if not self.facts.in_recovery or self._config.state.backend == "postgres":
            return  # a shared store decides who captures, wherever its daemons read
        async with primary_session(self._config.database.dsn.get_secret_value()) as primary:
            if primary is not None:
                self._tell("standby", "ok", "database.dsn leads to the primary too: the watches' locks are taken there")
                return
        self._tell(
            "standby",
            "warning",
            "the watches' locks are taken on this standby, since database.dsn leads to no primary: a second daemon "
            "with a store of its own that reads another server would work the same watches, and each change would be "
            "sent twice",
            "Run one daemon. Or add the primary to the hosts of database.dsn (only the lock is taken there); or let "
            "all daemons share a store: state.backend: postgres.",
        )

    def check_prepared_transactions(self) -> None:
        """Tell whether the server may prepare transactions, which PostgreSQL does not do with one that has notified."""
        self._check_bells(
            "prepared-transactions",
            "no transaction that is prepared can be kept from it by a NOTIFY",
            "max_prepared_transactions is above 0, and PostgreSQL prepares no transaction that has notified",
            "If nothing here uses two-phase commit: ALTER SYSTEM SET max_prepared_transactions = 0; then restart "
            "the server.",
            is_well=not self.facts.prepares_transactions,
        )

    def check_synchronous_standbys(self) -> None:
        """Tell whether commits may wait for a standby, with NOTIFY's lock in their hands if they have notified."""
        self._check_bells(
            "synchronous-standbys",
            "no commit can wait for a standby with the lock of NOTIFY",
            "synchronous_standby_names is set, and a commit that notifies keeps the server's one lock of NOTIFY while "
            "it waits for the standby",
            "If no commit has to wait for a standby: ALTER SYSTEM SET synchronous_standby_names = ''; then SELECT "
            "pg_reload_conf();",
            is_well=not self.facts.waits_for_standbys,
        )

    def _check_bells(self, check: str, well: str, why: str, remedy: str, *, is_well: bool) -> None:
        """Warn of each watch that would be rung for, and is not; or tell that all is `well`."""
        if is_well or not self._rung:
            self._tell(check, "ok", well)
            return
        for name in self._rung:
            pause = self._notified[name].capture.poll_interval.total_seconds()
            self._tell(
                check,
                "warning",
                f"{why}: the daemon asks for no NOTIFY, and looks every {pause:g} s instead",
                f"If that is well: watches.{name}.capture.wakeup: none says the same. {remedy}",
                name,
            )

    async def check_notify(self) -> None:
        """Send a NOTIFY that really comes back, from one session to another, if a watch waits for notifications.

        From a session to itself it would come back behind a transaction pooler too, as long as both statements happen
        to be given the same session; the daemon's triggers notify from others.
        """
        if not self._rung:
            self._tell("notify", "ok", "not tried: no watch waits for notifications")
            return
        if self.facts.in_recovery:
            return  # said already, and PostgreSQL refuses LISTEN there
        if self.facts.waits_for_standbys:
            # A commit that has notified may hold the lock of NOTIFY for as long as the standby stalls.
            said = "not tried: where commits may wait for a standby the daemon asks for no NOTIFY"
            self._tell("notify", "ok", said)
            return
        remedy = "Let database.dsn lead past the pooler, directly to PostgreSQL; or use a pool in session mode."
        try:
            took = await _round_trip(self._connection, self._other)
        except psycopg.Error as error:
            said = translate(error, "sending a notification to ourselves").message
            self._tell("notify", "failed", said, remedy)
            return
        if took is None:
            self._tell(
                "notify",
                "failed",
                f"a notification did not come back within {_WITHIN:.0f} s: behind a transaction pooler (pgbouncer with "
                f"pool_mode = transaction) LISTEN hears nothing",
                remedy,
            )
        else:
            self._tell("notify", "ok", f"a notification came back in {took * 1000:.0f} ms")


async def _round_trip(listener: Connection, notifier: Connection) -> float | None:
    """Seconds that it took; None if it did not come."""
    # A channel of its own: the daemon, and every other listener, hears nothing of it.
    channel = f"cdc_sync_check_{secrets.token_hex(8)}"
    # Our constant and hexadecimal digits: nothing to quote.
    await listener.execute(f"LISTEN {channel}".encode())
    try:
        started = time.monotonic()
        await notifier.execute("SELECT pg_notify(%s, '')", (channel,))
        # Left early, the generator holds the connection until it is closed.
        async with aclosing(listener.notifies(timeout=_WITHIN)) as notifications:
            async for notification in notifications:
                if notification.channel == channel:
                    return time.monotonic() - started
    finally:
        await listener.execute(f"UNLISTEN {channel}".encode())
    return None


def _psql(config: Config) -> str:
    """How to connect by hand as the daemon does; what may not be shown is for the reader to put in."""
    if not config.database.dsn.get_secret_value().strip():
        return "psql"
    shown = config.database.shown()
    return "psql '…'" if shown == HIDDEN else f"psql '{shown}'"

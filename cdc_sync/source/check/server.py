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
from cdc_sync.source.check.watch import check_left_over, check_watch
from cdc_sync.source.connection import Connection, connected
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.facts import ServerFacts, asking_shortly, rows_of, server_facts
from cdc_sync.source.replica_guard import ReplicaGuard, ask
from cdc_sync.source.session import primary_session

_OLDEST, _NEWEST = 10, 18
_ROUNDS = 5

_WITHIN = 5.0
"""Seconds within which a notification must have come; it takes a millisecond."""

_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_PROCESS = "SELECT pg_backend_pid()"

# Every role sees of all sessions which role and database they belong to, and their application_name. Our own are not
# counted: the daemon may be running. -1 is no limit; a superuser has none of his own, and may take the reserved ones.
_LIMITS = """
SELECT quote_ident(r.rolname),
       CASE WHEN r.rolsuper OR r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit END, others.of_role,
       CASE WHEN r.rolsuper OR d.datconnlimit < 0 THEN NULL ELSE d.datconnlimit END, others.of_database,
       current_setting('max_connections')::int
           - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
                       + coalesce(current_setting('reserved_connections', true), '0')::int END, others.of_server
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
            one.check_version()
            async with asking_shortly(connection, "asking the server for its version and identity"):
                one.facts = await server_facts(connection)
            one.check_role()
            await one.check_session()
            await one.check_connections()
            await one.check_clock(clock)
            one.check_recovery()
            await one.check_replica_positions(read or {})
            await one.check_lock()
            one.check_bells()
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
        self,
        check: str,
        well: str,
        wrong: str | None = None,
        remedy: str | None = None,
        *,
        state: State = "failed",
        watch: str | None = None,
    ) -> None:
        """Tell what is `wrong`, if anything is, and the remedy; else that all is `well`."""
        self._tell_all(
            Finding(check, state, wrong, remedy, watch) if wrong else Finding(check, "ok", well, None, watch)
        )

    def check_version(self) -> None:
        version = self._connection.info.server_version // 10_000
        if version > _NEWEST:
            wrong = f"PostgreSQL {version} is newer than what this version knows"
            remedy = "Look for a newer cdc-sync, or try this one against a copy first."
            self._tell("server", "", wrong, remedy, state="warning")
            return
        wrong = f"PostgreSQL {version} is older than {_OLDEST}" if version < _OLDEST else ""
        self._tell("server", f"PostgreSQL {version}", wrong, f"Upgrade the server to PostgreSQL {_OLDEST} or newer.")

    def check_role(self) -> None:
        """Tell who we are, and whether that is more than is needed."""
        user, database = self.facts.user, self.facts.database
        shown = self._config.database.shown()
        self._tell("connection", f"connected to the database {database} as {user} ({shown})")
        more = f"{user} is a superuser: the daemon needs to read a few columns, and should be able to do nothing more"
        self._tell(
            "role",
            f"{user} is an ordinary role",
            more if self.facts.is_superuser else None,
            f"{_psql(self._config)} -c 'CREATE ROLE cdc_sync LOGIN'\n"
            f"cdc-sync sql grants --role cdc_sync > grants.sql   # read it, then run it as the tables' owner",
            state="warning",
        )

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
                    ((process,),) = await rows_of(asked, _PROCESS)
                seen.add(process)
        well = "each connection has a session of its own"
        if self._connection.info.backend_pid not in ours:
            well = "a pooler stands in between, and gives each connection a session of its own"
        shared = (
            "a transaction pooler stands in between (pgbouncer with pool_mode = transaction?): statements of one "
            "connection run in sessions that others use too. So LISTEN hears nothing, and the lock that keeps a second "
            "daemon away holds nothing."
        )
        self._tell(
            "session",
            well,
            shared if len(ours) > 1 or len(theirs) > 1 or ours & theirs else None,
            "Let database.dsn lead past the pooler, directly to PostgreSQL; or give the daemon's user a pool in "
            "session mode (pgbouncer.ini):\n[users]\ncdc_sync = pool_mode=session",
        )

    async def check_connections(self) -> None:
        """Tell whether the limits of the role, the database and the server leave the daemon what it needs."""
        async with asking_shortly(self._connection, "asking how many connections there are"):
            found = await rows_of(self._connection, _LIMITS)
        for role, *limits in found:
            shares_store = self._config.state.backend == "postgres" and self._config.state.dsn is None
            needed = sessions_needed(len(self._config.watches), shares_store=shares_store)
            enough = f"ALTER ROLE {role} CONNECTION LIMIT"
            names = (
                (f"the CONNECTION LIMIT of the role {role}", f"{enough} {needed.most};"),
                ("the CONNECTION LIMIT of the database", "ALTER DATABASE … CONNECTION LIMIT …;"),
                ("max_connections without the reserved ones", "ALTER SYSTEM SET max_connections = …;"),
            )
            counted = zip(limits[::2], limits[1::2], names, strict=True)
            left, limit, has, (name, remedy) = min(
                (limit - has, limit, has, name) for limit, has, name in counted if limit is not None
            )
            said = f"the daemon takes {needed}; {name} is {limit}, of which others have {has}"
            if left >= needed.least and limit == limits[-2] and left < needed.most:
                wrong, remedy = f"{said}: it could take the last ones from the ATS", f"{enough} {needed.least};"
                self._tell("connections", said, wrong, f"{remedy}   -- so many are enough", state="warning")
            else:
                self._tell("connections", said, f"{said}: too few are left" if left < needed.least else None, remedy)

    async def check_clock(self, clock: Callable[[], int]) -> None:
        """Compare the database's clock with ours."""
        async with asking_shortly(self._connection, "asking for the time"):
            before = clock()
            ((theirs,),) = await rows_of(self._connection, _CLOCK)
            after = clock()
        self._tell_all(clock_skew.judged("clock", "the database's clock", clock_skew.skew(theirs, before, after)))

    def check_recovery(self) -> None:
        """Tell whether the server is a standby, and which watches cannot work there."""
        if not (self.facts.in_recovery and self._notified):
            is_standby = "a standby, which is enough for capture.mode poll" if self.facts.in_recovery else "no standby"
            self._tell("standby", f"the server is {is_standby}")
            return
        for name in self._notified:
            self._tell(
                "standby",
                "",
                "the server is a standby: nothing can be consumed from the change log there, and LISTEN and NOTIFY do "
                "not exist",
                "Add target_session_attrs=read-write to database.dsn, with the primary among its hosts; or use "
                "capture.mode poll, which works on a standby.",
                watch=name,
            )

    async def check_replica_positions(self, read: Mapping[str, str]) -> None:
        """Tell whether the server shows all that was read of each watch; `read` is what the store has of them."""
        async with asking_shortly(self._connection, "asking how far the server is"):
            now = await ask(self._connection)
        well = "the server shows all that was read before"
        remedy = "Let it catch up; or, if it was put back on purpose, with the daemon down: cdc-sync adopt-database"
        for watch, text in read.items():
            guard, wrong = ReplicaGuard(), None
            guard.load(text)
            try:
                guard.check(now)
            except SourceError as error:
                wrong = error.message
            self._tell("replica-position", well, wrong, remedy, state="warning", watch=watch)

    async def check_lock(self) -> None:
        """Tell on a standby which daemons the watches' locks keep away: a standby's own are known to nobody else."""
        if not self.facts.in_recovery or self._config.state.backend == "postgres":
            return  # a shared store decides who captures, wherever its daemons read
        async with primary_session(self._config.database.dsn.get_secret_value()) as primary:
            here_alone = primary is None
        known_here = (
            "the watches' locks are taken on this standby, since database.dsn leads to no primary: a second daemon "
            "with a store of its own that reads another server would work the same watches, and each change would be "
            "sent twice"
        )
        self._tell(
            "standby",
            "database.dsn leads to the primary too: the watches' locks are taken there",
            known_here if here_alone else None,
            "Run one daemon. Or add the primary to the hosts of database.dsn (only the lock is taken there); or let "
            "all daemons share a store: state.backend: postgres.",
            state="warning",
        )

    def check_bells(self) -> None:
        """Warn of each watch that would be rung for, and is not, since a NOTIFY could harm the ATS."""
        self._check_bells(
            "prepared-transactions",
            "no transaction that is prepared can be kept from it by a NOTIFY",
            "max_prepared_transactions is above 0, and PostgreSQL prepares no transaction that has notified",
            "If nothing here uses two-phase commit: ALTER SYSTEM SET max_prepared_transactions = 0; then restart "
            "the server.",
            harms=self.facts.prepares_transactions,
        )
        self._check_bells(
            "synchronous-standbys",
            "no commit can wait for a standby with the lock of NOTIFY",
            "synchronous_standby_names is set, and a commit that notifies keeps the server's one lock of NOTIFY while "
            "it waits for the standby",
            "If no commit has to wait for a standby: ALTER SYSTEM SET synchronous_standby_names = ''; then SELECT "
            "pg_reload_conf();",
            harms=self.facts.waits_for_standbys,
        )

    def _check_bells(self, check: str, well: str, why: str, otherwise: str, *, harms: bool) -> None:
        for name in self._rung if harms else ():
            pause = self._notified[name].capture.poll_interval.total_seconds()
            wrong = f"{why}: the daemon asks for no NOTIFY, and looks every {pause:g} s instead"
            remedy = f"If that is well: watches.{name}.capture.wakeup: none says the same. {otherwise}"
            self._tell(check, well, wrong, remedy, state="warning", watch=name)
        if not (harms and self._rung):
            self._tell(check, well)

    async def check_notify(self) -> None:
        """Send a NOTIFY that really comes back, from one session to another, if a watch waits for notifications.

        From a session to itself it would come back behind a transaction pooler too, as long as both statements happen
        to be given the same session; the daemon's triggers notify from others.
        """
        well, wrong = "", None
        if not self._rung:
            well = "not tried: no watch waits for notifications"
        elif self.facts.in_recovery:
            return  # said already, and PostgreSQL refuses LISTEN there
        elif self.facts.waits_for_standbys:
            # A commit that has notified may hold the lock of NOTIFY for as long as the standby stalls.
            well = "not tried: where commits may wait for a standby the daemon asks for no NOTIFY"
        else:
            try:
                took = await _round_trip(self._connection, self._other)
                well = f"a notification came back in {took * 1000:.0f} ms"
            except TimeoutError:
                wrong = (
                    f"a notification did not come back within {_WITHIN:.0f} s: behind a transaction pooler (pgbouncer "
                    f"with pool_mode = transaction) LISTEN hears nothing"
                )
            except psycopg.Error as error:
                wrong = translate(error, "sending a notification to ourselves").message
        remedy = "Let database.dsn lead past the pooler, directly to PostgreSQL; or use a pool in session mode."
        self._tell("notify", well, wrong, remedy)


async def _round_trip(listener: Connection, notifier: Connection) -> float:
    """Seconds that it took.

    Raises:
        TimeoutError: it did not come.
    """
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
    raise TimeoutError


def _psql(config: Config) -> str:
    """How to connect by hand as the daemon does; what may not be shown is for the reader to put in."""
    if not config.database.dsn.get_secret_value().strip():
        return "psql"
    shown = config.database.shown()
    return "psql '…'" if shown == HIDDEN else f"psql '{shown}'"

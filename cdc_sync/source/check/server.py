"""Who answers: version, role, clock, connections, and whether each session is ours alone; then watch by watch."""

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial

import psycopg

from cdc_sync.config import Config
from cdc_sync.config.sessions import sessions_needed
from cdc_sync.core import clock_skew
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.core.visible import HIDDEN
from cdc_sync.source.check.watch import PreconditionError, check_left_over, check_watch, tell_of
from cdc_sync.source.connection import Connection, connected
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.expressions import catalog
from cdc_sync.source.facts import ServerFacts, asking_shortly, rows_of, server_facts
from cdc_sync.source.replica_guard import ReplicaGuard, ask
from cdc_sync.source.session import primary_session

_OLDEST, _NEWEST = 10, 18
_ROUNDS = 5

_WITHIN = 5.0
"""Seconds within which a notification must have come; it takes a millisecond."""

_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_PROCESS = "SELECT pg_backend_pid()"


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
            one = _Server(connection, other, config)
            await tell_of(tell, "server", one.version)
            await tell_of(tell, "connection", one.who)
            await tell_of(tell, "role", one.role)
            await tell_of(tell, "session", one.session)
            await tell_of(tell, "connections", one.connections)
            async with asking_shortly(connection, "asking for the time"):
                before = clock()
                ((theirs,),) = await rows_of(connection, _CLOCK)
                skew = clock_skew.skew(theirs, before, clock())
            tell(clock_skew.judged("clock", "the database's clock", skew))
            for name in one.notified if one.facts.in_recovery and one.notified else (None,):
                await tell_of(tell, "standby", one.standby, name)
            for name, position in (read or {}).items():
                await tell_of(tell, "replica-position", partial(one.replica_position, position), name)
            await tell_of(tell, "standby", one.lock)
            for check, harms, question in (
                ("prepared-transactions", one.facts.prepares_transactions, one.prepared_transactions),
                ("synchronous-standbys", one.facts.waits_for_standbys, one.synchronous_standbys),
            ):
                for name in one.rung if harms and one.rung else (None,):
                    await tell_of(tell, check, partial(question, name), name)
            await tell_of(tell, "notify", one.notify)
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
    """The questions about the server; `facts` are asked for once it is known who asks.

    Attributes:
        notified: the watches in notify mode.
        rung: those of them that wait for notifications.
    """

    facts: ServerFacts

    def __init__(self, connection: Connection, other: Connection, config: Config) -> None:
        self._connection = connection
        self._other = other
        self._config = config
        self.notified = [name for name, watch in config.watches.items() if watch.capture.needs.log]
        self.rung = [name for name in self.notified if config.watches[name].capture.wakeup == "notify"]

    async def version(self) -> str:
        version = self._connection.info.server_version // 10_000
        if version < _OLDEST:
            remedy = f"Upgrade the server to PostgreSQL {_OLDEST} or newer."
            raise PreconditionError(f"PostgreSQL {version} is older than {_OLDEST}", remedy)
        if version > _NEWEST:
            remedy = "Look for a newer cdc-sync, or try this one against a copy first."
            raise PreconditionError(f"PostgreSQL {version} is newer than what this version knows", remedy, "warning")
        return f"PostgreSQL {version}"

    async def who(self) -> str:
        async with asking_shortly(self._connection, "asking the server for its version and identity"):
            self.facts = await server_facts(self._connection)
        shown = self._config.database.shown()
        return f"connected to the database {self.facts.database} as {self.facts.user} ({shown})"

    async def role(self) -> str:
        """Whether we may do more than is needed."""
        user = self.facts.user
        if not self.facts.is_superuser:
            return f"{user} is an ordinary role"
        raise PreconditionError(
            f"{user} is a superuser: the daemon needs to read a few columns, and should be able to do nothing more",
            f"{_psql(self._config)} -c 'CREATE ROLE cdc_sync LOGIN'\n"
            f"cdc-sync sql grants --role cdc_sync > grants.sql   # read it, then run it as the tables' owner",
            "warning",
        )

    async def session(self) -> str:
        """Whether each connection has a session of its own: a lock, and LISTEN, belong to a session.

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
        if len(ours) > 1 or len(theirs) > 1 or ours & theirs:
            raise PreconditionError(
                "a transaction pooler stands in between (pgbouncer with pool_mode = transaction?): statements of one "
                "connection run in sessions that others use too. So LISTEN hears nothing, and the lock that keeps a "
                "second daemon away holds nothing.",
                "Let database.dsn lead past the pooler, directly to PostgreSQL; or give the daemon's user a pool in "
                "session mode (pgbouncer.ini):\n[users]\ncdc_sync = pool_mode=session",
            )
        if self._connection.info.backend_pid not in ours:
            return "a pooler stands in between, and gives each connection a session of its own"
        return "each connection has a session of its own"

    async def connections(self) -> str:
        """Whether the limits of the role, the database and the server leave the daemon what it needs."""
        async with asking_shortly(self._connection, "asking how many connections there are"):
            ((role, *limits),) = await rows_of(self._connection, catalog("limits"))
        shares_store = self._config.state.backend == "postgres" and self._config.state.dsn is None
        needed = sessions_needed(self._config.database.pool, shares_store=shares_store)
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
        if left < needed.least:
            raise PreconditionError(f"{said}: too few are left", remedy)
        if limit == limits[-2] and left < needed.most:
            remedy = f"{enough} {needed.least};   -- so many are enough"
            raise PreconditionError(f"{said}: it could take the last ones from the ATS", remedy, "warning")
        return said

    async def standby(self) -> str:
        if not self.facts.in_recovery:
            return "the server is no standby"
        if not self.notified:
            return "the server is a standby, which is enough for capture.mode poll"
        raise PreconditionError(
            "the server is a standby: nothing can be consumed from the change log there, and LISTEN and NOTIFY do not "
            "exist",
            "Add target_session_attrs=read-write to database.dsn, with the primary among its hosts; or use "
            "capture.mode poll, which works on a standby.",
        )

    async def replica_position(self, read: str) -> str:
        """Whether the server shows all that was read of a watch; `read` is what the store has of that."""
        async with asking_shortly(self._connection, "asking how far the server is"):
            now = await ask(self._connection)
        guard = ReplicaGuard()
        guard.load(read)
        try:
            guard.check(now)
        except SourceError as error:
            remedy = "Let it catch up; or, if it was put back on purpose, with the daemon down: cdc-sync adopt-database"
            raise PreconditionError(error.message, remedy, "warning") from error
        return "the server shows all that was read before"

    async def lock(self) -> str:
        """Which daemons the watches' locks keep away on a standby: its own are known to nobody else."""
        if not self.facts.in_recovery or self._config.state.backend == "postgres":
            return ""  # a shared store decides who captures, wherever its daemons read
        async with primary_session(self._config.database.dsn.get_secret_value()) as primary:
            if primary is not None:
                return "database.dsn leads to the primary too: the watches' locks are taken there"
        raise PreconditionError(
            "the watches' locks are taken on this standby, since database.dsn leads to no primary: a second daemon "
            "with a store of its own that reads another server would work the same watches, and each change would be "
            "sent twice",
            "Run one daemon. Or add the primary to the hosts of database.dsn (only the lock is taken there); or let "
            "all daemons share a store: state.backend: postgres.",
            "warning",
        )

    async def prepared_transactions(self, rung: str | None) -> str:
        if rung is None:
            return "no transaction that is prepared can be kept from it by a NOTIFY"
        raise self._not_rung(
            rung,
            "max_prepared_transactions is above 0, and PostgreSQL prepares no transaction that has notified",
            "If nothing here uses two-phase commit: ALTER SYSTEM SET max_prepared_transactions = 0; then restart "
            "the server.",
        )

    async def synchronous_standbys(self, rung: str | None) -> str:
        if rung is None:
            return "no commit can wait for a standby with the lock of NOTIFY"
        raise self._not_rung(
            rung,
            "synchronous_standby_names is set, and a commit that notifies keeps the server's one lock of NOTIFY while "
            "it waits for the standby",
            "If no commit has to wait for a standby: ALTER SYSTEM SET synchronous_standby_names = ''; then SELECT "
            "pg_reload_conf();",
        )

    def _not_rung(self, watch: str, why: str, otherwise: str) -> PreconditionError:
        pause = self._config.watches[watch].capture.poll_interval.total_seconds()
        message = f"{why}: the daemon asks for no NOTIFY, and looks every {pause:g} s instead"
        remedy = f"If that is well: watches.{watch}.capture.wakeup: none says the same. {otherwise}"
        return PreconditionError(message, remedy, "warning")

    async def notify(self) -> str:
        """Whether a NOTIFY really comes back, from one session to another, if a watch waits for notifications.

        From a session to itself it would come back behind a transaction pooler too, as long as both statements happen
        to be given the same session; the daemon's triggers notify from others.
        """
        if not self.rung:
            return "not tried: no watch waits for notifications"
        if self.facts.in_recovery:
            return ""  # said already, and PostgreSQL refuses LISTEN there
        if self.facts.waits_for_standbys:
            # A commit that has notified may hold the lock of NOTIFY for as long as the standby stalls.
            return "not tried: where commits may wait for a standby the daemon asks for no NOTIFY"
        lost = (
            f"a notification did not come back within {_WITHIN:.0f} s: behind a transaction pooler (pgbouncer with "
            f"pool_mode = transaction) LISTEN hears nothing"
        )
        try:
            took = await _round_trip(self._connection, self._other)
        except psycopg.Error as error:
            took, lost = None, translate(error, "sending a notification to ourselves").message
        if took is None:
            remedy = "Let database.dsn lead past the pooler, directly to PostgreSQL; or use a pool in session mode."
            raise PreconditionError(lost, remedy)
        return f"a notification came back in {took * 1000:.0f} ms"


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

"""The one connection per watch that lasts: it holds the watch's lock and listens for the bell.

It never sits in a transaction: a listener inside one keeps PostgreSQL from trimming its NOTIFY queue, and a full queue
makes the ATS's COMMIT fail, out of any trigger's reach.

It is the one that notices when the database is gone. What the server or the kernel says (a terminated backend, a
shutdown, a reset) is noticed at once. Silence, in either direction or of notifications alone, is noticed by a proof:
every `prove_every` seconds (the daemon: 15) something must come back within 10. A server in recovery refuses LISTEN.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import psycopg

from cdc_sync.source.connection import Connection, asking, connected
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.replica_guard import ReplicaGuard

CHANNEL = "cdc_sync"

_ECHO_WITHIN = 10.0
"""Seconds within which our own notification must come back."""

_ENDS_WITHIN = 2.0
"""Seconds within which a session that was told to end has let its lock go."""

# A daemon whose host is gone must not keep the lock for the two hours after which a server looks by default. Without
# effect on a unix socket, no end of which can be gone unnoticed.
_NOTICE_OUR_END = """
SELECT set_config('tcp_keepalives_idle', '20', false), set_config('tcp_keepalives_interval', '10', false),
       set_config('tcp_keepalives_count', '3', false)
"""
_ECHO = "SELECT 'cdc_sync_echo_' || pg_backend_pid(), pg_notification_queue_usage()"
_NOTIFY_OURSELVES = "SELECT pg_notify(%s, ''), pg_notification_queue_usage()"
# As JSON has it: psycopg reads no time in another DateStyle than ISO, and the role or the database may have one.
_OURS = "SELECT pid, to_json(backend_start) #>> '{}' FROM pg_stat_activity WHERE pid = pg_backend_pid()"
# A lock by one number of 64 bits is shown as its halves.
_HELD = """
SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
 WHERE l.locktype = 'advisory' AND d.datname = current_database() AND l.granted
   AND l.classid = %s::bigint::oid AND l.objid = %s::bigint::oid AND l.objsubid = 1
"""
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"


@dataclass(slots=True)
class LastSession:
    """What a daemon remembers of the sessions that it had on a watch.

    Behind a network that fell silent the server keeps a session, and with it the watch's lock, long after the daemon
    has given it up. Whoever remembers that it was its own may end it.

    Attributes:
        process: the last one's process at the server: its number and start.
        guard: which server was read, and how far it was.
    """

    process: tuple[int, str] | None = None
    guard: ReplicaGuard = field(default_factory=ReplicaGuard)


@asynccontextmanager
async def session(dsn: str, watch: str, last: LastSession | None = None) -> AsyncIterator[Connection]:
    """Connect and become the watch's one worker on this database, whichever host or store others use.

    Args:
        dsn: the database.
        watch: the watch's name.
        last: the session before, which is ended if it still holds the lock; takes the new one.

    Raises:
        SourceError: the database cannot be reached, or another daemon works the watch.
    """
    last = last or LastSession()
    async with connected(dsn) as connection:
        async with asking("taking the watch's lock"):
            await connection.execute(_NOTICE_OUR_END)
            locked = await _lock(connection, watch) or await _take_over(connection, watch, last)
            if locked:
                last.process = await (await connection.execute(_OURS)).fetchone()
        if not locked:
            raise SourceError(
                "unreachable",
                f"Another cdc-sync works the watch {watch} of this database (it holds its advisory lock). Waiting for "
                f"it to end; if it should not run, stop it.",
            )
        yield connection


async def _lock(connection: Connection, watch: str) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_lock_number(watch),))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def _take_over(connection: Connection, watch: str, last: LastSession) -> bool:
    """Take the lock from our own last session, if it is the one that holds it; returns whether it is ours now."""
    if last.process is None:
        return False
    ended = await (await connection.execute(_END, last.process)).fetchone()
    if ended is None:
        return False
    try:
        async with asyncio.timeout(_ENDS_WITHIN):
            while not await _lock(connection, watch):  # noqa: ASYNC110 - the server announces it to nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


async def is_worked(connection: Connection, watch: str) -> bool:
    """Whether somebody holds the watch's lock on this database: a daemon, wherever it runs and whatever it is called.

    Raises:
        psycopg.Error: the server cannot be asked.
    """
    number = _lock_number(watch) & 0xFFFF_FFFF_FFFF_FFFF
    found = await connection.execute(_HELD, (number >> 32, number & 0xFFFF_FFFF))
    return await found.fetchone() is not None


def _lock_number(watch: str) -> int:
    """The same for every daemon, and unlike any number that an application would choose."""
    digest = hashlib.sha256(f"cdc-sync watch {watch}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


async def listen(
    connection: Connection, ring: Callable[[], None], prove_every: float, proved: Callable[[float], None] | None = None
) -> None:
    """Call `ring` at each notification, for ever; the first call is right after LISTEN has taken effect.

    Changes committed before LISTEN rang for nobody, so the first call makes the listener drain. Every `prove_every`
    seconds the connection notifies itself: a half-open one fails to send, and a deaf one (behind a transaction pooler,
    for instance) hears nothing.

    Each time, also at the beginning, `proved` is told which share of the server's NOTIFY queue is in use.

    Raises:
        SourceError: the connection is lost, or deaf.
    """
    proved = proved or (lambda _: None)
    try:
        async with _at_once():
            row = await (await connection.execute(_ECHO)).fetchone()
            echo, usage = row or ("", 0.0)
            await connection.execute(f"LISTEN {CHANNEL}")
            await connection.execute(f"LISTEN {echo}")  # a constant prefix and a number: nothing to quote
        ring()
        proved(usage)
        while True:
            async for notification in connection.notifies(timeout=prove_every):
                if notification.channel == CHANNEL:
                    ring()
            proved(await _prove(connection, echo, ring))
    except psycopg.Error as error:
        raise translate(error, "listening for changes") from error


async def hold(connection: Connection, prove_every: float) -> None:
    """Keep the watch's lock where nobody listens: find out that the connection is lost.

    At once if the server ends it, since another daemon may take the lock then; within `prove_every` seconds if it only
    falls silent.

    Raises:
        SourceError: it is lost, and the lock with it.
    """
    try:
        while True:
            async for _ in connection.notifies(timeout=prove_every):
                pass  # nothing was listened to; this waits for the end of the connection
            async with _at_once():
                await connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise translate(error, "holding the watch's lock") from error


@asynccontextmanager
async def _at_once() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_ECHO_WITHIN):
            yield
    except TimeoutError as error:
        raise SourceError("unreachable", f"The database does not answer within {_ECHO_WITHIN:.0f} s.") from error


async def _prove(connection: Connection, echo: str, ring: Callable[[], None]) -> float:
    """Hear from ourselves; returns the share of the server's NOTIFY queue that is in use."""
    try:
        async with asyncio.timeout(_ECHO_WITHIN):
            row = await (await connection.execute(_NOTIFY_OURSELVES, (echo,))).fetchone()
            usage = 0.0 if row is None else float(row[1])
            # Left early, it holds the connection until it is closed.
            async with aclosing(connection.notifies()) as notifications:
                async for notification in notifications:
                    if notification.channel == echo:
                        break
                    ring()
    except TimeoutError as error:
        raise SourceError(
            "unreachable",
            f"The listening connection is deaf: its own notification did not come back within {_ECHO_WITHIN:.0f} s. "
            f"Behind a transaction pooler LISTEN does not work: connect directly, or use capture.wakeup none.",
        ) from error
    return usage

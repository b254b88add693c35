"""The one connection per watch that lasts: it holds the watch's lock and listens for the bell.

It never sits in a transaction: a listener inside one keeps PostgreSQL from trimming its NOTIFY queue, and a full queue
makes the ATS's COMMIT fail, out of any trigger's reach.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg

from cdc_sync.source.connection import Connection, connected
from cdc_sync.source.errors import SourceError, translate

CHANNEL = "cdc_sync"

_ECHO_WITHIN = 10.0
"""Seconds within which our own notification must come back."""


@asynccontextmanager
async def session(dsn: str, watch: str) -> AsyncIterator[Connection]:
    """Connect and become the watch's one worker on this database, whichever host or store others use.

    Raises:
        SourceError: the database cannot be reached, or another daemon works the watch.
    """
    async with connected(dsn) as connection:
        try:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_lock_number(watch),))
            row = await cursor.fetchone()
        except psycopg.Error as error:
            raise translate(error, "taking the watch's lock") from error
        if row is None or not row[0]:
            raise SourceError(
                "unreachable",
                f"Another cdc-sync works the watch {watch} of this database (it holds its advisory lock). Waiting for "
                f"it to end; if it should not run, stop it.",
            )
        yield connection


def _lock_number(watch: str) -> int:
    """The same for every daemon, and unlike any number that an application would choose."""
    digest = hashlib.sha256(f"cdc-sync watch {watch}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


async def listen(connection: Connection, ring: Callable[[], None], prove_every: float) -> None:
    """Call `ring` at each notification, for ever; the first call is right after LISTEN has taken effect.

    Changes committed before LISTEN rang for nobody, so the first call makes the listener drain. Every `prove_every`
    seconds the connection notifies itself: a half-open one fails to send, and a deaf one (behind a transaction pooler,
    for instance) hears nothing.

    Raises:
        SourceError: the connection is lost, or deaf.
    """
    try:
        row = await (await connection.execute("SELECT 'cdc_sync_echo_' || pg_backend_pid()")).fetchone()
        echo = row[0] if row else ""
        await connection.execute(f"LISTEN {CHANNEL}")
        await connection.execute(f"LISTEN {echo}")  # a constant prefix and a number: nothing to quote
        ring()
        while True:
            async for notification in connection.notifies(timeout=prove_every):
                if notification.channel == CHANNEL:
                    ring()
            await _prove(connection, echo, ring)
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
            await asyncio.wait_for(connection.execute("SELECT 1"), _ECHO_WITHIN)
    except TimeoutError as error:
        raise SourceError("unreachable", f"The database does not answer within {_ECHO_WITHIN:.0f} s.") from error
    except psycopg.Error as error:
        raise translate(error, "holding the watch's lock") from error


async def _prove(connection: Connection, echo: str, ring: Callable[[], None]) -> None:
    try:
        await asyncio.wait_for(connection.execute("SELECT pg_notify(%s, '')", (echo,)), _ECHO_WITHIN)
        async with asyncio.timeout(_ECHO_WITHIN):
            async for notification in connection.notifies():
                if notification.channel == echo:
                    return
                ring()
    except TimeoutError as error:
        raise SourceError(
            "unreachable",
            f"The listening connection is deaf: its own notification did not come back within {_ECHO_WITHIN:.0f} s. "
            f"Behind a transaction pooler LISTEN does not work: connect directly, or use capture.wakeup none.",
        ) from error

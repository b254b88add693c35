"""A NOTIFY that really comes back, from one session to another.

From a session to itself it would come back behind a transaction pooler too, as long as both statements happen to be
given the same session; the daemon's triggers notify from others.
"""

import secrets
import time
from collections.abc import Mapping
from contextlib import aclosing

import psycopg

from cdc_sync.config import Watch
from cdc_sync.core.findings import Finding, Tell
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import translate
from cdc_sync.source.facts import ServerFacts

_WITHIN = 5.0
"""Seconds within which it must have come; it takes a millisecond."""

_CHECK = "notify"
_REMEDY = "Let database.dsn lead past the pooler, directly to PostgreSQL; or use a pool in session mode."


async def check_notify(
    listener: Connection, notifier: Connection, server: ServerFacts, watches: Mapping[str, Watch], tell: Tell
) -> None:
    """Try it if a watch waits for notifications and the server can give them."""
    waiting = any(watch.capture.mode == "notify" and watch.capture.wakeup == "notify" for watch in watches.values())
    if not waiting:
        tell(Finding(_CHECK, "ok", "not tried: no watch waits for notifications"))
        return
    if server.in_recovery:
        return  # said already, and PostgreSQL refuses LISTEN there
    if server.waits_for_standbys:
        # A commit that has notified may hold the lock of NOTIFY for as long as the standby stalls.
        tell(Finding(_CHECK, "ok", "not tried: where commits may wait for a standby the daemon asks for no NOTIFY"))
        return
    # A channel of its own: the daemon, and every other listener, hears nothing of it.
    channel = f"cdc_sync_check_{secrets.token_hex(8)}"
    try:
        took = await _round_trip(listener, notifier, channel)
    except psycopg.Error as error:
        tell(Finding(_CHECK, "failed", translate(error, "sending a notification to ourselves").message, _REMEDY))
        return
    if took is None:
        tell(
            Finding(
                _CHECK,
                "failed",
                f"a notification did not come back within {_WITHIN:.0f} s: behind a transaction pooler (pgbouncer with "
                f"pool_mode = transaction) LISTEN hears nothing",
                _REMEDY,
            )
        )
    else:
        tell(Finding(_CHECK, "ok", f"a notification came back in {took * 1000:.0f} ms"))


async def _round_trip(listener: Connection, notifier: Connection, channel: str) -> float | None:
    """Seconds that it took; None if it did not come."""
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

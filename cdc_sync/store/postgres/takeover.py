"""Takes over from a daemon whose lease has lapsed: ends its sessions, then frees its claims and its watches.

A daemon that is stopped (SIGSTOP, a suspended host) inside a transaction keeps the locks of that transaction. No
timeout of the server ends it: its statements are in a pipeline, so its session counts as active. When it goes on, it
has lost its sessions, as by any other failure.

So each session of a daemon has a mark: an advisory lock with the daemon's number, which its sessions share. The
statement `end_sessions` says why no other program's session is ended.
"""

from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

from psycopg import errors

from cdc_sync.core.failures import StoreError
from cdc_sync.store.clock import Clock
from cdc_sync.store.delivery import expire
from cdc_sync.store.driver import Run, Transaction
from cdc_sync.store.errors import store_error
from cdc_sync.store.postgres.schema import Connection

_KIND = int.from_bytes(b"cdcs", "big")
"""The marks' first number, which no other application would choose."""

_NUMBERS = 2**31
"""A mark's second number is smaller: a daemon's number is, but for the two thousand millionth daemon of a store."""


class _Session(NamedTuple):
    """A session of the daemon; `own_role` is this daemon's role."""

    process: int
    role: str
    own_role: str
    is_ended: bool


class Marks:
    """The marks of this daemon's sessions."""

    def __init__(self) -> None:
        self._daemons: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()

    async def set(self, connection: Connection, transaction: Transaction, daemon: int | None) -> None:
        """Mark the connection's session, unless it is marked; None: this process is no daemon yet."""
        if daemon is None or self._daemons.get(connection) == daemon:
            return
        await transaction.rows("mark", **_mark(daemon), process=connection.info.backend_pid)
        self._daemons[connection] = daemon


def _mark(daemon: int) -> dict[str, int]:
    return {"kind": _KIND, "number": daemon % _NUMBERS}


async def take_over(run: Run, daemon: int, until: str, clock: Clock) -> bool:
    """Free what a daemon had; returns False if it has renewed its lease, which ended at `until`.

    Raises:
        StoreError: nothing is freed; `store-take-over` if a session keeps it locked.
    """
    lapsed = {"daemon": daemon, "alive_until": until}
    rows = await run(lambda t: t.rows("end_sessions", **_mark(daemon), **lapsed))
    try:
        return bool(await run(partial(expire_daemon, number=daemon, until=until, clock=clock)))
    except StoreError as error:
        if not isinstance(error.__cause__, errors.LockNotAvailable):
            raise
        ((name,),) = await run(lambda t: t.rows("daemon_name", daemon=daemon)) or [("a daemon",)]
        raise _why_not(name, [_Session(*row) for row in rows]) from error


async def expire_daemon(transaction: Transaction, number: int, until: str, clock: Clock) -> bool:
    """Free the claims and the watches of a daemon, and delete its row, unless it has renewed its lease."""
    await transaction.run("wait_briefly")
    # The row's deletion would free claims and watches in any order: see the package's text.
    if not await transaction.rows("lock_daemon", daemon=number, alive_until=until):
        return False
    await transaction.rows("lock_leased", daemon=number)
    await expire(transaction, number, clock(), clock.shift)
    await transaction.run("forget", daemon=number, alive_until=until)
    return True


async def free_ownerless(run: Run, clock: Clock) -> None:
    """Free claims of daemons without a row.

    Raises:
        StoreError: nothing is freed; `store-take-over` if a session keeps one locked.
    """
    try:
        await run(partial(_expire_ownerless, clock=clock))
    except StoreError as error:
        if not isinstance(error.__cause__, errors.LockNotAvailable):
            raise
        raise store_error("store-take-over", daemon="one that the store no longer knows") from error


async def _expire_ownerless(transaction: Transaction, clock: Clock) -> None:
    await transaction.run("wait_briefly")
    for (number,) in await transaction.rows("ownerless"):
        await expire(transaction, number, clock(), clock.shift)


def _why_not(daemon: str, sessions: list[_Session]) -> StoreError:
    refused = [session for session in sessions if not session.is_ended]
    if not refused:
        return store_error("store-take-over", daemon=daemon)
    roles = {"role": refused[0].role, "own_role": refused[0].own_role}
    processes = ", ".join(str(session.process) for session in refused)
    return store_error("store-take-over/role", daemon=daemon, processes=processes, **roles)

"""The doorbell: a sequence that tells the triggers until when somebody sleeps and wants to be woken by NOTIFY.

The arming is a lease: a daemon that is gone costs the ATS nothing, once its lease is over.

Arming alone is not enough. A transaction that read the bell before it was armed may commit after the last drain and
never ring. But it had its transaction id by then, since the row that it changed came before the trigger. So: arm, take
a transaction id, and go on draining at a fast pace until the current snapshot's xmin has passed that id. By then every
such transaction has ended and its change is visible or gone; every later one reads an armed bell and rings. (The xmax
of a snapshot would not do in the place of the id: transactions that are still writing may have higher ones.) Only
renewals within the lease need no such fence: the bell was armed all the time.
"""

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.source.connection import Connection
from cdc_sync.source.reading import fetch

LEASE = 60
"""Seconds for which the bell stays armed without renewal."""

_ARM = "SELECT setval({bell}, extract(epoch FROM clock_timestamp())::bigint + %s)"
_TAKE_ID = "SELECT txid_current()"
_OLDEST = "SELECT txid_snapshot_xmin(txid_current_snapshot())"


class Bell:
    """One watch's bell. Every method raises `SourceError` when the database cannot answer."""

    def __init__(self, pool: AsyncConnectionPool[Connection], watch: str) -> None:
        self._pool = pool
        name = sql.Literal(f"cdc_sync.bell_{watch}")  # a watch's name needs no quotes
        self._arm = sql.SQL(_ARM).format(bell=name)
        self._disarm = sql.SQL("SELECT setval({}, 0)").format(name)

    async def arm(self) -> int:
        """Arm, or renew, for `LEASE` seconds. Returns a transaction id that was taken afterwards."""
        await fetch(self._pool, self._arm, (LEASE,), "arming the doorbell cdc_sync.bell_*")
        ((taken,),) = await fetch(self._pool, sql.SQL(_TAKE_ID), (), "taking a transaction id")
        return int(taken)

    async def is_quiet(self, taken: int) -> bool:
        """Whether every transaction has ended that may have read the bell before it was armed."""
        ((oldest,),) = await fetch(self._pool, sql.SQL(_OLDEST), (), "reading the server's snapshot")
        return int(oldest) > taken

    async def disarm(self) -> None:
        """Nobody sleeps here any more."""
        await fetch(self._pool, self._disarm, (), "disarming the doorbell")

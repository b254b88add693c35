"""The doorbell: a sequence that tells the triggers until when somebody sleeps and wants to be woken by NOTIFY.

The arming is a lease: a daemon that is gone costs the ATS nothing, once its lease is over. It is by the server's clock
alone, so it does not matter for how long a daemon, or its machine, was stopped.

Arming alone is not enough: a transaction that read the bell before may commit later and never ring. So a transaction id
is taken after it, and the log is read until all transactions below have ended; decision 10 has the proof. The bell is a
sequence, whose value is read outside MVCC: a writer with an old snapshot sees it as it is.

Where a NOTIFY could harm the ATS the bell is never armed. PostgreSQL prepares no transaction that has notified
(two-phase commit). And a commit that notifies keeps the cluster's one lock of NOTIFY while it waits for a synchronous
standby: if that stalls, every commit that rings would wait behind it, also one that waits for no standby itself.

Nor is it armed while the server's NOTIFY queue is more than a quarter full: somebody listens inside a transaction, and
when the queue is full each COMMIT that notifies fails.

A bell that is not armed says, by the hour, when the watch was worked last: a time that is over. By it the triggers of a
watch that nobody works stop recording, while others' changes are taken (`sql/recorder_body.sql`). Zero, as earlier
versions left it, and a bell that was never set say nothing.

Whether every transaction has ended that was writing at some moment: a transaction has an id from its first write on. So
take an id: it is above every one that was handed out before. Once a snapshot's xmin has passed it, all these
transactions have ended, and what they wrote is visible or gone. A snapshot's own xmax would not do in the place of the
id: it is one above the highest id that has *ended*, and transactions that are still writing may have higher ones
(src/backend/storage/ipc/procarray.c, GetSnapshotData).
"""

import asyncio

from psycopg import sql

from cdc_sync.source.connection import Pool, Rows
from cdc_sync.source.expressions import sections
from cdc_sync.source.recorders import bell_of

LEASE = 60
"""Seconds for which the bell stays armed without renewal."""

_ROUNDING = 2
"""Seconds by which whole ones may be wrong: a renewal that late in the lease may have been too late."""

_TAKE_ID = "SELECT txid_current()"
_OLDEST = "SELECT txid_snapshot_xmin(txid_current_snapshot())"

_LOOK_EVERY = 0.5
"""Seconds between looks whether transactions have ended."""

_SQL = sections("changelog.sql")

_MOST_OF_QUEUE = 0.25
"""The share of the server's NOTIFY queue beyond which nothing is added to it on our account."""


class QueueFillsUpError(Exception):
    """The bell was not armed, or is disarmed now: the server's NOTIFY queue fills up."""


class Bell:
    """One watch's bell. Every method raises `SourceError` when the database cannot answer."""

    def __init__(self, pool: Pool, watch: str) -> None:
        self._pool = pool
        self._name = f"cdc_sync.{bell_of(watch)}"  # a watch's name needs no quotes
        self._armed_until: int | None = None

    async def arm(self) -> int | None:
        """Arm, or renew, for `LEASE` seconds.

        Returns a transaction id that was taken afterwards: all that may have read the bell before have ended once a
        snapshot's oldest transaction (`changelog.Look`) is above it. None if the bell was armed all
        the time since it was armed last.

        Raises:
            QueueFillsUpError: it is disarmed instead.
        """
        ((before, until),) = await self._ask("arm", "arming the doorbell cdc_sync.bell_*", _MOST_OF_QUEUE, LEASE)
        if not until:
            self._armed_until = None
            raise QueueFillsUpError
        was_armed = before == self._armed_until and until - LEASE <= before - _ROUNDING
        self._armed_until = until
        return None if was_armed else await take_id(self._pool)

    async def disarm(self) -> None:
        """Nobody sleeps here any more."""
        self._armed_until = None
        await self._ask("disarm", "disarming the doorbell")

    async def worked(self, *, begins: bool = True) -> None:
        """Say that somebody works the watch, if the bell has not said so for an hour.

        Unless it `begins`, a bell that was never set stays so.
        """
        await self._ask("worked", "telling that the watch is worked", begins)

    async def _ask(self, statement: str, doing: str, *parameters: float) -> Rows:
        names = {"name": sql.Literal(self._name), "sequence": sql.SQL(self._name)}
        return await self._pool.fetch(sql.SQL(_SQL[statement]).format(**names), parameters, doing)


async def take_id(pool: Pool) -> int:
    """A transaction id above all that write now. Not on a standby, which hands out none.

    Raises:
        SourceError: the database cannot answer.
    """
    ((taken,),) = await pool.fetch(_TAKE_ID, (), "taking a transaction id")
    return int(taken)


async def all_ended(pool: Pool) -> None:
    """Wait until every transaction that writes now has ended, however long that takes.

    Raises:
        SourceError: the database cannot answer.
    """
    taken = await take_id(pool)
    while not await have_ended(pool, taken):  # noqa: ASYNC110 - the server announces it to nobody
        await asyncio.sleep(_LOOK_EVERY)


async def have_ended(pool: Pool, taken: int) -> bool:
    """Whether all transactions below an id have ended.

    Raises:
        SourceError: the database cannot answer.
    """
    ((oldest,),) = await pool.fetch(_OLDEST, (), "reading the server's snapshot")
    return int(oldest) > taken

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
"""

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.source import transactions
from cdc_sync.source.connection import Connection
from cdc_sync.source.expressions import sections
from cdc_sync.source.reading import fetch
from cdc_sync.source.recorders import bell_of

LEASE = 60
"""Seconds for which the bell stays armed without renewal."""

_ROUNDING = 2
"""Seconds by which whole ones may be wrong: a renewal that late in the lease may have been too late."""

_SQL = sections("changelog.sql")

_MOST_OF_QUEUE = 0.25
"""The share of the server's NOTIFY queue beyond which nothing is added to it on our account."""


class QueueFillsUpError(Exception):
    """The bell was not armed, or is disarmed now: the server's NOTIFY queue fills up."""


class Bell:
    """One watch's bell. Every method raises `SourceError` when the database cannot answer."""

    def __init__(self, pool: AsyncConnectionPool[Connection], watch: str) -> None:
        self._pool = pool
        sequence = sql.Identifier("cdc_sync", bell_of(watch))
        name = sql.Literal(f"cdc_sync.{bell_of(watch)}")  # a watch's name needs no quotes
        self._arm = sql.SQL(_SQL["arm"]).format(name=name, sequence=sequence)
        self._disarm = sql.SQL(_SQL["disarm"]).format(name=name)
        self._worked = {
            begins: sql.SQL(_SQL["worked"]).format(name=name, sequence=sequence, begins=begins)
            for begins in (True, False)
        }
        self._armed_until: int | None = None

    async def arm(self) -> int | None:
        """Arm, or renew, for `LEASE` seconds.

        Returns a transaction id that was taken afterwards: all that may have read the bell before have ended once a
        snapshot's oldest transaction (`changelog.Look`) is above it. None if the bell was armed all
        the time since it was armed last.

        Raises:
            QueueFillsUpError: it is disarmed instead.
        """
        parameters = (_MOST_OF_QUEUE, LEASE)
        ((before, until),) = await fetch(self._pool, self._arm, parameters, "arming the doorbell cdc_sync.bell_*")
        if not until:
            self._armed_until = None
            raise QueueFillsUpError
        was_armed = before == self._armed_until and until - LEASE <= before - _ROUNDING
        self._armed_until = until
        return None if was_armed else await transactions.take_id(self._pool)

    async def disarm(self) -> None:
        """Nobody sleeps here any more."""
        self._armed_until = None
        await fetch(self._pool, self._disarm, (), "disarming the doorbell")

    async def worked(self, *, begins: bool = True) -> None:
        """Say that somebody works the watch, if the bell has not said so for an hour.

        Unless it `begins`, a bell that was never set stays so.
        """
        await fetch(self._pool, self._worked[begins], (), "telling that the watch is worked")

"""The change log that the triggers write: consumed with DELETE … RETURNING, never read by a watermark.

A batch is taken in a transaction that stays open while the pipeline stores what follows from it, and commits only
then. If anything in between fails, the transaction rolls back and the same changes come again. A transaction that
commits late simply appears in a later batch.

Only SELECT and DELETE are needed; `FOR UPDATE SKIP LOCKED` would need UPDATE. Nobody else deletes: one daemon works a
watch at a time. Rows are found by their place (ctid) within one statement, so the log needs no index, and the triggers
pay for none.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.hints import Hint
from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.errors import SourceError
from cdc_sync.source.replica_guard import NOW, ReplicaGuard

# In one message, and so in one round trip.
#
# The timeout: a daemon that is suspended, or lost behind a silent network, would keep the batch's rows locked, even
# against its own successor, and VACUUM from cleaning up after the ATS. Recording a batch takes milliseconds.
#
# The commit does not wait for the server's disk: if the server crashes, what was taken a moment before comes again, and
# is no news then. The outcome is durable in our store, before the commit.
_BEGIN = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL idle_in_transaction_session_timeout = '60s';
SET LOCAL synchronous_commit = off;
SELECT txid_snapshot_xmax(txid_current_snapshot()), pg_relation_size(to_regclass('cdc_sync.changes')), {now};
"""
_FACTS = 3
"""The place of that SELECT among the statements."""

# After the changes, too: the rows that they name are read on another connection, which must not be behind them.
_END = """;
SELECT {now}
"""

_OLDER = "SELECT EXISTS (SELECT FROM cdc_sync.changes WHERE watch = {watch} AND changed_at <= {than})"
_NEXT_ID = "SELECT txid_snapshot_xmax(txid_current_snapshot())"

_TAKE = """
DELETE FROM cdc_sync.changes
 WHERE ctid = ANY (ARRAY (SELECT ctid FROM cdc_sync.changes WHERE watch = {watch} LIMIT {limit}))
RETURNING operation::text, row_key, (extract(epoch FROM changed_at) * 1000)::bigint
"""

_LOOK = """
SELECT operation::text, row_key, (extract(epoch FROM changed_at) * 1000)::bigint
  FROM cdc_sync.changes
 WHERE watch = {watch}
 LIMIT {limit}
"""


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of changes.

    Attributes:
        number: how many they are.
        hints: the keys that they name.
        everything: whether one asks for a sweep (TRUNCATE, a changed lookup table).
        full: whether there may be more.
        searched: seconds that it took to find them.
        next_id: the transaction id that the server gives next, about.
        size: bytes of the whole log, those included that were taken and that VACUUM has not made room of.
    """

    number: int
    hints: list[Hint]
    everything: bool
    full: bool
    searched: float
    next_id: int
    size: int


class ChangeLog:
    """One watch's part of the change log.

    With `consume` false (dry run) the log is only looked at. `guard` knows how far any of the servers was that were
    read.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        watch: str,
        *,
        consume: bool = True,
        guard: ReplicaGuard | None = None,
    ) -> None:
        self._pool = pool
        self._watch = watch
        self._guard = guard or ReplicaGuard()
        self.consumes = consume

    @asynccontextmanager
    async def batch(self, limit: int) -> AsyncIterator[Changes]:
        """Take up to `limit` changes; they are gone from the log when the block ends without an exception.

        Raises:
            SourceError: the log cannot be read, or the end could not be committed, or the whole has taken minutes (the
                changes then come again).
        """
        doing = "reading the change log cdc_sync.changes"
        query = sql.SQL(_BEGIN + (_TAKE if self.consumes else _LOOK) + _END).format(
            watch=self._watch, limit=limit, now=NOW
        )
        # Leaving the pool's block commits, or rolls back if there is an exception.
        async with asking(doing), self._pool.connection() as connection:
            started = time.monotonic()
            try:
                # Without parameters: only so may several statements be one message.
                cursor = await connection.execute(query)
            except psycopg.errors.UndefinedTable as error:
                raise SourceError("misconfigured", MISSING) from error
            except psycopg.errors.ObjectNotInPrerequisiteState as error:
                raise SourceError("misconfigured", UNIDENTIFIED) from error
            ((next_id, size, before),) = await (await cursor.set_result(_FACTS)).fetchall()
            self._guard.check(before)
            rows = await (await cursor.set_result(_FACTS + 1)).fetchall()
            ((after,),) = await (await cursor.set_result(-1)).fetchall()
            self._guard.advance(after)
            yield Changes(
                number=len(rows),
                # NULL in a related table's key: it belongs to no application.
                hints=[Hint(tuple(key), at) for _, key, at in rows if key and None not in key],
                everything=any(not key for _, key, _ in rows),
                full=len(rows) == limit,
                searched=time.monotonic() - started,
                next_id=next_id,
                size=size,
            )

    async def next_id(self) -> int:
        """The transaction id that the server gives next, about.

        Raises:
            SourceError: the database cannot answer.
        """
        return int(await self._one(_NEXT_ID, "asking for the next transaction id"))

    async def clock(self) -> str:
        """The server's clock, as a text that does not depend on DateStyle."""
        return str(await self._one("SELECT to_json(clock_timestamp()) #>> '{}'", "asking for the time"))

    async def has_older(self, than: str) -> bool:
        """Whether there are changes that were recorded before a moment of the server's clock."""
        query = sql.SQL(_OLDER).format(watch=self._watch, than=sql.Literal(than))
        return bool(await self._one(query, "reading the change log cdc_sync.changes"))

    async def _one(self, query: LiteralString | sql.Composed, doing: str) -> Any:
        async with asking(doing), self._pool.connection() as connection:
            ((found,),) = await (await connection.execute(query)).fetchall()
        return found


MISSING = (
    "The change log cdc_sync.changes does not exist: the triggers are not installed in this database. Let the DBA run "
    "what `cdc-sync sql install` and `cdc-sync sql grants` print, or use capture.mode poll."
)
UNIDENTIFIED = (
    "A publication takes in the change log cdc_sync.changes, whose rows have no replica identity, so PostgreSQL lets "
    "nobody take them out. Let the DBA run what `cdc-sync sql install` prints, which gives them one."
)

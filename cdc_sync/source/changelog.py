"""The change log that the triggers write: what was read of it is deleted, never passed by a watermark.

A batch is read by one statement, and deleted by another one once the pipeline has stored what follows from it. In
between nothing is open: no transaction, no lock, no connection of the pool. So a daemon that is stopped there holds
nothing up, and one connection is enough for the log and the rows. If anything fails before the second statement, the
same changes come again. A transaction that commits late simply appears in a later batch.

SELECT and DELETE are needed, and TRUNCATE to give the file's space back. Rows are found by their place (ctid), so the
log needs no index, and the triggers pay for none. Another row may have come to that place meanwhile, if another daemon
has deleted ours and VACUUM has made room. So a row is deleted only if it was written (xmin) by one of the transactions
whose rows the batch has: these had ended when it was read, and write no more. VACUUM FULL moves their other rows, too:
into another file, whose rows have other places.
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

# In one message, and so in one round trip. Each statement has a snapshot of its own; after the changes it is asked once
# more how far the server is, since the rows that they name are read afterwards, and must not be behind them.
_READ = """
SELECT pg_relation_size(to_regclass('cdc_sync.changes')), {now};
SELECT operation::text, row_key, (extract(epoch FROM changed_at) * 1000)::bigint, ctid::text, xmin::text
  FROM cdc_sync.changes
 WHERE watch = {watch}
 LIMIT {limit};
SELECT {now}, pg_relation_filenode('cdc_sync.changes')::text
"""

# With the first batch, which may be empty: that nothing can be deleted is to be said before something has to be.
_MAY_DELETE = """;
DELETE FROM cdc_sync.changes WHERE false
"""

# The commit does not wait for the server's disk: if the server crashes, what was deleted a moment before comes again,
# and is no news then. The outcome is durable in our store, before the commit.
_DELETE = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit = off;
DELETE FROM cdc_sync.changes
 WHERE ctid = ANY ({places}::tid[]) AND xmin = ANY ({writers}::xid[]) AND watch = {watch}
   AND pg_relation_filenode('cdc_sync.changes') = {file}::oid;
COMMIT
"""

# The file is shortened by us, and seldom, since that cancels whoever holds a lock on the log on a standby, as pg_dump
# does. Not where subscribers get the TRUNCATE: they may have a log of their own. A file that VACUUM has not cleaned may
# be so for a standby's sake (hot_standby_feedback): only a nearly full one is shortened all the same.
_MAY_GIVE_BACK = """
SELECT CASE WHEN {nearly_full} OR relallvisible > relpages / 2
            THEN NOT EXISTS (SELECT FROM pg_publication_tables WHERE schemaname = 'cdc_sync' AND tablename = 'changes')
       END
  FROM pg_class
 WHERE oid = to_regclass('cdc_sync.changes') AND NOT EXISTS (SELECT FROM cdc_sync.changes)
"""

# One message, so that a daemon that is stopped holds no lock. We do not wait for the lock, and nobody waits behind us.
# Who writes while we have it waits for a walk through an empty file, and no longer than `statement_timeout`, which must
# be set by an earlier message on PostgreSQL 10. Each statement has a snapshot of its own: once we have the lock, we see
# all that was committed, and nothing else is under way.
_GIVE_BACK = """
DO $cdc_sync$
BEGIN
    LOCK TABLE cdc_sync.changes IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT EXISTS (SELECT FROM cdc_sync.changes) THEN
        TRUNCATE cdc_sync.changes;
    END IF;
EXCEPTION WHEN lock_not_available OR insufficient_privilege THEN
    NULL; -- Without an error in the server's log: there will be another time, or `cdc-sync check` says what is missing.
END
$cdc_sync$;
COMMIT
"""
_GIVE_BACK_WITHIN = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit = off;
SET LOCAL statement_timeout = '200ms'
"""

_OLDER = "SELECT EXISTS (SELECT FROM cdc_sync.changes WHERE watch = {watch} AND changed_at <= {than})"


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of changes.

    Attributes:
        number: how many they are.
        hints: the keys that they name.
        everything: whether one asks for a sweep (TRUNCATE, a changed lookup table).
        full: whether there may be more.
        searched: seconds that it took to find them.
        size: bytes of the whole log, those included that were taken and that VACUUM has not made room of.
    """

    number: int
    hints: list[Hint]
    everything: bool
    full: bool
    searched: float
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
        self._may_delete = not consume

    @asynccontextmanager
    async def batch(self, limit: int) -> AsyncIterator[Changes]:
        """Read up to `limit` changes; they are deleted from the log when the block ends without an exception.

        Raises:
            SourceError: the log cannot be read, or they could not be deleted (they then come again).
        """
        query = sql.SQL(_READ if self._may_delete else _READ + _MAY_DELETE).format(
            watch=self._watch, limit=limit, now=NOW
        )
        started = time.monotonic()
        async with self._asking() as connection:
            # Without parameters: only so may several statements be one message.
            cursor = await connection.execute(query)
            ((size, before),) = await cursor.fetchall()
            self._guard.check(before)
            rows = await (await cursor.set_result(1)).fetchall()
            ((after, file),) = await (await cursor.set_result(2)).fetchall()
            self._guard.advance(after)
            self._may_delete = True
        yield Changes(
            number=len(rows),
            # NULL in a related table's key: it belongs to no application.
            hints=[Hint(tuple(key), at) for _, key, at, *_ in rows if key and None not in key],
            everything=any(not key for _, key, *_ in rows),
            full=len(rows) == limit,
            searched=time.monotonic() - started,
            size=size,
        )
        if rows and self.consumes:
            *_, places, writers = zip(*rows, strict=True)
            delete = sql.SQL(_DELETE).format(
                places=list(places), writers=sorted(set(writers)), watch=self._watch, file=file
            )
            async with self._asking() as connection:
                await connection.execute(delete)

    async def give_back(self, *, nearly_full: bool) -> None:
        """Shorten the log's file, if nothing is in it and nobody uses it at this moment.

        Raises:
            SourceError: the database cannot answer.
        """
        query = sql.SQL(_MAY_GIVE_BACK).format(nearly_full=nearly_full)
        async with self._asking() as connection:
            if (True,) not in await (await connection.execute(query)).fetchall():
                return
            await connection.execute(_GIVE_BACK_WITHIN)
            try:
                await connection.execute(_GIVE_BACK)
            except psycopg.errors.QueryCanceled:
                await connection.execute("ROLLBACK")

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Connection]:
        async with asking("reading the change log cdc_sync.changes"), self._pool.connection() as connection:
            try:
                yield connection
            except psycopg.errors.UndefinedTable as error:
                raise SourceError("log-missing", MISSING) from error
            except psycopg.errors.ObjectNotInPrerequisiteState as error:
                raise SourceError("log-published", UNIDENTIFIED) from error

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

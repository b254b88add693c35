"""The change log that the triggers write: what was read of it is deleted, never passed by a watermark.

A batch of changes and the current rows that they are about are read by one statement, in one snapshot: a snapshot that
shows an entry of the log shows the row as that entry's transaction left it, or newer. The batch is deleted by a second
statement, once the pipeline has stored what follows from it. In between nothing is open: no transaction, no lock, no
connection of the pool. So a daemon that is stopped there holds nothing up, and one connection is enough for all that a
batch needs. If anything fails before the second statement, the same changes come again. A transaction that commits late
simply appears in a later batch. [Decision 20](../../docs/decisions/0020-one-statement-for-a-change.md).

SELECT and DELETE are needed, and TRUNCATE to give the file's space back. Rows are found by their place (ctid), so the
log needs no index, and the triggers pay for none. Another row may have come to that place meanwhile, if another daemon
has deleted ours and VACUUM has made room. So a row is deleted only if it was written (xmin) by one of the transactions
whose rows the batch has: these had ended when it was read, and write no more. VACUUM FULL moves their other rows, too:
into another file, whose rows have other places.

Where the triggers may ring for a change (`source.bell`), `listen` hears it, on the session that also holds the lock.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.rows import Key
from cdc_sync.source.connection import Connection, asking
from cdc_sync.source.errors import Code, SourceError, translate
from cdc_sync.source.reading import Read, Reader
from cdc_sync.source.replica_guard import NOW, ReplicaGuard
from cdc_sync.source.session import ECHO_WITHIN, Session, at_once

# What is read of the log, as one JSON text in a row of its own. `batch` is planned and read once. The join gives
# nothing, but lets a prepared statement lock the log before the table: see decision 20.
_BATCH = """
WITH batch AS (
    SELECT row_key, changed_at, ctid AS place, xmin::text AS writer
      FROM cdc_sync.changes WHERE watch = {watch} LIMIT %s
)
SELECT {nulls} json_build_array(
    (SELECT json_agg(json_build_array(row_key, (extract(epoch FROM changed_at) * 1000)::bigint)) FROM batch),
    pg_relation_size('cdc_sync.changes'), {now},
    (SELECT array_agg(place)::text FROM batch), (SELECT array_agg(DISTINCT writer)::text FROM batch),
    pg_relation_filenode('cdc_sync.changes')::text, {table_size}
)::text FROM (SELECT) AS one LEFT JOIN cdc_sync.changes ON false
"""

# The rows of the batch's keys, each once. Arrays rather than a join: their length is guessed alike whatever the log's
# statistics say (mostly that it is empty), so a key's index is used where it has one, and one scan serves where not.
_AND_ROWS = "{batch} UNION ALL SELECT r.*, NULL FROM ({rows}) AS r"
_PART_OF_KEYS = "ARRAY(SELECT row_key[{part}] FROM batch)"

# Before the first batch, which may be empty: that nothing can be deleted is to be said before something has to be.
_MAY_DELETE = "DELETE FROM cdc_sync.changes WHERE false"

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

MISSING = (
    "The change log cdc_sync.changes does not exist: the triggers are not installed in this database. Let the DBA run "
    "what `cdc-sync sql install` and `cdc-sync sql grants` print, or use capture.mode poll."
)
UNIDENTIFIED = (
    "A publication takes in the change log cdc_sync.changes, whose rows have no replica identity, so PostgreSQL lets "
    "nobody take them out. Let the DBA run what `cdc-sync sql install` prints, which gives them one."
)

CHANNEL = "cdc_sync"

_ECHO = "SELECT 'cdc_sync_echo_' || pg_backend_pid(), pg_notification_queue_usage()"
_NOTIFY_OURSELVES = """\
SELECT pg_notify(%s, ''), pg_notification_queue_usage(), current_setting('cdc_sync.session', true)"""

_DOING = "reading the change log cdc_sync.changes"
_MEANINGS: dict[type[psycopg.Error], tuple[Code, str]] = {
    psycopg.errors.UndefinedTable: ("log-missing", MISSING),
    psycopg.errors.ObjectNotInPrerequisiteState: ("log-published", UNIDENTIFIED),
}


def latest(changes: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """Each key once, with the time of its last change: many changes of one row are one reading of it."""
    times: dict[Key, int] = {}
    for key, at in changes:
        times[key] = max(at, times.get(key, at))
    return times


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of changes.

    Attributes:
        number: how many they are.
        times: the keys that they name, each with the time of its last change, in milliseconds since the epoch.
        rows: the rows of these keys, read in the same snapshot; None if they have to be read apart.
        everything: whether one asks for a sweep (TRUNCATE, a changed lookup table).
        full: whether there may be more.
        searched: seconds that it took to find them.
        size: bytes of the whole log, those included that were taken and that VACUUM has not made room of.
        places: where they are in the log's `file`, as an array of SQL.
        writers: the transactions that wrote them, likewise.
        file: the log's file, which a rewrite replaces.
    """

    number: int
    times: dict[Key, int]
    rows: Read | None
    everything: bool
    full: bool
    searched: float
    size: int
    places: str
    writers: str
    file: str


class ChangeLog:
    """One watch's part of the change log.

    With `consume` false (dry run) the log is only looked at. `guard` knows how far any of the servers was that were
    read. Without a `reader` no rows come with the changes.

    Attributes:
        consumes: whether changes are deleted.
        statement: what reads a batch with its rows; the parameter is how many changes. None if rows are read apart.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        watch: str,
        reader: Reader | None = None,
        *,
        consume: bool = True,
        guard: ReplicaGuard | None = None,
    ) -> None:
        self._pool = pool
        self._watch = watch
        self._reader = reader
        self._guard = guard or ReplicaGuard()
        self.consumes = consume
        self._may_delete = not consume
        # As text, once: to compose a statement takes longer than to ask for it.
        self._alone = sql.SQL(_BATCH).format(nulls=sql.SQL(""), watch=watch, now=NOW, table_size=0).as_string()
        self.statement = None if reader is None else _with_rows(watch, reader)
        self._table_size = 0
        self._may_prepare = True

    async def read(self, limit: int, *, apart: bool = False) -> Changes:
        """Read up to `limit` changes, and the rows that they are about, unless these are to be read `apart`.

        Apart, the ATS's table is not touched: so it is while nobody expects changes.

        Raises:
            SourceError: the log cannot be read, or nothing can be deleted from it.
        """
        query, reader = self.statement, self._reader
        if apart or query is None or reader is None:
            query, reader = self._alone, None
        else:
            limit = min(limit, reader.size.fit)
        table_size = self._table_size if reader is not None and self._may_prepare else 0
        begun = time.monotonic()
        try:
            async with asking(_DOING, _MEANINGS), self._pool.connection() as connection:
                if not self._may_delete:
                    await connection.execute(_MAY_DELETE)
                    self._may_delete = True
                # Prepared: to plan it takes three times as long as to run it, for one change. But a plan is kept, and
                # that of a small table may be to read all of it: each time it has doubled, it is another statement.
                text = f"{query} -- {table_size.bit_length()}".encode(connection.info.encoding)
                cursor = await connection.execute(text, (limit,), prepare=bool(table_size))
                fetched = await cursor.fetchall()
            searched = time.monotonic() - begun
            # As far as SQL goes, it may be any of them.
            batch = fetched.pop(next(number for number, row in enumerate(fetched) if row[-1] is not None))[-1]
            listed, size, position, places, writers, file, found_size = json.loads(batch)
            self._guard.advance(position)
        except SourceError as error:
            # One row, or one key, makes the statement fail. Or all is wrong: then reading apart tells what.
            if reader is None or error.kind == "unreachable":
                raise
            # Maybe it fails because it is prepared, and would for as long as the connection lasts.
            self._may_prepare = self._may_prepare and not table_size
            return await self.read(limit, apart=True)
        listed = listed or []
        if reader is not None:
            self._table_size = found_size or 0
        return Changes(
            number=len(listed),
            # NULL in a related table's key: it belongs to no application.
            times=latest((tuple(key), at) for key, at in listed if key and None not in key),
            rows=None if reader is None else reader.taken(fetched),
            everything=not all(key for key, _ in listed),
            full=len(listed) == limit,
            searched=searched,
            size=size,
            places=places,
            writers=writers,
            file=file,
        )

    async def delete(self, changes: Changes) -> None:
        """Delete from the log what was read of it.

        Raises:
            SourceError: it could not be deleted, and comes again.
        """
        if not changes.number or not self.consumes:
            return
        delete = sql.SQL(_DELETE).format(
            places=changes.places, writers=changes.writers, watch=self._watch, file=changes.file
        )
        async with asking(_DOING, _MEANINGS), self._pool.connection() as connection:
            # Without parameters: only so may several statements be one message.
            await connection.execute(delete)

    async def give_back(self, *, nearly_full: bool) -> None:
        """Shorten the log's file, if nothing is in it and nobody uses it at this moment.

        Raises:
            SourceError: the database cannot answer.
        """
        query = sql.SQL(_MAY_GIVE_BACK).format(nearly_full=nearly_full)
        async with asking(_DOING, _MEANINGS), self._pool.connection() as connection:
            if (True,) not in await (await connection.execute(query)).fetchall():
                return
            await connection.execute(_GIVE_BACK_WITHIN)
            try:
                await connection.execute(_GIVE_BACK)
            except psycopg.errors.QueryCanceled:
                await connection.execute("ROLLBACK")

    async def clock(self) -> str:
        """The server's clock, as a text that does not depend on DateStyle."""
        return str(await self._one("SELECT to_json(clock_timestamp()) #>> '{}'", "asking for the time"))

    async def has_older(self, than: str) -> bool:
        """Whether there are changes that were recorded before a moment of the server's clock."""
        query = sql.SQL(_OLDER).format(watch=self._watch, than=sql.Literal(than))
        return bool(await self._one(query, _DOING))

    async def _one(self, query: LiteralString | sql.Composed, doing: str) -> Any:
        async with asking(doing), self._pool.connection() as connection:
            ((found,),) = await (await connection.execute(query)).fetchall()
        return found


def _with_rows(watch: str, reader: Reader) -> str | None:
    """The statement that reads a batch and its rows; None if the rows have to be read apart."""
    beside = reader.beside([sql.SQL(_PART_OF_KEYS).format(part=part + 1) for part in range(reader.key_parts)])
    if beside is None:
        return None
    rows, width = beside
    size = sql.SQL("pg_relation_size({})").format(reader.table)
    batch = sql.SQL(_BATCH).format(nulls=sql.SQL("NULL, " * width), watch=watch, now=NOW, table_size=size)
    return sql.SQL(_AND_ROWS).format(batch=batch, rows=rows).as_string()


async def listen(
    session: Session,
    ring: Callable[[], None],
    prove_every: float,
    proved: Callable[[float], None] | None = None,
    *,
    within: float = ECHO_WITHIN,
) -> None:
    """Call `ring` at each notification, for ever; the first call is right after LISTEN has taken effect.

    Changes committed before LISTEN rang for nobody, so the first call makes the listener drain. Every `prove_every`
    seconds the connection notifies itself: a half-open one fails to send, and a deaf one hears nothing within `within`
    seconds.

    Each time, also at the beginning, `proved` is told which share of the server's NOTIFY queue is in use.

    Raises:
        SourceError: the connection is lost, or deaf, or its session is another's too.
    """
    proved = proved or (lambda _: None)
    connection = session.connection
    try:
        async with at_once(within):
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
            proved(await _prove(session, echo, ring, within))
    except psycopg.Error as error:
        raise translate(error, "listening for changes") from error


async def _prove(session: Session, echo: str, ring: Callable[[], None], within: float) -> float:
    """Hear from ourselves; returns the share of the server's NOTIFY queue that is in use."""
    try:
        async with asyncio.timeout(within):
            row = await (await session.connection.execute(_NOTIFY_OURSELVES, (echo,))).fetchone()
            _, usage, token = row or (None, 0.0, None)
            session.recognise(token)
            # Left early, it holds the connection until it is closed.
            async with aclosing(session.connection.notifies()) as notifications:
                async for notification in notifications:
                    if notification.channel == echo:
                        break
                    ring()
    except TimeoutError as error:
        raise SourceError(
            "listener-deaf",
            f"The listening connection is deaf: its own notification did not come back within {within:.0f} s. "
            f"Something between here and PostgreSQL loses notifications: let database.dsn lead directly to the server.",
        ) from error
    return float(usage)

"""The change log that the triggers write.

One statement reads a batch of changes. Another deletes the batch once its rows are read and the result is stored; if
anything fails before, the same changes come again. In between no transaction, lock or connection is held.

The role needs SELECT and DELETE, and TRUNCATE to give the file's space back.

Rows are deleted by their place (ctid), so the log needs no index. After another daemon's DELETE and a VACUUM another
row may be there. So one of the batch's transactions, which had ended at the read, must have written it (xmin). VACUUM
FULL moves their other rows into another file, which is compared too.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from psycopg import errors, sql

from cdc_sync.ats import expressions
from cdc_sync.ats.connection import NOW, Connection, Pool, rows_of
from cdc_sync.ats.errors import source_error
from cdc_sync.ats.expressions import composed, sections
from cdc_sync.core.rows import Key

_SQL = sections("changelog.sql")

# Before the first batch, which may be empty: a missing right is reported at once.
_MAY_DELETE = "DELETE FROM cdc_sync.changes WHERE false"

_CLOCK = sql.SQL("SELECT to_json(clock_timestamp()) #>> '{}'")
_DOING = "reading the change log cdc_sync.changes"

_TAKE_ID = "SELECT txid_current()"
_OLDEST = "SELECT txid_snapshot_xmin(txid_current_snapshot())"

_ENDED_EVERY = 0.5
"""Seconds between checks whether transactions have ended."""


def latest(changes: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """Each key once, with the time of its last change."""
    times: dict[Key, int] = {}
    for key, at in changes:
        times[key] = max(at, times.get(key, at))
    return times


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of changes.

    Attributes:
        times: each key's last change, in milliseconds since the epoch.
        everything: whether one requires a sweep (TRUNCATE, a changed lookup table).
        size: bytes of the whole log, dead rows included.
        places: the places, the writing transactions, and the log's file, as SQL.
    """

    number: int
    times: dict[Key, int]
    everything: bool
    full: bool
    size: int
    places: tuple[str, str, str]


class ChangeLog:
    """One watch's part of the change log, only read unless `consume`."""

    def __init__(self, pool: Pool, watch: str, *, consume: bool = True) -> None:
        self._pool = pool
        self._watch = watch
        self.consumes = consume
        self._may_delete = not consume
        # A batch of which nothing was deleted, without an error.
        self._kept: tuple[str, ...] = ()
        # As text: composing a statement takes longer than running it.
        self._batch = composed(_SQL["batch"], watch=expressions.literal(watch), now=NOW).as_string()

    async def read(self, limit: int) -> Changes:
        """Read up to `limit` changes.

        A missing right to delete them is an error at once, before the first batch.
        """
        if not self._may_delete:
            await self._pool.ask(_DOING, lambda connection: connection.execute(_MAY_DELETE))
            self._may_delete = True
        batch = partial(rows_of, query=self._batch, parameters=(limit,), prepare=True)
        ((text,),) = await self._pool.ask(_DOING, batch)
        listed, size, position, *places = json.loads(text)
        self._pool.guard.advance(position)
        listed = listed or []
        # A related table's key with NULL belongs to no application.
        times = latest((tuple(key), at) for key, at in listed if key and None not in key)
        everything, full = not all(key for key, _ in listed), len(listed) == limit
        return Changes(len(listed), times, everything, full, size, tuple(places))

    async def delete(self, changes: Changes) -> None:
        """Delete the batch; raises `SourceError` also if it stays twice. Once, another daemon may have taken it."""
        if not changes.number or not self.consumes:
            return
        places, writers, file = changes.places
        query = sql.SQL(_SQL["delete"]).format(places=places, writers=writers, watch=self._watch, file=file)

        async def delete(connection: Connection) -> bool:
            # Only without parameters may several statements be one message.
            cursor, deleted = await connection.execute(query), False
            while cursor.nextset():
                deleted = deleted or cursor.rowcount > 0
            return deleted

        if await self._pool.ask(_DOING, delete):
            self._kept = ()
        elif self._kept == changes.places:
            raise source_error("log-kept")
        else:
            self._kept = changes.places

    async def give_back(self, *, nearly_full: bool) -> None:
        """Truncate the log's file if it is empty and unused."""
        query = composed(_SQL["may_give_back"], nearly_full=nearly_full)

        async def shorten(connection: Connection) -> None:
            try:
                if (True,) not in await rows_of(connection, query):
                    return
            except errors.LockNotAvailable:
                return  # being rewritten
            await connection.execute(_SQL["give_back_within"])
            try:
                await connection.execute(_SQL["give_back"])
            except errors.QueryCanceled:
                await connection.execute("ROLLBACK")

        await self._pool.ask(_DOING, shorten)

    async def clock(self) -> str:
        """The server's clock, as a text independent of DateStyle."""
        ((now,),) = await self._pool.fetch(_CLOCK, (), "asking for the time")
        return str(now)

    async def has_older(self, than: str) -> bool:
        """Whether there are changes up to a moment of the server's clock."""
        query = composed(_SQL["older"], watch=expressions.literal(self._watch), than=than)
        ((has,),) = await self._pool.fetch(query, (), _DOING)
        return bool(has)


async def take_id(pool: Pool) -> int:
    """A transaction id above those of all present writers; a standby assigns none.

    Once a snapshot's xmin has passed it, what they wrote is visible or gone. A snapshot's xmax may be too low (decision
    3).
    """
    ((taken,),) = await pool.fetch(_TAKE_ID, (), "taking a transaction id")
    return int(taken)


async def all_ended(pool: Pool) -> None:
    """Wait until every present writer has ended, however long that takes."""
    taken = await take_id(pool)
    while not await have_ended(pool, taken):  # noqa: ASYNC110 - the server announces it to nobody
        await asyncio.sleep(_ENDED_EVERY)


async def have_ended(pool: Pool, taken: int) -> bool:
    """Whether all transactions below an id have ended."""
    ((oldest,),) = await pool.fetch(_OLDEST, (), "reading the server's snapshot")
    return int(oldest) > taken

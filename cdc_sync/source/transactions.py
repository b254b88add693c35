"""Whether every transaction has ended that was writing at some moment.

A transaction has an id from its first write on. So take an id: it is above every one that was handed out before. Once a
snapshot's xmin has passed it, all these transactions have ended, and what they wrote is visible or gone. A snapshot's
own xmax would not do in the place of the id: it is one above the highest id that has *ended*, and transactions that are
still writing may have higher ones (src/backend/storage/ipc/procarray.c, GetSnapshotData).
"""

import asyncio

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from cdc_sync.source.connection import Connection
from cdc_sync.source.reading import fetch

_TAKE_ID = sql.SQL("SELECT txid_current()")
_OLDEST = sql.SQL("SELECT txid_snapshot_xmin(txid_current_snapshot())")

_LOOK_EVERY = 0.5
"""Seconds between looks whether transactions have ended."""


async def take_id(pool: AsyncConnectionPool[Connection]) -> int:
    """A transaction id above all that write now. Not on a standby, which hands out none.

    Raises:
        SourceError: the database cannot answer.
    """
    ((taken,),) = await fetch(pool, _TAKE_ID, (), "taking a transaction id")
    return int(taken)


async def all_ended(pool: AsyncConnectionPool[Connection]) -> None:
    """Wait until every transaction that writes now has ended, however long that takes.

    Raises:
        SourceError: the database cannot answer.
    """
    taken = await take_id(pool)
    while not await have_ended(pool, taken):  # noqa: ASYNC110 - the server announces it to nobody
        await asyncio.sleep(_LOOK_EVERY)


async def have_ended(pool: AsyncConnectionPool[Connection], taken: int) -> bool:
    """Whether all transactions below an id have ended.

    Raises:
        SourceError: the database cannot answer.
    """
    ((oldest,),) = await fetch(pool, _OLDEST, (), "reading the server's snapshot")
    return int(oldest) > taken

"""Taking changes from the log by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cdc_sync.ats.notify import ChangeLog, Changes


@asynccontextmanager
async def batch(log: ChangeLog, limit: int) -> AsyncIterator[Changes]:
    """Up to `limit` changes; they are deleted from the log when the block ends without an exception."""
    changes = await log.read(limit)
    yield changes
    await log.delete(changes)

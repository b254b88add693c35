"""A watch's session with its lock, as a daemon has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cdc_sync.source.session import LastSession, Session, own_session


@asynccontextmanager
async def session(dsn: str, watch: str, last: LastSession | None = None) -> AsyncIterator[Session]:
    """Connect and lock the watch; `last` is the session before, and takes the new one."""
    last = last or LastSession()
    async with own_session(dsn) as own:
        await own.lock(watch, last.process)
        last.process = own.process
        yield own

"""A watch's session with its lock, as a daemon has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cdc_sync.ats.session import Process, Session, own_session


@dataclass(slots=True)
class LastSession:
    """What a daemon remembers of the session that it had."""

    process: Process | None = None


@asynccontextmanager
async def session(dsn: str, watch: str, last: LastSession | None = None) -> AsyncIterator[Session]:
    """Connect and lock the watch; `last` is the session before, and takes the new one."""
    last = last or LastSession()
    async with own_session(dsn) as own:
        await own.lock(watch, *filter(None, [last.process]))
        last.process = own.process
        yield own

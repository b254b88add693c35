"""The lead of a daemon, with a store in memory, and nothing started."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cdc_sync.config import Config
from cdc_sync.core.events import Event
from cdc_sync.daemon.chores import Tenants
from cdc_sync.daemon.leading import Leading
from cdc_sync.daemon.process import Process
from cdc_sync.daemon.running import Daemon
from cdc_sync.event_loop import end
from cdc_sync.store.lead import Lead, Leader
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.sqlite.schema import connect_copy


def a_process(config: Config, emit: Callable[[Event], None]) -> Process:
    """A daemon's process; `emit` gets its events."""
    process = Process(config, [lambda: {Event: emit}], print, dry_run=True)
    Daemon(process, lambda: config, lambda _: None)  # which makes its admin server
    return process


@asynccontextmanager
async def a_lead(process: Process) -> AsyncIterator[Leading]:
    """The process leads within this, and only shows its calls."""
    driver = SqliteDriver(Path("in memory"), connection=connect_copy(None))
    lead = Lead(driver, Leader.here(""))
    try:
        yield Leading(process, lead, Tenants(process))
    finally:
        await end([lead.holding])
        await driver.close()

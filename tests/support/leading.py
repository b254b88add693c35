"""The lead of a daemon, with a store in memory, and nothing started."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cdc_sync.config import Config
from cdc_sync.core.events import Event
from cdc_sync.daemon.leading import Leading
from cdc_sync.daemon.process import Process
from cdc_sync.daemon.running import _Daemon
from cdc_sync.daemon.tenants import Tenants
from cdc_sync.daemon.wiring import Rehearsal
from cdc_sync.delivery.client import Client
from cdc_sync.event_loop import end
from cdc_sync.store.lead import Lead
from cdc_sync.store.leader import Leader
from cdc_sync.store.sqlite import SqliteDriver
from cdc_sync.store.sqlite.schema import connect_copy


def a_process(config: Config, emit: Callable[[Event], None]) -> Process:
    """A daemon's process; `emit` gets its events."""
    process = Process(config, print, None, dry_run=False, beat_every=10.0)
    _Daemon(process, [lambda: {Event: emit}])  # which handles its events, and makes its admin server
    return process


@asynccontextmanager
async def a_lead(
    process: Process, caller: Client | None = None, driver: SqliteDriver | None = None
) -> AsyncIterator[Leading]:
    """The process leads within this; without a client it only shows its calls."""
    driver = driver or SqliteDriver(Path("in memory"), connection=connect_copy(None))
    lead = Lead(driver, Leader.here(""))
    try:
        yield Leading(process, lead, caller or Rehearsal(print), process.config, Tenants(process.emit))
    finally:
        await end([lead.holding])
        await driver.close()

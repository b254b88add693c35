"""What of the daemon's process outlives a lead: its configuration, its events, its signals."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config, ConfigurationError
from cdc_sync.core import events
from cdc_sync.core.conditions import NONE, Conditions
from cdc_sync.core.events import Dispatch, Event
from cdc_sync.event_loop import end
from cdc_sync.store.lead import Lead
from cdc_sync.store.protocol import WatchCounts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reread:
    """Reads the configuration again; `used` is called when that is in use."""

    read: Callable[[], Config]
    used: Callable[[Config], None]


@dataclass(eq=False)
class Process:
    """See the module's text.

    Attributes:
        signalled: set by each signal.
        stopping: set by the signal that asked for the end.
        conditions_changed: set when one begins, ends or changes.
        counts: what the store had of each watch a moment ago; None if that is unknown, or this daemon does not lead.
    """

    config: Config
    show: Callable[[str], None]
    reread: Reread | None
    dry_run: bool
    beat_every: float
    metrics: EventMetrics = field(default_factory=EventMetrics)
    conditions: Conditions = field(default_factory=lambda: NONE)
    conditions_changed: asyncio.Event = field(default_factory=asyncio.Event)
    counts: Mapping[str, WatchCounts] | None = None
    signalled: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    is_reload_wanted: bool = False
    events: Dispatch = field(init=False)
    admin: AdminServer = field(init=False)

    def emit(self, event: Event) -> None:
        """Report an event."""
        self.events.emit(event)

    async def reload(self) -> bool:
        """Use the file's present configuration; returns False, and reports why, if it cannot be used.

        If the file is not valid, or changes a setting that needs a restart, the whole configuration in use stays: never
        a mixture of two files.
        """
        self.is_reload_wanted = False
        if self.reread is None:
            return False
        self.emit(events.ReloadStarted())
        config, refusal = self.config, tuple[str, ...]()
        try:
            config = await asyncio.to_thread(self.reread.read)
        except ConfigurationError as error:
            refusal = tuple(str(error).splitlines())
        if refusal := refusal or changes_that_need_a_restart(self.config, config):
            self.emit(events.ReloadRefused(refusal))
            return False
        self.config = config
        self.admin.use(config)
        self.reread.used(config)
        self.events.rebuild()  # the log's level may differ
        return True


async def until(
    event: asyncio.Event, *, besides: Collection[asyncio.Task[Any]] = (), within: float | None = None
) -> None:
    """Wait for an event, one of the tasks `besides`, or so many seconds."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([waiting, *besides], return_when=asyncio.FIRST_COMPLETED, timeout=within)
    finally:
        await end([waiting])


async def unless(
    event: asyncio.Event, work: Coroutine[Any, Any, T], *, besides: Collection[asyncio.Task[Any]] = ()
) -> T | None:
    """What some work returns; None if an event, or the end of a task `besides`, comes first."""
    working = asyncio.create_task(work)
    try:
        await until(event, besides=[working, *besides])
    finally:
        # Without an answer, psycopg ignores one cancellation: `end` repeats it.
        await end([working])
    return None if working.cancelled() else working.result()


async def while_leading(lead: Lead, work: Coroutine[Any, Any, T], event: asyncio.Event | None = None) -> T | None:
    """What some work returns; None if an event comes first.

    Raises:
        StoreError: the lead is lost meanwhile.
    """
    result = await unless(event or asyncio.Event(), work, besides=[lead.holding])
    if lead.holding.done():
        lead.holding.result()
    return result


def changes_that_need_a_restart(now: Config, then: Config) -> tuple[str, ...]:
    """A line for each changed setting that only a restart can change."""
    before, after = _of_the_process(now), _of_the_process(then)
    shown = {"database.dsn": f"{then.section_of(next(iter(then.all_databases)))}.dsn"}
    changed = [shown.get(key, key) for key in before if before[key] != after[key]]
    return tuple(
        f"{key} cannot be changed while the daemon runs: restart it for that, or write the present value again"
        for key in changed
    )


def _of_the_process(config: Config) -> dict[str, object]:
    """The settings of the process: the store and the address."""
    state = config.state
    shares_database = state.backend == "postgres" and state.dsn is None
    (database, *_) = config.all_databases.values()
    return {
        **{f"state.{key}": getattr(state, key) for key in ("backend", "path", "dsn")},
        "database.dsn": database.dsn if shares_database else None,
        "admin.listen": config.admin.listen,
    }

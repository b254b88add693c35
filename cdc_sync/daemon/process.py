"""What of the daemon's process outlives a lead: its configuration, its events, and what is wrong now."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from cdc_sync.admin.metrics import EventMetrics
from cdc_sync.admin.server import AdminServer
from cdc_sync.config import Config
from cdc_sync.core import conditions, events
from cdc_sync.core.conditions import Conditions
from cdc_sync.core.events import Consumer, Dispatch, Event
from cdc_sync.event_loop import end
from cdc_sync.store.report import WatchCounts

T = TypeVar("T")

_STATES = conditions.KIND_OF.keys() - {
    *(events.WatchConnected, events.WatchEnded, events.CaptureStarted, events.LeadTaken),
    *(events.BaselineProgress, events.BaselineDone),
}
"""Events that say a state again at each look or try; the others of conditions are news each time."""


class Process:
    """See the module's text.

    Attributes:
        show: gets the calls of a dry run.
        counts: what the store had of each watch when it last answered; None until a lead knows what is wrong.
        conditions_changed: set when one begins, ends or changes.
        over: set when the present stage, a wait for the lead or a lead with one configuration, is to end.
        stopping: set when the process is to end.
        admin: the daemon's; a single run has none.
    """

    admin: AdminServer

    def __init__(
        self, config: Config, consumers: Sequence[Consumer], show: Callable[[str], None], *, dry_run: bool
    ) -> None:
        self.config = config
        self.show = show
        self.dry_run = dry_run
        self.metrics = EventMetrics()
        self.conditions: Conditions = conditions.NONE
        self.conditions_changed = asyncio.Event()
        self.counts: Mapping[str, WatchCounts] | None = None
        self.over = asyncio.Event()
        self.stopping = asyncio.Event()
        self._consumers = *consumers, self.metrics.handlers
        self.hand_events_to()

    def hand_events_to(self, *lead: Consumer) -> None:
        """Hand events to the process's consumers, and to a lead's."""
        self._dispatch = Dispatch(*self._consumers, *lead)

    def emit(self, event: Event) -> None:
        """Report an event; a state only if it changes a condition."""
        after = conditions.fold(self.conditions, event)
        if after is not self.conditions:
            self.conditions = after
            self.conditions_changed.set()
        elif type(event) in _STATES:
            return
        self._dispatch.emit(event)

    def stop(self) -> None:
        """End the process in order."""
        self.stopping.set()
        self.over.set()


async def unless(over: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What some work returns; None if an event comes first, which ends it."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(over.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Without an answer, psycopg ignores one cancellation: `end` repeats it.
        await end([working, waiting])
    return None if working.cancelled() else working.result()

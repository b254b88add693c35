"""What a watch works with, beside its database's sessions."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cdc_sync.ats.database import STEPS, Database, Steps
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.config import Watch
from cdc_sync.core.batch import NO_CALLS, BesideApply
from cdc_sync.core.events import Emit
from cdc_sync.core.rows import WatchRules
from cdc_sync.core.zone import EventDates
from cdc_sync.store import Store


@dataclass(frozen=True, slots=True)
class WatchParts:
    """What a watch works with, beside its database's sessions.

    Attributes:
        rules: the core's form of the watch's configuration.
        clock: this daemon's, in milliseconds since the epoch.
        beside_apply: the sender.
        event_dates: how those of the last changed rows fit.
    """

    name: str
    watch: Watch
    rules: WatchRules
    database: Database
    others: OtherWatches
    observe: Emit
    clock: Callable[[], int]
    beside_apply: BesideApply = NO_CALLS
    event_dates: EventDates = field(default_factory=EventDates)
    want_sweep: Callable[[], None] = lambda: None
    dry_run: bool = False
    steps: Steps = STEPS

    @property
    def store(self) -> Store:
        """The database's store."""
        return self.database.store

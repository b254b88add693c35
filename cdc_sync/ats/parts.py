"""What a watch works with, beside its database's sessions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from cdc_sync.config import Watch
from cdc_sync.core.batch import NO_CALLS, BesideApply
from cdc_sync.core.events import Emit
from cdc_sync.core.rows import WatchRules
from cdc_sync.core.zone import EventDates
from cdc_sync.store import Store

from .database import Database
from .rows_elsewhere import OtherWatches


class Steps(NamedTuple):
    """How much a watch does at once, and how often, in seconds.

    `give_back_every` and `place_every` are at least so long.

    Attributes:
        adopted: rows of the baseline.
        drained: changes of the log.
        give_back_every: tries to shorten the change log's file: each takes a short lock, which a standby replays.
        polled: rows of a poll.
        look_every: looks at the server's transactions, and moves of a poll's watermark: each takes a transaction id.
        place_every: saves of a poll's watermark: a restart reads again from there.
        compared: rows that a sweep compares: one store statement of some 10 ms, which may delay the capture.
        read: rows that a sweep reads, at most: Python gives little of their memory back.
        searched: record numbers examined for unmet records.
        confirmed: suspected deletions.
    """

    adopted: int = 500
    drained: int = 1_000
    give_back_every: float = 60.0
    polled: int = 500
    look_every: float = 15.0
    place_every: float = 300.0
    compared: int = 5_000
    read: int = 500
    searched: int = 20_000
    confirmed: int = 200


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
    steps: Steps = field(default_factory=Steps)

    @property
    def store(self) -> Store:
        """The database's store."""
        return self.database.store

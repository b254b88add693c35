"""What a watch works with, and how large its steps are."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from cdc_sync.config import Watch
from cdc_sync.core.observations import Observe
from cdc_sync.core.outbox import Offer
from cdc_sync.core.plan import Applied
from cdc_sync.core.rows import WatchRules
from cdc_sync.core.watermark import Evidence
from cdc_sync.pipeline.database import Database
from cdc_sync.store.store import Store


def nothing() -> None:
    """Whom progress, or a wish, does not interest."""


class Delivery(Protocol):
    """The sender's part in an apply; see `delivery.sender.Sender`."""

    def offer(self, watch: str, application_ids: Collection[str]) -> Offer:
        """Withdraw the entries of these applications that have not begun, and say what may be claimed."""

    def settle(self, offered: Offer, watch: str, applied: Applied | None) -> None:
        """Take what the apply has claimed, and what it has left as it was; None if it failed."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How large a watch's steps are, and how often they come. Intervals are in seconds.

    Attributes:
        adopted: rows that the baseline reads and adopts at once.
        drained: changes taken from the change log at once.
        give_back_every: between tries to shorten the change log's file, at least: each takes a lock for a moment,
            which a standby replays.
        polled: rows that a poll reads at once.
        look_every: between looks at the server's transactions, and so between moves of a poll's watermark: each look
            takes one of the server's transaction ids.
        compared: rows that a sweep compares at once: a statement of the store's of some 10 ms, for which the capture
            may have to wait.
        read: rows that a sweep reads at once, at most: what they take of memory Python gives little back.
        searched: record numbers looked at at once when a sweep searches for what it has not met.
        confirmed: suspected deletions that are answered at once.
        save_every: between savings of a sweep's position, at least: a sweep that is quicker than this is cheaper to
            repeat.
        save_share: saving never takes more than one part in this many of the time: a bitmap of many millions of
            records is large. 0 for no such limit.
    """

    adopted: int = 500
    drained: int = 1_000
    give_back_every: float = 60.0
    polled: int = 2_000
    look_every: float = 15.0
    compared: int = 5_000
    read: int = 500
    searched: int = 20_000
    confirmed: int = 500
    save_every: float = 5.0
    save_share: int = 20


STEPS = Steps()


@dataclass(frozen=True, slots=True)
class WatchParts:
    """What a watch works with over its connections, apart from its database's sessions.

    Attributes:
        name: the watch's.
        watch: its configuration.
        rules: the same as the core has it.
        database: the ATS's.
        observe: gets what was news.
        clock: our clock, milliseconds since the epoch.
        delivery: the sender; None if nothing is sent while this process captures.
        unwritten: names of what the store would not write, and has not written since.
        all_written: called when the last of it is written.
        evidence: what a poll has learnt of its watermark.
        want_sweep: called when a sweep should come.
        dry_run: whether nothing is changed.
        steps: how large its steps are.
    """

    name: str
    watch: Watch
    rules: WatchRules
    database: Database
    observe: Observe
    clock: Callable[[], int]
    delivery: Delivery | None = None
    unwritten: set[str] = field(default_factory=set)
    all_written: Callable[[], None] = nothing
    evidence: Evidence = field(default_factory=Evidence)
    want_sweep: Callable[[], None] = nothing
    dry_run: bool = False
    steps: Steps = STEPS

    @property
    def store(self) -> Store:
        """The store."""
        return self.database.store

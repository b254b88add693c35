"""What goes into the store and comes out of it, beside the core's values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cdc_sync.core.content import Content
from cdc_sync.core.outbox import Entry, Suspicion
from cdc_sync.core.rows import Key

FROM_DATABASE = "database"
"""The capture position with a watch's database; the section `database` has no name."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, with its remedy."""

    name: str
    message: str
    since: int


@dataclass(frozen=True, slots=True)
class WatchCounts:
    """A watch in numbers.

    `oldest_queued_at` is of pending entries. `changed_at`: an entry was enqueued, held, dead-lettered at once or
    cancelled.
    """

    known: int = 0
    pending: int = 0
    held: int = 0
    dead: int = 0
    skipped: int = 0
    suspected: int = 0
    oldest_queued_at: int | None = None
    changed_at: int | None = None


CALL_STEP = 5 * 60 * 1000
"""Milliseconds of a step in which calls are counted."""


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Attempts that ended in the step beginning at `step`, by outcome."""

    step: int
    acknowledged: int = 0
    retry: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Held entries of one watch with the same transition (`diff.transition`).

    `since` is when the oldest was enqueued; `reason` may join two; `examples` are the oldest entries' applications.
    """

    watch: str
    transition: str
    number: int
    since: int
    reason: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """All that the store holds of one application of one watch, for people.

    `adopted`: HelloWork never received the snapshot. `discarded`: a person discarded
    it, and HelloWork did not acknowledge it.
    """

    watch: str
    application_id: str
    key: Key
    in_scope: bool = True
    snapshot: Content | None = None
    acknowledged_at: int | None = None
    entry: Entry | None = None
    suspicion: Suspicion | None = None
    skipped: str | None = None
    adopted: bool = False
    discarded: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: an application, or a row that has none, with the reason."""

    watch: str
    application_id: str | None
    key: Key
    reason: str | None


MOST_HITS = 20
"""Most hits shown."""


def meant(hits: Sequence[Hit]) -> str | None:
    """The one application of all hits; None without exactly one."""
    return hits[0].application_id if len({hit.application_id for hit in hits}) == 1 else None


Only = Literal["changes", "deletions"]

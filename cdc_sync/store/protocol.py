"""What goes into the store and what comes out of it, beside the core's own values; and how it fails."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cdc_sync.core.content import Content
from cdc_sync.core.outbox import Entry, Suspicion
from cdc_sync.core.rows import Key

Upgrading = Callable[[float], None]
"""Hears that a store of an earlier version is being brought up to date, and for how many seconds."""

UPGRADING_EVERY = 10.0
"""Seconds between two such reports."""


def not_reported(_: float) -> None:
    """Nobody needs to hear of it."""


FROM_DATABASE = "database"
"""The capture position that names the database a watch is captured from; the section `database` has no name."""


def identity_note(database: str) -> str:
    """The note of a configured database's identity; "" is the section `database`, as stores of 0.1.0 have it."""
    return f"database {database}" if database else "database"


def hosts_note(database: str) -> str:
    """The note of where it was reached."""
    return f"hosts {database}" if database else "hosts"


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, since when, and how it is repaired."""

    name: str
    message: str
    since: int


@dataclass(frozen=True, slots=True)
class WatchCounts:
    """A watch in numbers.

    `oldest_queued_at` is since when the oldest pending entry waits, `changed_at` when something was news last: an entry
    was queued, held, given up at once or cancelled, but not merely adopted.
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
"""Calls are counted in steps of this many milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Attempts that ended in the step of time that begins at `step`, by what came of them."""

    step: int
    acknowledged: int = 0
    retry: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Held entries of one watch that mean the same transition (`diff.transition`).

    `since` is when the oldest of them was enqueued, `reason` why they are held, which may be for two reasons;
    `examples` are the oldest entries' applications.
    """

    watch: str
    transition: str
    number: int
    since: int
    reason: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Everything the store holds of one application of one watch, for people.

    `under_way`: its entry is claimed, so a call is being made, or about to be. `adopted`: what HelloWork is taken to
    know was never sent.
    """

    watch: str
    application_id: str
    key: Key
    in_scope: bool = True
    told: Content | None = None
    told_at: int | None = None
    entry: Entry | None = None
    under_way: bool = False
    suspicion: Suspicion | None = None
    skipped: str | None = None
    adopted: bool = False


FoundBy = Literal["id", "row", "beginning"]


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search has found: an application, or a row of none (`application_id` None) and why it is of none.

    `by` says whether the text is its id, its row's key, or how its id begins.
    """

    watch: str
    application_id: str | None
    key: Key
    reason: str | None
    by: FoundBy


MOST_HITS = 20
"""So many are shown to a person."""


def meant(hits: Sequence[Hit]) -> str | None:
    """The one application that all hits are of; None if they are of several, or of none."""
    return hits[0].application_id if len({hit.application_id for hit in hits}) == 1 else None


@dataclass(frozen=True, slots=True)
class Lease:
    """Which daemon captures a watch.

    Attributes:
        mine: whether it is this one.
        session: the one on the ATS's database by which the daemon captures that holds the lease; if it is mine, the one
            that held it before. None: nobody ever did.
        number: the holder's number among the daemons, if it is another.
        host: the machine on which the holder runs.
        process: its process id.
    """

    mine: bool
    session: str | None = None
    number: int | None = None
    host: str | None = None
    process: int | None = None


Groups = Mapping[tuple[str, str], int]
"""Watches with transitions (`HeldGroup`), and how many entries of each are meant: the oldest."""

Only = Literal["changes", "deletions"]

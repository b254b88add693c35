"""What a store promises, whatever it is made of.

Each method is one transaction, durable when it returns. The decision about an observation is taken *inside* the store's
transaction (`record`), from the state as it is then: between reading an entry and cancelling it, the sender may have
sent it, and what was sent must never be silently cancelled.

What a crash costs, step by step:

- before `record` returns: nothing is known of the observation; its hint is still in the change log or before the
  watermark, and comes again;
- after `record`, before the change log's commit or the position's next use: the hint comes again and finds nothing new;
- before `claim` returns: the entry is due as before;
- after `claim`, before `finish` returns: the entry is marked as attempted, and is sent again with the same body and the
  same idempotency key. This is the one place where HelloWork can hear the same thing twice.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from cdc_sync.core.content import Content
from cdc_sync.core.delivery import Finished
from cdc_sync.core.diff import Decision, Unseen
from cdc_sync.core.endpoint import Health
from cdc_sync.core.failures import StoreError
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.hints import Origin
from cdc_sync.core.outbox import Entry, EntryState, Known, Sighting, Skip, Suspicion, Verified
from cdc_sync.core.rows import Key
from cdc_sync.core.rules import WatchRules
from cdc_sync.store.clock import Clock

__all__ = [
    "CALL_STEP",
    "AnotherDatabaseError",
    "Batch",
    "CallCounts",
    "Condition",
    "Event",
    "Finished",
    "Lease",
    "Only",
    "Record",
    "Recorded",
    "Store",
    "StoreError",
    "StoreLockedError",
    "TakenOverError",
    "WatchCounts",
]


class AnotherDatabaseError(StoreError):
    """The store belongs to another database than the one that the daemon is connected to."""

    @classmethod
    def between(cls, store: str, bound: str, connected: str) -> Self:
        """Say so of a store, named as in "in postgresql://host/state", with both databases' identities."""
        return cls(
            f"The store {store} belongs to the database {bound}, but the daemon is connected to {connected}: a "
            f"restored copy, a renamed clone or another cluster. Nothing is sent, since HelloWork would be told "
            f"another database's states. Correct database.dsn; or, if this database is meant, give it a store of its "
            f"own (state.path, state.dsn), or let it take this one over: see `cdc-sync adopt-database`."
        )


class StoreLockedError(StoreError):
    """Another daemon works on this store."""


class StoreGoneError(StoreError):
    """The store is not where it was opened: what is written to it from here on is lost."""

    @classmethod
    def from_under(cls, path: str, missing: str) -> Self:
        """The store's file, or one beside it, was deleted or replaced under the process that has it open."""
        return cls(
            f"The store {path} is gone from under the daemon: {missing} was deleted or replaced while it was open, and "
            f"what is written now is in no file. Nothing is sent any more, and the daemon ends. Put the files back, or "
            f"restore a backup, before it starts again: a new store takes the present rows as told, so what waited in "
            f"the old one is never sent."
        )


class TakenOverError(StoreError):
    """Another daemon may capture the watch now."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one step of capture found out, recorded together with the position that it reached.

    Attributes:
        origin: which part of capture it comes from.
        now: the store's `clock`.
        unseen: what an application gets of which nothing is known. With the origin `baseline`, `adopt` also takes what
            was adopted before anew: two rows of one application are no news about each other, unless the first is gone.
        sightings: observations, at most one per application.
        suspicions: applications whose row seems gone.
        answered: suspicions that a fresh read has answered; forgotten.
        skips: rows that cannot be reported, or can be again.
        out_of_scope: applications whose row is out of scope.
        positions: capture positions to save with it.
        doubt: why no deletion is believed now; None if they are. A new one is held then, whatever the fuse says.
        shift: what is added to `now` for people; the store's own business.
    """

    origin: Origin
    now: int
    unseen: Unseen
    sightings: Sequence[Sighting] = ()
    suspicions: Sequence[Suspicion] = ()
    answered: Sequence[str] = ()
    skips: Sequence[Skip] = ()
    out_of_scope: Sequence[str] = ()
    positions: Mapping[str, str] = field(default_factory=dict)
    doubt: str | None = None
    shift: int = 0

    @property
    def at(self) -> int:
        """When it was recorded, as people read it."""
        return self.now + self.shift


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one sighting that was news: the decision, and the state of its entry if it was queued."""

    application_id: str
    decision: Decision
    state: EntryState | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A line of an application's story."""

    at: int
    watch: str
    application_id: str
    event: str
    detail: Mapping[str, Any]


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
class Record:
    """Everything the store holds of one application of one watch, for people."""

    watch: str
    application_id: str
    key: Key
    in_scope: bool
    told: Content | None
    told_at: int | None
    entry: Entry | None
    suspicion: Suspicion | None
    skipped: str | None


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


Only = Literal["changes", "deletions"]


class Store(Protocol):
    """See the module's text. Times are in milliseconds since the epoch; every method may raise `StoreError`.

    Attributes:
        clock: decides when something is due: its readings are the `now` of batches, claims and ends of attempts. What a
            person asks for comes with the time that people read. What is written for people is by that one.
        moves: how often another server answered than before, or the same after a restart: what was committed last may
            be missing there.
    """

    clock: Clock
    moves: int

    async def close(self) -> None:
        """Finish what was begun and let go of the store."""

    async def bind(self, identity: str) -> None:
        """Remember, the first time, which database the store belongs to; afterwards insist on it.

        Raises:
            AnotherDatabaseError: the store belongs to another one.
        """

    async def identity(self) -> str | None:
        """The database that the store belongs to; None if it never met one."""

    async def hosts(self) -> str | None:
        """Where the database was reached last (`core.database_identity`), as text; None if that is not known."""

    async def set_hosts(self, hosts: str, instead_of: str | None) -> bool:
        """Remember where the database is reached, if what `hosts` gives is still `instead_of`; returns whether it was.

        Another daemon of a shared store may have written its own hosts since.
        """

    async def rebind(self, identity: str, hosts: str, positions: Mapping[str, Mapping[str, str]]) -> None:
        """Let the store belong to another database from now on, with these capture positions put in, by watch."""

    async def take(self, watch: str, session: str = "", instead_of: Lease | None = None) -> Lease:
        """Take the watch's lease, if it is free: be the one that records for the watch, as long as this daemon lives.

        Whoever had it before is refused from then on: it would write what it read before over what the next one reads.

        Args:
            watch: the watch's name.
            session: the one on the ATS's database by which this daemon captures.
            instead_of: a lease whose holder is known to capture no more; taken too, unless it was renewed in another
                session since.
        """

    async def give_back(self, watch: str) -> None:
        """Give the watch's lease back, if it is ours; nothing is recorded until it is taken again."""

    async def positions(self, watch: str) -> dict[str, str]:
        """The watch's capture positions by name."""

    async def known(self, watch: str, application_ids: Sequence[str]) -> dict[str, Known]:
        """What is known of each of these applications; the unknown are left out."""

    async def owners(self, watch: str, keys: Iterable[Key]) -> dict[str, Known]:
        """The applications for which one of these rows spoke last."""

    async def compare(self, watch: str, digests: str) -> list[int]:
        """What is to be done about each row of a page of digests (`source.digests`), in the page's order.

        A record's number: it was verified with this digest and is as it was then, and nothing of it waits. 0: nothing
        is to be done. -1: the row is to be read.
        """

    async def verify(self, watch: str, verified: Sequence[Verified]) -> None:
        """Keep the digests of rows that are no news, where they are none now: whatever has happened since.

        A record that changes, or gets another row, is verified no longer.
        """

    async def unseen(self, watch: str, bitmap: bytes, first: int, last: int) -> list[str]:
        """The applications, of those numbered `first` to `last`, whose bit in a sweep's bitmap is not set.

        Left out are those of which HelloWork knows, or will be told, that they are gone, and those out of scope.
        """

    async def highest_number(self) -> int:
        """The highest record number in use; 0 if there is none."""

    async def record(self, rules: WatchRules, batch: Batch) -> list[Recorded]:
        """Decide about a batch and write all of it; returns only what was news.

        Raises:
            TakenOverError: this daemon took the watch, and does not hold its lease any more (see `take`).
        """

    async def due_suspicions(self, watch: str, now: int, limit: int, *, horizon: int) -> list[Suspicion]:
        """Suspicions whose grace is over, oldest first.

        One that would be due more than `horizon` milliseconds ahead was made by a wrong clock, and is due too.
        """

    async def suspected(self, watch: str, application_ids: Sequence[str]) -> set[str]:
        """Which of these applications are suspected to be gone."""

    async def next_suspicion(self, watch: str) -> int | None:
        """When the next suspicion's grace is over."""

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[str, int], probing: Collection[str] = ()
    ) -> list[Entry]:
        """Take due entries for sending and mark them as attempted, before anything is sent.

        The longest due come first. If one was due for long, its first attempt moves on: see `Entry`.

        Args:
            now: the time.
            horizon: a due time further than this many milliseconds ahead is a clock's mistake, and counts as due.
            wanted: how many at most, for each endpoint.
            probing: the endpoints whose call is to find out whether they work. There the entry with the fewest attempts
                comes first, of these the longest due, so that a few whose calls always fail hold nobody up.
        """

    async def finish(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """Write the ends of attempts and the endpoints' new states."""

    def expect(self, longest_call: float) -> None:
        """The bytes of a call may leave this host for so many seconds from now on."""

    def holds(self, entry: Entry) -> bool:
        """Whether a call for a claimed entry may begin: the claim outlasts any call. To be asked right before it."""

    async def check_place(self) -> None:
        """Find out whether what is written can be found again at the next start.

        Raises:
            StoreGoneError: it cannot: the store was deleted or replaced.
        """

    async def release_claims(self) -> None:
        """Forget claims of daemons that died; what they sent stays marked as attempted."""

    async def endpoints(self) -> dict[str, tuple[Health, int | None]]:
        """Every endpoint's health, and when its next entry is due."""

    async def fuses(self) -> dict[str, Fuse]:
        """The state of every watch's fuse that ever counted anything."""

    async def blow_fuse(self, watch: str, reason: str, now: int) -> None:
        """Hold everything new of a watch until a person releases or discards it; a blown fuse stays as it is."""

    async def release_held(self, watch: str | None, now: int, only: Only | None, limit: int | None) -> int:
        """Let held entries be sent; the fuse is whole again once none is held. Returns how many."""

    async def discard(
        self,
        state: EntryState,
        watch: str | None,
        ids: Sequence[str] | None,
        *,
        now: int,
        only: Only | None = None,
        limit: int | None = None,
    ) -> list[tuple[str, str]]:
        """Take held or dead entries as told without a call, the oldest first, `limit` at most. `ids` None: all.

        Returns (watch, application id) of each.

        Left out are those of which a call with an earlier content is still under way: its answer comes first.
        """

    async def retry_dead(self, watch: str | None, ids: Sequence[str] | None, now: int) -> list[tuple[str, str]]:
        """Make dead letters pending again. `ids` None: all. Returns (watch, application id)."""

    async def resend(self, watch: str | None, ids: Sequence[str], now: int) -> list[tuple[str, str]]:
        """Queue what HelloWork was told last once more. Returns (watch, application id) of those that it found."""

    async def entries(self, state: EntryState, watch: str | None, limit: int) -> list[Entry]:
        """Outbox entries in a state, oldest first."""

    async def counts(self) -> dict[str, WatchCounts]:
        """Every watch in numbers of which anything is known, held or noted, be it a position: configured or not.

        Costs as much as the outbox is long, not as much as is known.
        """

    async def skipped(self, watch: str, limit: int) -> list[Skip]:
        """Rows that cannot be reported, and why."""

    async def records(self, application_id: str, watch: str | None) -> list[Record]:
        """What is held of an application, in each watch."""

    async def story(self, application_id: str, watch: str | None, limit: int) -> list[Event]:
        """What happened to an application, oldest first; the newest `limit` events."""

    async def recent(self, limit: int) -> list[Event]:
        """The newest events of all applications, newest first."""

    async def recent_ends(self, limit: int, *, failed: bool) -> list[Event]:
        """The newest `acknowledged`, `answered` and `dead-lettered` of all applications, newest first.

        With `failed` without the acknowledged ones. Costs no walk through the events of other kinds.
        """

    async def call_counts(self, since: int) -> list[CallCounts]:
        """How many attempts ended, from the step that `since` is in on; steps without any are left out."""

    async def set_condition(self, name: str, message: str | None, now: int) -> None:
        """Note what is wrong, or with None that it no longer is."""

    async def conditions(self) -> list[Condition]:
        """What is wrong now."""

    async def add_repairs(self, watch: str, causes: Mapping[str, int]) -> None:
        """Count what a sweep repaired."""

    async def repairs(self) -> dict[str, dict[str, int]]:
        """What sweeps have repaired, by watch and cause."""

    async def prune(self, before: int, keep: int, limit: int) -> int:
        """Forget call counts older than `before`, and up to `limit` events: older ones, and all but the newest `keep`.

        Returns how many of these.
        """

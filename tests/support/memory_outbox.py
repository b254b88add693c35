"""An outbox in memory that keeps to the store's protocol, and insists that the sender keeps to it too."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cdc_sync.core.batch import Applied, ApplyResult
from cdc_sync.core.diff import Nothing
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import NOTHING, Entry, Lane, Offer
from cdc_sync.core.replies import Acked, Finished, Health, Retry
from cdc_sync.core.status_url import endpoint_of
from support.builders import WATCH, a_content


@dataclass
class Row:
    """An application's entry in the outbox."""

    status: str
    base_url: str
    revision: int
    due_at: int
    claimed: bool = False
    attempted: bool = False
    attempts: int = 0
    dead: bool = False


@dataclass
class MemoryOutbox:
    """The outbox of one watch, of whose applications each is known to HelloWork as `applied`.

    Attributes:
        clock: milliseconds.
        rows: what waits, by application.
        acknowledged: what HelloWork is known to know, by application.
        wanted: what it ought to know in the end.
        stored: the endpoints' health.
        lapsed: whether no claim holds.
        claims: how many entries were claimed.
        most_claimed: the most that were claimed at once.
    """

    clock: Callable[[], int]
    rows: dict[str, Row] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Health] = field(default_factory=dict)
    lapsed: bool = False
    is_woken: bool = False
    claims: int = 0
    most_claimed: int = 0
    revisions: int = 0
    seen: set[str] = field(default_factory=set)

    @property
    def claimed(self) -> set[str]:
        return {application_id for application_id, row in self.rows.items() if row.claimed}

    def enqueue(self, application_id: str, status: str, base_url: str, *, due_at: int | None = None) -> None:
        """Let an application have this status now, which it did not have."""
        self.revisions += 1
        due = self.clock() if due_at is None else due_at
        self.rows[application_id] = Row(status, base_url, self.revisions, due)
        self.seen.add(endpoint_of(base_url))
        self.wanted[application_id] = status

    def apply_now(self, changes: Mapping[str, tuple[str, str]], offer: Offer = NOTHING) -> Applied:
        """Apply statuses (each with its base URL) by application, as the store's `apply` does with observations."""
        results: list[ApplyResult] = []
        touched: set[str] = set()
        for application_id in offer.unstarted:
            assert self.rows[application_id].claimed, "only a claimed entry can be withdrawn"
        for application_id, (status, base_url) in changes.items():
            self.wanted[application_id] = status
            known = self.acknowledged.get(application_id, "applied")
            row = self.rows.get(application_id)
            unstarted = application_id in offer.unstarted
            if row is None:
                if status != known:
                    self.enqueue(application_id, status, base_url)
                    results.append(ApplyResult(application_id, Nothing(), "pending"))
                continue
            if status == row.status:
                continue
            if unstarted:
                touched.add(application_id)
                row.claimed = False
            attempted = row.attempted or row.claimed
            if status == known and not attempted:
                del self.rows[application_id]
                results.append(ApplyResult(application_id, Nothing(), None))
                continue
            claimed = row.claimed
            self.enqueue(application_id, status, base_url)
            self.rows[application_id].claimed = claimed
            self.rows[application_id].attempted = attempted
            results.append(ApplyResult(application_id, Nothing(), "pending"))
        enqueued = [result.application_id for result in results if result.state == "pending"]
        claimed_now: list[Entry] = []
        due: dict[str, int] = {}
        for each in enqueued:
            row = self.rows[each]
            origin = endpoint_of(row.base_url)
            due[origin] = min(due.get(origin, row.due_at), row.due_at)
        for (origin, _), limit in offer.wanted.items():
            claimed_now += self.claim_of(origin, limit, enqueued)
        return Applied(tuple(results), frozenset(touched), tuple(claimed_now), due=due)

    def claim_now(self, wanted: Mapping[Lane, int]) -> list[Entry]:
        return [entry for lane, limit in wanted.items() for entry in self.claim_of(lane[0], limit, list(self.rows))]

    def unclaim_now(self, entries: Sequence[Entry]) -> None:
        """See `Outbox.unclaim`. By application alone: the sender must not give back what it has claimed again."""
        for entry in entries:
            row = self.rows.get(entry.application_id)
            if row is not None:
                row.claimed = False

    def complete_now(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        for end in finished:
            row = self.rows.get(end.entry.application_id)
            assert row is not None, f"{end.entry.application_id} has no entry"
            assert row.claimed, f"{end.entry.application_id} was not claimed, or is completed already"
            self._complete(row, end)
        self.stored |= health

    def _complete(self, row: Row, end: Finished) -> None:
        application_id = end.entry.application_id
        row.claimed = False
        if isinstance(end.result, Acked):
            self.acknowledged[application_id] = end.entry.content.status
            if row.revision == end.entry.revision or row.status == end.entry.content.status:
                del self.rows[application_id]
            return
        row.attempted = True
        if row.revision != end.entry.revision:
            return
        row.attempts += 1
        if isinstance(end.result, Retry):
            row.due_at = end.result.due_at
        else:
            row.dead = True

    def look_now(self) -> tuple[dict[str, Health], dict[Lane, int]]:
        due: dict[Lane, int] = {}
        for row in self.rows.values():
            if not (row.claimed or row.dead):
                lane = endpoint_of(row.base_url), WATCH
                due[lane] = min(due.get(lane, row.due_at), row.due_at)
        return {name: self.stored.get(name, Health()) for name in sorted(self.seen)}, due

    def restart(self) -> None:
        """The daemon died: whatever it had claimed may have been heard."""
        for row in self.rows.values():
            if row.claimed:
                row.claimed, row.attempted = False, True
                row.attempts += 1

    def claim_of(self, endpoint: str, limit: int, candidates: Collection[str]) -> list[Entry]:
        """Claim due entries of these applications for one endpoint."""
        now = self.clock()
        due = sorted(
            (row.due_at, application_id, row)
            for application_id in candidates
            if (row := self.rows.get(application_id)) is not None
            and not (row.claimed or row.dead)
            and row.due_at <= now
            and endpoint_of(row.base_url) == endpoint
        )[:limit]
        for _, _, row in due:
            row.claimed = True
        self.claims += len(due)
        self.most_claimed = max(self.most_claimed, len(self.claimed))
        return [self._entry(application_id, row) for _, application_id, row in due]

    def _entry(self, application_id: str, row: Row) -> Entry:
        return Entry(
            watch=WATCH,
            application_id=application_id,
            content=a_content(row.status, application_id=application_id, base_url=row.base_url),
            kinds=frozenset({"status"}),
            state="pending",
            revision=row.revision,
            queued_at=row.due_at,
            due_at=row.due_at,
            attempted=True,
            attempts=row.attempts + 1,
            first_attempt_at=self.clock(),
            not_found_since=None,
            reason=None,
        )

    # The protocol, without any waiting.

    async def claim(
        self,
        now: int,
        horizon: int,
        wanted: Mapping[Lane, int],
        probing: Collection[Lane] = (),
    ) -> list[Entry]:
        return self.claim_now(wanted)

    async def unclaim(self, entries: Sequence[Entry]) -> None:
        self.unclaim_now(entries)

    def holds(self, entry: Entry) -> bool:
        return not self.lapsed

    async def complete(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        self.complete_now(finished, health)

    async def look(self) -> tuple[dict[str, Health], dict[Lane, int]]:
        return self.look_now()


FULL = StoreError("store-unusable", "the disk is full")

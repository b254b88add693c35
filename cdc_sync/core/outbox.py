"""What the store holds of an application: the records that the pipeline and the sender work on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

from cdc_sync.core.content import Content, Kind
from cdc_sync.core.diff import Waiting
from cdc_sync.core.rows import Key, Observation, Unreportable
from cdc_sync.core.status_url import build

EntryState = Literal["pending", "held", "dead"]
"""`pending`: to be sent when due. `held`: the fuse keeps it for a person. `dead`: given up, kept for a person."""


Lane = tuple[str, str]
"""An origin (scheme, host and port) and a watch, whose entries are claimed in the order of their due times."""


class Entry(NamedTuple):
    """An application's one outbox entry. Times are in milliseconds since the epoch.

    Attributes:
        watch: the watch's name.
        application_id: whose entry it is.
        content: what is to be told.
        kinds: why.
        state: see `EntryState`.
        revision: grows with each replacement, so that an answer is never taken for another content's.
        queued_at: when this content was queued.
        due_at: when it may be sent: settle time or backoff.
        attempted: a call with this or an earlier content may have been heard without our knowing.
        attempts: calls made with this content.
        first_attempt_at: the first of them since our credentials were last refused for it, moved on by the time for
            which the entry was due since then and nobody tried it, if that was more than `delivery.LONGEST_COUNTED`: so
            from it to now is how long it was tried.
        not_found_since: the first 404 in a row, moved on likewise, beyond `delivery.LONGEST_UNASKED`.
        reason: why it is held or dead, or how the last attempt failed.
    """

    watch: str
    application_id: str
    content: Content
    kinds: frozenset[Kind]
    state: EntryState
    revision: int
    queued_at: int
    due_at: int
    attempted: bool
    attempts: int
    first_attempt_at: int | None
    not_found_since: int | None
    reason: str | None

    @property
    def waiting(self) -> Waiting:
        """What a decision needs to know of it."""
        return Waiting(self.content, self.attempted)

    def addressed(self, built: Mapping[str, str]) -> Self:
        """The entry with the URL that it has now: `base_url` may have changed since it was built and queued.

        Args:
            built: the base URL of each watch that builds its URLs; those of other watches came with their rows.
        """
        base_url = built.get(self.watch)
        if base_url is None or (url := build(base_url, self.application_id)) == self.content.url:
            return self
        return self._replace(content=self.content._replace(url=url))


class Known(NamedTuple):
    """Everything the store knows of one application when an observation arrives.

    Attributes:
        number: the record's own number, dense enough to be a place in a bitmap.
        key: the row that spoke for it last.
        in_scope: whether that row was in scope.
        told: the snapshot: what HelloWork acknowledged last or what was adopted; None if nothing was told yet.
        waiting: its outbox entry, if there is one.
        is_acknowledged: whether the snapshot was sent and acknowledged, or discarded by a person, and not adopted.
        state: its entry's, if it has one; what follows is the entry's too.
        reason: why it is held or dead, or how the last attempt failed.
        queued_at: when its content was queued.
    """

    number: int
    key: Key
    in_scope: bool
    told: Content | None
    waiting: Waiting | None
    is_acknowledged: bool = False
    state: EntryState | None = None
    reason: str | None = None
    queued_at: int | None = None

    @property
    def latest(self) -> Content | None:
        """What HelloWork will know once everything is sent."""
        return self.told if self.waiting is None else self.waiting.content


def with_last_job(observation: Observation, known: Known | None) -> Observation:
    """An observation of a row that has no job any more, with its application's last known job if there is one.

    A job that is deleted in the ATS often leaves its applications behind without one (ON DELETE SET NULL).
    """
    if not isinstance(observation, Unreportable) or observation.without_job is None:
        return observation
    if known is None or known.latest is None:
        return observation
    content = observation.without_job.content._replace(job_id=known.latest.job_id)
    return replace(observation.without_job, content=content)


def corrects(content: Content, refused: str | None, waiting: Waiting | None) -> bool:
    """Whether an observation that is no news to what waits tells it something else that rides along."""
    return waiting is not None and refused is None and not content.rides_as(waiting.content)


@dataclass(frozen=True, slots=True)
class Verified:
    """A row that was compared and is no news, and its digest.

    `content` is what it says; None if it says nothing that could be news as long as it is the application's row.
    """

    application_id: str
    key: Key
    digest: str
    content: Content | None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """An application whose row seems gone; believed after `due_at`, if a fresh read agrees.

    `at` is when it seems to have gone, in milliseconds since the epoch by the database's clock.
    """

    application_id: str
    at: int
    due_at: int


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that cannot be reported, and why; `reason` None: it can be again."""

    key: Key
    application_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Offer:
    """What the sender gives to a batch that is applied, and would take with it.

    Attributes:
        unstarted: applications of the watch whose entry is claimed, and whose call does not begin before the batch is
            applied: they count as never attempted.
        wanted: how many entries to claim, for each lane; see `Store.claim`, for the others too.
        probing: the lanes whose call is to find out whether their endpoint works.
        horizon: beyond it a due time is a clock's mistake, in milliseconds.
    """

    unstarted: frozenset[str] = frozenset()
    wanted: Mapping[Lane, int] = field(default_factory=dict)
    probing: frozenset[Lane] = frozenset()
    horizon: int = 0


NOTHING = Offer()

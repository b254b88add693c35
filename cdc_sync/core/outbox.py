"""What the store holds of an application: the records of the pipeline and the sender."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

from .content import Content, Kind
from .rows import Key, Observation, Row, Unreportable, WatchRules, from_microseconds, interpret
from .status_url import build

EntryState = Literal["pending", "held", "dead"]
"""`pending`: sent when due. `held`: by the fuse, for a person. `dead`: given up, for a person."""


Lane = tuple[str, str]
"""An endpoint and a watch: its entries are sent by their due times."""

EntryId = tuple[str, str]
"""Watch and application id."""


NOWHERE = "nowhere"
"""The endpoint of an entry that cannot be called: it is enqueued dead."""


class Entry(NamedTuple):
    """An application's outbox entry.

    Attributes:
        revision: begins with the time, and grows with each replacement. So no answer, and no person's decision, is
            assigned to another content.
        queued_at: when this content was enqueued.
        due_at: when it may be sent.
        attempted: HelloWork may have received this or an earlier content without our knowing.
        attempts: calls made with this content.
        first_attempt_at: since its credentials were last refused; moved on by times in which the entry was due but not
            tried, beyond `replies.LONGEST_COUNTED`.
        not_found_since: the first 404 in a row, moved on likewise, beyond `replies.LONGEST_UNASKED`.
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
    attempts: int = 0
    first_attempt_at: int | None = None
    not_found_since: int | None = None
    reason: str | None = None

    @property
    def id(self) -> EntryId:
        """By this the store knows it."""
        return self.watch, self.application_id

    def addressed(self, built: Mapping[str, str]) -> Self:
        """The entry with its current URL: `base_url` may have changed since it was enqueued.

        `built` has the base URL of each watch whose rows have no URLs.
        """
        base_url = built.get(self.watch)
        if base_url is None or (url := build(base_url, self.application_id)) == self.content.url:
            return self
        return self._replace(content=self.content._replace(url=url))


class Known(NamedTuple):
    """All that the store knows of one application.

    Attributes:
        number: dense enough to be a place in a bitmap.
        key: of the row that represented it last; `in_scope` is that row's.
        snapshot: the last acknowledged or adopted state.
        entry: in any state.
        is_acknowledged: whether the snapshot was acknowledged, or discarded by a person.
        since: when the snapshot was acknowledged or adopted; 0 without one, or if another watch's state replaced it.
        is_suspected: whether its row seems gone.
    """

    number: int
    key: Key
    in_scope: bool
    snapshot: Content | None
    entry: Entry | None
    is_acknowledged: bool = False
    since: int = 0
    is_suspected: bool = False

    @property
    def is_new(self) -> bool:
        """Whether this watch has no record of it."""
        return not self.number

    @property
    def latest(self) -> Content | None:
        """The state that HelloWork has once everything is sent."""
        return self.snapshot if self.entry is None else self.entry.content

    @property
    def is_alive(self) -> bool:
        """Whether its latest state is not that of a deletion."""
        return self.latest is not None and not self.latest.deleted

    @property
    def is_left(self) -> bool:
        """Whether its deletion was adopted, not sent: the application is another watch's, or was deleted before."""
        return self.snapshot is not None and self.snapshot.deleted and not self.is_acknowledged

    @property
    def is_attempted(self) -> bool:
        """Whether HelloWork may have received its entry, or what that has replaced."""
        return self.entry is not None and self.entry.attempted

    @property
    def is_calling(self) -> bool:
        """Whether a call with its pending entry may be under way."""
        return self.entry is not None and self.entry.state == "pending" and self.entry.attempted

    def is_as(self, content: Content) -> bool:
        """Whether it is in scope, and its snapshot in this state."""
        return self.in_scope and self.snapshot is not None and self.snapshot.same_as(content)

    def is_represented_by(self, key: Key) -> bool:
        """Whether the row with this key represents it, and is in scope."""
        return self.in_scope and self.key == key


def completed(observation: Observation, known: Known | None) -> Observation:
    """The observation with its application's last known job, or account.

    Of a row without a job (ON DELETE SET NULL), or one that is marked as deleted and has no configured account.
    """
    incomplete = observation.incomplete if isinstance(observation, Unreportable) else None
    if incomplete is None or known is None or known.latest is None:
        return observation
    content, last = incomplete.content, known.latest
    content = content._replace(job_id=content.job_id or last.job_id, account=content.account or last.account)
    return replace(incomplete, content=content)


def former_row(row: Row, application_id: str, known: Known, rules: WatchRules, read_at: int) -> Observation | None:
    """What the row under an application's key means for it, if no row was found by its id.

    None: the key was used again, and the row is another application's. A row of the same creation date is the
    application's own and has lost its id, unless it has it again. A row that cannot be read may carry any id.
    """
    if row.unreadable is not None:
        return Unreportable(None, row.key, row.unreadable, unreadable=True)
    observation = interpret(row, rules, read_at)
    if observation.application_id == application_id:
        return observation
    has_no_id = observation.application_id is None or isinstance(observation, Unreportable)
    is_its_own = known.latest is not None and from_microseconds(row.created) == known.latest.created
    return observation if has_no_id and is_its_own else None


@dataclass(frozen=True, slots=True)
class Verified:
    """A row that was compared and does not differ.

    `content` is None if the row causes no call while it is the application's.
    """

    application_id: str
    key: Key
    digest: str
    content: Content | None


class Suspicion(NamedTuple):
    """An application whose row seems gone since `at`; deleted after `due_at`, if a fresh read agrees.

    Until then nothing is sent of it: its entry may be older than what HelloWork has.
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


class Wanted(NamedTuple):
    """What the sender wants to know of a lane: its longest due entries, `limit` at most, `besides` these applications'.

    `probing`: the entry's call tests the endpoint: one with the fewest attempts (decision 16).
    """

    limit: int
    besides: Collection[str] = ()
    probing: bool = False


class DueEntries(NamedTuple):
    """What a look at some lanes found: entries that are due, and when each lane has another one; None: never."""

    entries: Mapping[Lane, Sequence[Entry]]
    next_at: Mapping[Lane, int | None]


@dataclass(frozen=True, slots=True)
class Applying:
    """An apply that decides about these applications.

    `begun` has the entries whose calls had begun before, by watch and application. The store may know their ends by
    now.
    """

    watch: str
    application_ids: Sequence[str]
    begun: Mapping[EntryId, Entry] = field(default_factory=dict)

    def has_begun(self, entry: Entry) -> bool:
        """Whether the call with this entry had begun."""
        begun = self.begun.get(entry.id)
        return begun is not None and begun.revision == entry.revision

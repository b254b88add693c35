"""Batches of observations, and what becomes of them: see `plan`."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from .content import Content
from .diff import Decision
from .outbox import Applying, Entry, EntryState, Skip
from .rows import FirstStatus, Key, Observation, Origin, content_of

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Resolved(NamedTuple):
    """All rows with an application's id, read together.

    Attributes:
        changed_at: when the application seems to have changed.
        canonical: the row that represents it (`rows.current`). Without rows: the one that did, if it has lost its id
            (`outbox.former_row`).
        keys: of the rows.
        elsewhere: what other watches' tables have of the id and the account, while this one's has no live row.
            `unknown`: one cannot be read, or its watch has not seen the row yet, so the suspicion stays. `unreported`:
            a row that causes no call, so that only this watch can find its end: the suspicion ends, the record stays.
    """

    application_id: str
    changed_at: int
    canonical: Observation | None
    keys: frozenset[Key] = frozenset()
    elsewhere: Literal["nothing", "unknown", "unreported"] = "nothing"

    @property
    def is_deletion(self) -> bool:
        """Whether no live row has the id."""
        content = content_of(self.canonical)
        return self.canonical is None or (content is not None and content.deleted)


class Batch(NamedTuple):
    """One step of capture, applied together with the position that it reached.

    Attributes:
        first_status: what happens to applications that no watch of the account knows. With the origin `baseline`,
            `adopt` also adopts known ones again: two rows of one application do not differ from each other, unless the
            first is gone.
        observations: at most one per key.
        gone: keys of rows that no longer exist, and when each may have gone.
        resolved: with the origin `deletion` they answer suspicions.
        skipped: rows that could not be reported before, and why; others may be among them.
        positions: saved unless an application is unresolved: the step is not over then.
        replica: the replica position, saved if anything else is written.
        doubt: why new deletions are held, whatever the fuse decides.
        others: the other watches that may have rows of the same account: of an application that moved from one of
            these, and did not change, nothing is sent.
        unreported: applications whose suspicion is no news: see `Resolved.elsewhere`.
        rows_are_new: none of its rows represented another application before.
        shift: what the store adds to `now` for people.
    """

    origin: Origin
    now: int
    first_status: FirstStatus
    observations: Sequence[Observation] = ()
    gone: Mapping[Key, int] = NOTHING
    resolved: Sequence[Resolved] = ()
    skipped: Mapping[Key, str] = NOTHING
    positions: Mapping[str, str] = NOTHING
    replica: Mapping[str, str] = NOTHING
    doubt: str | None = None
    others: Sequence[str] = ()
    unreported: Collection[str] = ()
    rows_are_new: bool = False
    shift: int = 0

    @property
    def application_ids(self) -> list[str]:
        """The ids of its applications, each once."""
        ids = {each.application_id for each in (*self.observations, *self.resolved)}
        return sorted([id_ for id_ in ids if id_ is not None])


class ApplyResult(NamedTuple):
    """The decision about an observation that differs, and its entry's state if it was enqueued."""

    application_id: str
    decision: Decision
    state: EntryState | None = None
    reason: str | None = None


class Applied(NamedTuple):
    """The result of a batch.

    Attributes:
        entries: the enqueued entries that are sent, now or when they are due.
        unresolved: applications whose rows must all be read first, and when each seems to have changed.
        suspected: applications that were not suspected before.
        skips: rows that cannot be reported, or can be again, unlike before.
        corrected: the endpoints of corrected entries.
        replaced: the entries of other watches that were replaced, by watch and application.
        heirs: other watches that were left an application in a state that is news to them.
    """

    results: Sequence[ApplyResult] = ()
    entries: Sequence[Entry] = ()
    unresolved: Mapping[str, int] = NOTHING
    suspected: frozenset[str] = frozenset()
    skips: Sequence[Skip] = ()
    written: bool = False
    corrected: frozenset[str] = frozenset()
    replaced: Sequence[tuple[str, str]] = ()
    heirs: frozenset[str] = frozenset()


class BesideApply:
    """The sender beside an apply. This one sends nothing."""

    def begin_apply(self, watch: str, application_ids: Sequence[str]) -> Applying:
        """Let no call of these applications begin until `end_apply`."""
        return Applying(watch, application_ids)

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        """Take over what the apply has enqueued; None: it failed."""


NO_CALLS = BesideApply()


class HistoryEntry(NamedTuple):
    """A line of an application's history."""

    at: int
    watch: str
    application_id: str
    event: str
    detail: Mapping[str, Any]


def described(content: Content) -> dict[str, Any]:
    """The compared fields, for the history."""
    return {"status": content.status, "job_id": content.job_id, "deleted": content.deleted}

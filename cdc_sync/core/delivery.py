"""What becomes of an outbox entry after an attempt: the row-by-row meaning of the design's table of replies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, assert_never

from cdc_sync.core.outbox import Entry
from cdc_sync.core.reply import (
    Acknowledged,
    CredentialsRefused,
    Meaning,
    NotFound,
    Rejected,
    Throttled,
    Unavailable,
)
from cdc_sync.core.retry import RetryPolicy, backoff

CallOutcome = Literal["acknowledged", "retry", "dead"]
"""A fate in one word, as it is counted."""


@dataclass(frozen=True, slots=True)
class Done:
    """The snapshot takes its content, the entry is gone."""

    outcome: ClassVar[CallOutcome] = "acknowledged"


@dataclass(frozen=True, slots=True)
class Again:
    """Try again at `due_at`; `not_found_since` is what the entry is to remember (see `Entry`).

    With `anew`, it is as if it had not been tried yet: `retry.for` begins with the next attempt.
    """

    outcome: ClassVar[CallOutcome] = "retry"
    due_at: int
    not_found_since: int | None = None
    anew: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A dead letter, for a person to look at, or for the application's next change to replace."""

    outcome: ClassVar[CallOutcome] = "dead"
    reason: str


DONE = Done()

Fate = Done | Again | GiveUp


def kernel_gives_up_after(timeout: float) -> float:
    """Seconds for which the kernel keeps trying to send a request whose process is stopped.

    Longer than the call's own timeout, which says better what happened.
    """
    return timeout + 1


def longest_on_its_way(timeout: float) -> float:
    """Seconds after its beginning in which a call's bytes may leave this host, even if its process is stopped."""
    return timeout + kernel_gives_up_after(timeout)


class Finished(NamedTuple):
    """An attempt's end: the entry as claimed, its fate, the reply as the history keeps it, and when (milliseconds)."""

    entry: Entry
    fate: Fate
    reply: Mapping[str, Any]
    at: int


def fate(  # noqa: PLR0911 - a decision table, one return per row
    entry: Entry, meaning: Meaning, reason: str, policy: RetryPolicy, *, now: int, chance: float
) -> Fate:
    """Decide an entry's fate.

    Args:
        entry: the entry as it was claimed, this attempt counted.
        meaning: what the reply means.
        reason: the reply in words.
        policy: the retry policy.
        now: milliseconds since the epoch.
        chance: a random number, 0 ≤ chance < 1.
    """
    if isinstance(meaning, Acknowledged):
        return DONE
    expired = entry.first_attempt_at is not None and now - entry.first_attempt_at >= policy.give_up_after
    again = now + backoff(policy, max(entry.attempts, 1), chance)
    match meaning:
        case Rejected():
            return GiveUp(reason)
        case CredentialsRefused():
            # Not this entry's fault: the endpoint waits as a whole, and nothing is given up meanwhile. The entry is due
            # at once: it goes out as soon as somebody has corrected the credentials.
            return Again(now, anew=True)
        case Throttled():
            return Again(now)
        case NotFound():
            since = now if entry.not_found_since is None else entry.not_found_since
            if now - since >= policy.not_found_for:
                return GiveUp(f"HelloWork still does not know the application: {reason}")
            return Again(again, since)
        case Unavailable():
            given_up = GiveUp(f"given up after {entry.attempts} attempts: {reason}")
            return given_up if expired else Again(again)
    assert_never(meaning)

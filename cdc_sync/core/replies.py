"""What a reply means for the entry that was sent and for its endpoint, and when either is tried again.

`meaning_of` gives a reply its meaning. `result_of` decides about the entry, `after` about the health of its endpoint:

    healthy ──5 unavailable in a row──▶ open ───probe fails──▶ open, longer
       ▲  │                              │
       │  ├──401, 403, 407──▶ paused     └──any answer──▶ healthy
       │  │                     └──probe: another answer──▶ healthy
       │  └──429, or any Retry-After──▶ throttled ──its time is up──▶ healthy
       └──────────────────────────────────────────────────────────┘

While an endpoint is open or paused, nothing is sent before `until`; then a single call is the probe ([decision
16](../../docs/decisions/0016-fewest-attempts-first.md)). An answer is a reply that shows that the endpoint works:
acknowledged, not found, rejected. A call that was under way when the state changed is a straggler. Its reply lengthens
the wait only if it asks for a later time. If it is an answer, it ends the wait, unless the endpoint is throttled.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Literal, NamedTuple

from .content import from_datetime
from .outbox import Entry
from .reasons import coded

# Replies.

LONGEST_RETRY_AFTER = 60 * 60 * 1000
"""Milliseconds up to which a `Retry-After` is obeyed: a wrong date must not stop calls for years."""


class Reply(NamedTuple):
    """A reply's status line and headers, or `failure`, what happened instead; `date` serves `retry_after` only."""

    status: int | None = None
    content_type: str = ""
    retry_after: str | None = None
    failure: str | None = None
    date: str = ""


class Meaning(NamedTuple):
    """What a reply means.

    - acknowledged: HelloWork has accepted the state.
    - not found: it does not know the application (yet).
    - refused credentials: the whole endpoint pauses.
    - throttled: the whole endpoint waits: for `wait` milliseconds, or by its own backoff if None.
    - unavailable: it is unknown whether the call was received.
    - rejected: received and refused, so a retry would not help.
    """

    kind: Literal["acknowledged", "not found", "refused credentials", "throttled", "unavailable", "rejected"]
    wait: int | None = None


_ANSWERS = ("acknowledged", "not found", "rejected")
"""The endpoint works, whatever it says of the application."""


def meaning_of(reply: Reply, now: int) -> Meaning:  # noqa: PLR0911 - a decision table, one return per row
    """The meaning of a reply; a `Retry-After` date is compared with the reply's own date, or without one with `now`."""
    status = reply.status
    if status is None:
        return Meaning("unavailable")
    # A captive portal or a proxy answers with a web page.
    is_page = reply.content_type.partition(";")[0].strip().lower() == "text/html"
    if 200 <= status < 300 and not is_page:  # noqa: PLR2004 - HTTP's classes are numbers
        return Meaning("acknowledged")
    wait = None if reply.retry_after is None else _wait(reply.retry_after.strip(), _instant(reply.date) or now)
    if status == 429 or wait is not None:  # noqa: PLR2004 - Too Many Requests
        return Meaning("throttled", wait)
    match status:
        case 401 | 403 | 407:
            return Meaning("refused credentials")
        case 404:
            return Meaning("not found")
        case 408 | 425:
            return Meaning("unavailable")
    return Meaning("rejected" if 400 <= status < 500 else "unavailable")  # noqa: PLR2004 - HTTP's classes are numbers


def _wait(value: str, now: int) -> int | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3), as milliseconds from now; None if it is neither."""
    if value.isascii() and value.isdigit():
        # Python refuses to convert thousands of digits.
        return min(int(value.lstrip("0")[:9] or "0") * 1000, LONGEST_RETRY_AFTER)
    until = _instant(value)
    return None if until is None else min(max(until - now, 0), LONGEST_RETRY_AFTER)


def _instant(date: str) -> int | None:
    try:
        moment = parsedate_to_datetime(date.strip())
        return from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


# Retries.

LONGEST_COUNTED = 15 * 60_000
"""Milliseconds that count towards `give_up_after`, at most, of a time in which an entry is due but not tried (its
endpoint is paused, say). So the first failure after a long pause gives nothing up.
"""

LONGEST_UNASKED = 60_000
"""The same towards `not_found_for`. So one 404 before an outage and one after it give nothing up."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Section `hellowork.retry` and `not_found_retry`, in milliseconds; see also `LONGEST_COUNTED`."""

    first: int
    max: int
    give_up_after: int
    not_found_for: int


def ceiling(policy: RetryPolicy, failures: int) -> int:
    """The longest wait, in milliseconds, after so many failures in a row (1 and more)."""
    # After a week of failures 2**n would have thousands of digits.
    return min(policy.max, policy.first << min(failures - 1, 62))


# Entries.

CallOutcome = Literal["acknowledged", "retry", "dead"]


@dataclass(frozen=True, slots=True)
class Acked:
    """The content becomes the snapshot. The entry is removed, unless a newer one has replaced it."""

    outcome: ClassVar[CallOutcome] = "acknowledged"


@dataclass(frozen=True, slots=True)
class Retry:
    """Retry at `due_at`, with this time of the first 404. `restarts`: the time towards `give_up_after` begins again."""

    outcome: ClassVar[CallOutcome] = "retry"
    due_at: int
    not_found_since: int | None = None
    restarts: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, for a person, or for the application's next change to replace."""

    outcome: ClassVar[CallOutcome] = "dead"
    reason: str


CallResult = Acked | Retry | DeadLetter


def kernel_gives_up_after(timeout: float) -> float:
    """Seconds for which the kernel keeps sending a stopped process's request."""
    return timeout + 1


def longest_on_its_way(timeout: float) -> float:
    """Seconds in which a call's bytes may still leave this host, even if its process is stopped."""
    return timeout + kernel_gives_up_after(timeout)


def begun(entry: Entry, now: int) -> Entry:
    """The entry with the attempt that begins now.

    If it was due for longer than counts, the times of its first attempt and first 404 are moved later by the excess.
    """
    late, first, not_found = now - entry.due_at, entry.first_attempt_at, entry.not_found_since
    first = now if first is None else min(first + max(late - LONGEST_COUNTED, 0), now)
    if not_found is not None:
        not_found = min(not_found + max(late - LONGEST_UNASKED, 0), now)
    return entry._replace(
        attempted=True, attempts=entry.attempts + 1, first_attempt_at=first, not_found_since=not_found
    )


class Finished(NamedTuple):
    """A finished attempt: the entry as it was `begun`, its outcome, the reply for the history, and when."""

    entry: Entry
    result: CallResult
    reply: dict[str, Any]
    at: int


def result_of(  # noqa: PLR0911 - a decision table, one return per row
    entry: Entry, meaning: Meaning, reason: str, policy: RetryPolicy, *, now: int, chance: float
) -> CallResult:
    """Decide an entry's outcome.

    `entry` is as it was `begun`; `reason` is the reply in words; `chance` is random, 0 ≤ chance < 1.
    """
    if meaning.kind == "acknowledged":
        return Acked()
    # Full jitter: calls that failed together do not return together.
    again = now + int(ceiling(policy, entry.attempts) * chance)
    match meaning.kind:
        case "rejected":
            return DeadLetter(reason)
        case "refused credentials":
            # Not this entry's fault: it goes out as soon as the credentials are corrected.
            return Retry(now, restarts=True)
        case "throttled":
            return Retry(now)  # its endpoint's wait holds it back
        case "not found":
            since = now if entry.not_found_since is None else entry.not_found_since
            if now - since < policy.not_found_for:
                return Retry(again, since)
            return DeadLetter(
                coded("still-unknown", "HelloWork still does not know the application: %(reason)s", reason=reason)
            )
    if entry.first_attempt_at is None or now - entry.first_attempt_at < policy.give_up_after:
        return Retry(again)
    return DeadLetter(
        coded("given-up", "given up after %(attempts)s attempts: %(reason)s", attempts=entry.attempts, reason=reason)
    )


# Endpoints.

FAILURES_TO_OPEN = 5
LONGEST_OPEN = 60_000
"""Milliseconds: an open circuit is probed at least every minute."""
LONGEST_PAUSE = LONGEST_RETRY_AFTER
"""Milliseconds: refused credentials, and a throttled endpoint, are tried again at least every hour."""
_SLACK = 60_000
"""Milliseconds by which clocks of daemons with a shared store may differ without a wait looking wrong."""

Mode = Literal["healthy", "throttled", "open", "paused"]
Admission = Literal["all", "probe", "none"]

_MODES: Mapping[str, Mode] = {"throttled": "throttled", "refused credentials": "paused", "unavailable": "open"}
"""The endpoint's mode after a reply that is no answer."""


class Health(NamedTuple):
    """One endpoint's state.

    Attributes:
        failures: in a row, of this mode.
        until: when the next call may go out.
    """

    mode: Mode = "healthy"
    failures: int = 0
    until: int = 0
    reason: str | None = None


HEALTHY = Health()


def admits(health: Health, now: int, under_way: int) -> Admission:
    """What may be sent now, with so many calls to the endpoint under way."""
    if _waits(health, now):
        return "none"
    if health.mode in ("healthy", "throttled"):
        return "all"
    return "probe" if under_way == 0 else "none"


def after(health: Health, meaning: Meaning, reason: str, policy: RetryPolicy, *, now: int, chance: float) -> Health:
    """The state after a reply; arguments as of `result_of`."""
    waits = _waits(health, now)
    if meaning.kind in _ANSWERS and not (waits and health.mode == "throttled"):
        return HEALTHY
    if waits:
        return health._replace(until=max(health.until, now + (meaning.wait or 0)))
    mode = _MODES[meaning.kind]
    is_in_a_row = health.mode == mode or (mode == "open" and health.mode == "healthy")
    failures = doublings = health.failures + 1 if is_in_a_row else 1
    if mode == "open":
        if failures < FAILURES_TO_OPEN and health.mode in ("healthy", "throttled"):
            return Health("healthy", failures, reason=reason)
        failures = max(failures, FAILURES_TO_OPEN)
        doublings = failures - FAILURES_TO_OPEN + 1
    # Equal jitter: the single probe waits for half the ceiling at least.
    probe_after = int(ceiling(policy, doublings) * (0.5 + chance / 2))
    # A wait of 0 seconds, or until a past date, would cause a storm of calls.
    wait = meaning.wait or min(probe_after, _longest(mode))
    return Health(mode, failures, now + wait, reason)


ALL_ENDPOINTS = ""
"""Among paused endpoints: all of them, also those not yet known."""


def is_paused(paused: Collection[str], endpoint: str) -> bool:
    """Whether an operator has paused an endpoint, its origin or all."""
    origin, _, _ = endpoint.partition(" [")
    return not {ALL_ENDPOINTS, origin, endpoint}.isdisjoint(paused)


def with_other_credentials(health: Health) -> Health:
    """The state after our credentials may have changed: a paused endpoint is probed at once."""
    return health._replace(until=0) if health.mode == "paused" else health


def _waits(health: Health, now: int) -> bool:
    """Whether the endpoint still waits; a wait longer than its mode's longest comes from a wrong clock."""
    return health.mode != "healthy" and now < health.until <= now + _longest(health.mode) + _SLACK


def _longest(mode: Mode) -> int:
    return LONGEST_OPEN if mode == "open" else LONGEST_PAUSE

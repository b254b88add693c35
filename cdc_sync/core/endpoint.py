"""The health of one endpoint (scheme, host, port), shared by all calls to it.

    healthy ──5 unavailable in a row──▶ open ───probe fails──▶ open, longer
       ▲  │                              │
       │  ├──401, 403, 407──▶ paused     └──any answer──▶ healthy
       │  │                     └──probe: another answer──▶ healthy
       │  └──429, Retry-After──▶ throttled ──its time is up──▶ healthy
       └──────────────────────────────────────────────────────────┘

While an endpoint is open or paused, nothing is sent before `until`; then one single call is let through as a probe.
What was already under way when the state changed still reports back: such a straggler lengthens the wait only if it was
told a longer one, and ends it only if it succeeded; a wait that HelloWork asked for is not ended by a success either.

HelloWork may also refuse our credentials for some applications only. So that these hold nobody up, a probe is made with
the entry that has the fewest attempts (`Store.claim`).
"""

from dataclasses import dataclass, replace
from typing import Literal, assert_never

from cdc_sync.core.reply import (
    LONGEST_RETRY_AFTER,
    Acknowledged,
    CredentialsRefused,
    Meaning,
    NotFound,
    Rejected,
    Throttled,
    Unavailable,
)
from cdc_sync.core.retry import RetryPolicy, probe_after

FAILURES_TO_OPEN = 5
LONGEST_OPEN = 60_000
"""An open circuit is probed at least every minute (milliseconds): a single call a minute harms nobody."""
LONGEST_PAUSE = LONGEST_RETRY_AFTER
"""Refused credentials are tried again at least every hour (milliseconds), however long `retry.max` is."""
_SLACK = 60_000
"""Milliseconds by which clocks of daemons that share a store may differ without a wait looking like a mistake."""

Mode = Literal["healthy", "throttled", "open", "paused"]
Admission = Literal["all", "probe", "none"]


@dataclass(frozen=True, slots=True)
class Health:
    """One endpoint's state.

    Attributes:
        mode: see the module's text.
        failures: so many in a row, of those that brought it into this mode, or may bring it into another.
        until: when the next call may go out, in milliseconds since the epoch.
        reason: the last failure in words.
    """

    mode: Mode = "healthy"
    failures: int = 0
    until: int = 0
    reason: str | None = None


HEALTHY = Health()
"""Nothing is wrong."""


def admits(health: Health, now: int, under_way: int) -> Admission:
    """What may be sent now, with so many calls to the endpoint under way."""
    if health.mode == "healthy":
        return "all"
    if _waits(health, now):
        return "none"
    if health.mode == "throttled":
        return "all"
    return "probe" if under_way == 0 else "none"


def after(health: Health, meaning: Meaning, reason: str, policy: RetryPolicy, *, now: int, chance: float) -> Health:
    """The state after a reply.

    Args:
        health: the state before.
        meaning: what the reply means.
        reason: the reply in words, kept for people.
        policy: the retry policy; its waits are used for probes too.
        now: milliseconds since the epoch.
        chance: a random number, 0 ≤ chance < 1.
    """
    if _waits(health, now):
        return _after_straggler(health, meaning, now)
    match meaning:
        case Acknowledged() | NotFound() | Rejected():
            return HEALTHY
        case Throttled(wait):
            failures = health.failures + 1 if health.mode == "throttled" else 1
            # To wait for 0 seconds, or until a date that is past, is no wait: obeyed to the letter, it makes a storm.
            until = now + (wait or min(probe_after(policy, failures, chance), LONGEST_PAUSE))
            return Health("throttled", failures, until, reason)
        case CredentialsRefused():
            failures = health.failures + 1 if health.mode == "paused" else 1
            until = now + min(probe_after(policy, failures, chance), LONGEST_PAUSE)
            return Health("paused", failures, until, reason)
        case Unavailable():
            failures = health.failures + 1 if health.mode in ("healthy", "open") else 1
            if health.mode in ("healthy", "throttled") and failures < FAILURES_TO_OPEN:
                return Health("healthy", failures, reason=reason)
            wait = probe_after(policy, max(failures - FAILURES_TO_OPEN + 1, 1), chance)
            failures = max(failures, FAILURES_TO_OPEN)
            return Health("open", failures, now + min(wait, LONGEST_OPEN), reason)
    assert_never(meaning)


def with_other_credentials(health: Health) -> Health:
    """The state after our credentials may have become others: whoever refused them is asked again at once."""
    return replace(health, until=0) if health.mode == "paused" else health


def _waits(health: Health, now: int) -> bool:
    """Whether the endpoint's wait lasts; a wrong clock made one that reaches further ahead than any of its mode."""
    longest = LONGEST_OPEN if health.mode == "open" else LONGEST_PAUSE
    return health.mode != "healthy" and now < health.until <= now + longest + _SLACK


def _after_straggler(health: Health, meaning: Meaning, now: int) -> Health:
    match meaning:
        case Acknowledged() | NotFound() | Rejected() if health.mode != "throttled":
            return HEALTHY
        case Throttled(int(wait)):
            return replace(health, until=max(health.until, now + wait))
        case _:
            return health

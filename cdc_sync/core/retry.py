"""When a delivery is tried again, and when it is given up."""

from dataclasses import dataclass

LONGEST_COUNTED = 15 * 60_000
"""Of the milliseconds for which a delivery is due and not tried (its endpoint is paused, say), as many count as tried.

So the first failure after a pause of a week gives nothing up.
"""

LONGEST_UNASKED = 60_000
"""Of the milliseconds for which a delivery that was answered with 404 is due and not tried, as many count as asked.

So one 404 before an outage, or before a clock is set forward, and one after it give nothing up.
"""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Lengths of time in milliseconds.

    Attributes:
        first: the longest wait after the first failure; it doubles with each further one.
        max: the longest wait of all.
        give_up_after: how long a delivery is tried before it becomes a dead letter; see also `LONGEST_COUNTED`.
        not_found_for: how long HelloWork may answer 404 before a delivery becomes a dead letter.
    """

    first: int
    max: int
    give_up_after: int
    not_found_for: int


def ceiling(policy: RetryPolicy, failures: int) -> int:
    """The longest wait after that many failures in a row (1 and more), in milliseconds."""
    # The exponent is bounded: after a week of failures 2**n would be a number of thousands of digits.
    return min(policy.max, policy.first << min(failures - 1, 62))


def backoff(policy: RetryPolicy, failures: int, chance: float) -> int:
    """Full jitter: anything from nothing to the ceiling, so that what failed together does not return together.

    Args:
        policy: the policy.
        failures: failures in a row, 1 and more.
        chance: a random number, 0 ≤ chance < 1.
    """
    return int(ceiling(policy, failures) * chance)


def probe_after(policy: RetryPolicy, failures: int, chance: float) -> int:
    """Equal jitter: at least half the ceiling. For an endpoint's single probe, which must not come at once."""
    return int(ceiling(policy, failures) * (0.5 + chance / 2))


def longest_wait(policy: RetryPolicy) -> int:
    """No delivery's backoff reaches further into the future; if one does, a clock was wrong."""
    return policy.max

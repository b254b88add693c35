"""The whole table of waits, and that no number of failures breaks it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.replies import RetryPolicy, backoff, ceiling, probe_after

SECOND = 1_000
DEFAULT = RetryPolicy(first=1 * SECOND, max=900 * SECOND, give_up_after=7 * 86_400 * SECOND, not_found_for=900 * SECOND)

POLICIES = st.builds(
    RetryPolicy,
    first=st.integers(1, 10**7),
    max=st.integers(1, 10**9),
    give_up_after=st.just(0),
    not_found_for=st.just(0),
)
FAILURES = st.integers(1, 10**6)
CHANCES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        (1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 64), (8, 128), (9, 256), (10, 512), (11, 900), (12, 900),
        (63, 900), (64, 900), (65, 900), (1_000, 900), (1_000_000, 900),
    ],
)  # fmt: skip
def test_the_ceiling_doubles_up_to_the_maximum_and_stays_there(failures: int, seconds: int) -> None:
    assert ceiling(DEFAULT, failures) == seconds * SECOND


@pytest.mark.parametrize(
    ("chance", "backoff_ms", "probe_ms"),
    [(0.0, 0, 2_000), (0.25, 1_000, 2_500), (0.5, 2_000, 3_000), (0.75, 3_000, 3_500), (0.9999, 3_999, 3_999)],
)
def test_jitter_after_three_failures(chance: float, backoff_ms: int, probe_ms: int) -> None:
    assert backoff(DEFAULT, 3, chance) == backoff_ms
    assert probe_after(DEFAULT, 3, chance) == probe_ms


def test_a_first_wait_longer_than_the_maximum_is_cut() -> None:
    impatient = RetryPolicy(first=10 * SECOND, max=3 * SECOND, give_up_after=0, not_found_for=0)

    assert [ceiling(impatient, failures) for failures in (1, 2, 3)] == [3 * SECOND] * 3


@given(policy=POLICIES, failures=FAILURES)
def test_the_ceiling_never_falls_and_never_passes_the_maximum(policy: RetryPolicy, failures: int) -> None:
    assert 0 < ceiling(policy, failures) <= ceiling(policy, failures + 1) <= policy.max


@given(policy=POLICIES, failures=FAILURES, chance=CHANCES)
def test_a_backoff_is_below_its_ceiling(policy: RetryPolicy, failures: int, chance: float) -> None:
    assert 0 <= backoff(policy, failures, chance) < ceiling(policy, failures)


@given(policy=POLICIES, failures=FAILURES, chance=CHANCES)
def test_a_probe_waits_at_least_half_its_ceiling(policy: RetryPolicy, failures: int, chance: float) -> None:
    highest = ceiling(policy, failures)

    assert highest // 2 <= probe_after(policy, failures, chance) <= highest

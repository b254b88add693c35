"""What becomes of an entry: every meaning of a reply against every age of the entry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import BASE_URL
from support.sending import an_entry

from cdc_sync.core.replies import (
    Acked,
    CallResult,
    DeadLetter,
    Meaning,
    Retry,
    RetryPolicy,
    ceiling,
    kernel_gives_up_after,
    longest_on_its_way,
    result_of,
)

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
NOW = 1_700_000_000_000
POLICY = RetryPolicy(first=1_000, max=15 * MINUTE, give_up_after=7 * DAY, not_found_for=15 * MINUTE)
# The third attempt's ceiling is 4 s; half of it is waited.
CHANCE, BACKOFF = 0.5, 2_000
ENTRY = an_entry(base_url=BASE_URL)._replace(attempts=3, first_attempt_at=NOW - DAY)

YOUNG = NOW - 7 * DAY + 1
EXPIRED = NOW - 7 * DAY
LATELY = NOW - 15 * MINUTE + 1
LONG_SINCE = NOW - 15 * MINUTE
GIVEN_UP = DeadLetter("given up after 3 attempts: 503")
UNKNOWN = DeadLetter("HelloWork still does not know the application: 404")
AGAIN = Retry(NOW + BACKOFF)


@pytest.mark.parametrize(
    ("meaning", "reason", "first_attempt_at", "not_found_since", "expected"),
    [
        (Meaning("acknowledged"), "200", YOUNG, None, Acked()),
        (Meaning("acknowledged"), "200", EXPIRED, LONG_SINCE, Acked()),
        (Meaning("rejected"), "400: no such job", YOUNG, None, DeadLetter("400: no such job")),
        (Meaning("rejected"), "400: no such job", EXPIRED, LONG_SINCE, DeadLetter("400: no such job")),
        (Meaning("refused credentials"), "401", YOUNG, None, Retry(NOW, restarts=True)),
        (Meaning("refused credentials"), "401", EXPIRED, LONG_SINCE, Retry(NOW, restarts=True)),
        (Meaning("throttled", None), "429", YOUNG, None, Retry(NOW)),
        (Meaning("throttled", 5_000), "429", EXPIRED, LONG_SINCE, Retry(NOW)),
        (Meaning("not found"), "404", YOUNG, None, Retry(NOW + BACKOFF, not_found_since=NOW)),
        (Meaning("not found"), "404", YOUNG, LATELY, Retry(NOW + BACKOFF, not_found_since=LATELY)),
        (Meaning("not found"), "404", YOUNG, LONG_SINCE, UNKNOWN),
        (Meaning("not found"), "404", EXPIRED, None, Retry(NOW + BACKOFF, not_found_since=NOW)),
        (Meaning("unavailable"), "503", None, None, AGAIN),
        (Meaning("unavailable"), "503", YOUNG, None, AGAIN),
        (Meaning("unavailable"), "503", YOUNG, LONG_SINCE, AGAIN),
        (Meaning("unavailable"), "503", EXPIRED, None, GIVEN_UP),
    ],
)
def test_fate(
    meaning: Meaning, reason: str, first_attempt_at: int | None, not_found_since: int | None, expected: CallResult
) -> None:
    entry = ENTRY._replace(first_attempt_at=first_attempt_at, not_found_since=not_found_since)

    assert result_of(entry, meaning, reason, POLICY, now=NOW, chance=CHANCE) == expected


@given(
    attempts=st.integers(1, 10_000),
    age=st.integers(0, 7 * DAY - 1),
    meaning=st.sampled_from([Meaning("unavailable"), Meaning("not found")]),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_the_next_attempt_is_never_in_the_past_and_never_beyond_the_ceiling(
    attempts: int, age: int, meaning: Meaning, chance: float
) -> None:
    entry = ENTRY._replace(attempts=attempts, first_attempt_at=NOW - age)

    decided = result_of(entry, meaning, "no", POLICY, now=NOW, chance=chance)

    assert isinstance(decided, Retry)
    assert 0 <= decided.due_at - NOW <= ceiling(POLICY, attempts)


def test_a_clock_that_was_set_back_gives_nothing_up() -> None:
    entry = ENTRY._replace(first_attempt_at=NOW + 30 * DAY, not_found_since=NOW + 30 * DAY)

    assert result_of(entry, Meaning("unavailable"), "503", POLICY, now=NOW, chance=CHANCE) == AGAIN
    assert isinstance(result_of(entry, Meaning("not found"), "404", POLICY, now=NOW, chance=CHANCE), Retry)


def test_a_call_may_be_on_its_way_until_the_kernel_gives_up_after_the_calls_own_timeout() -> None:
    assert kernel_gives_up_after(5.0) == 6.0
    assert longest_on_its_way(5.0) == 11.0

"""The pace of changes, which decides whether the bell is armed."""

import pytest

from cdc_sync.ats.bell import BUSY, CALM, WINDOW, Pace, count


def test_a_window_that_is_not_over_counts_on() -> None:
    pace = Pace(since=10.0, changes=10, before=5.0)

    assert count(pace, 10.0 + WINDOW / 2, 20) == Pace(since=10.0, changes=30, before=5.0, rate=30 / WINDOW)
    assert count(Pace(since=10.0, before=5.0), 10.0 + WINDOW / 2, 1).rate == 5.0, "not below the window before"


def test_a_full_window_gives_the_rate_and_begins_the_next() -> None:
    pace = count(Pace(since=10.0, changes=40), 12.0, 1)

    assert pace == Pace(since=12.0, changes=1, before=20.0, rate=20.0)


@pytest.mark.parametrize("fewer", [0, 1])
def test_a_burst_after_a_long_rest_is_seen_as_it_begins(fewer: int) -> None:
    pace = count(Pace(since=0.0), 3_600.0, round(BUSY * WINDOW) - fewer)

    assert (pace.rate >= BUSY) == (fewer == 0)


def test_after_a_burst_a_calm_window_must_pass() -> None:
    pace = count(Pace(since=0.0), 10.0, 1_000)

    assert count(pace, 10.0 + WINDOW / 2, 0).rate >= CALM
    assert count(pace, 10.0 + WINDOW, 0).rate >= CALM, "the burst was in the window before"
    assert count(count(pace, 10.0 + WINDOW, 0), 10.0 + 2 * WINDOW, 0).rate < CALM


def test_the_limits_are_apart() -> None:
    assert CALM < BUSY


def test_it_begins_calm() -> None:
    assert Pace(since=0.0).rate < CALM

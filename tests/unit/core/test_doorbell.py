"""The pace that decides whether to sleep."""

from dataclasses import replace

from cdc_sync.core.doorbell import BUSY, CALM, WINDOW, Pace, count, pause


def test_a_window_that_is_not_over_tells_nothing() -> None:
    assert count(Pace(since=10.0), 10.0 + WINDOW / 2, 1_000) == Pace(since=10.0, changes=1_000)


def test_a_full_window_gives_the_rate_and_begins_the_next() -> None:
    pace = count(Pace(since=10.0, changes=30), 12.0, 10)

    assert pace == Pace(since=12.0, per_second=20.0)


def test_many_changes_after_a_long_rest_are_no_pace() -> None:
    """One bulk update is one notification."""
    assert not count(Pace(since=0.0), 3_600.0, 10_000).is_busy


def test_between_the_limits_everything_stays_as_it_is() -> None:
    calm, between, busy = (replace(Pace(since=0.0), per_second=rate) for rate in (CALM - 1, (CALM + BUSY) / 2, BUSY))

    assert (calm.is_calm, calm.is_busy) == (True, False)
    assert (between.is_calm, between.is_busy) == (False, False)
    assert (busy.is_calm, busy.is_busy) == (False, True)


def test_it_begins_calm() -> None:
    assert Pace(since=0.0).is_calm


def test_the_pause_follows_what_a_search_costs_within_limits() -> None:
    assert [pause(searched) for searched in (0.0, 0.005, 0.1, 3.0)] == [0.02, 0.02, 0.4, 2.0]

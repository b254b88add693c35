"""The pace that decides whether to sleep."""

from dataclasses import replace

from cdc_sync.core.doorbell import BUSY, CALM, WINDOW, Pace, count, pause


def test_a_window_that_is_not_over_tells_nothing() -> None:
    assert count(Pace(since=10.0), 10.0 + WINDOW / 2, 1_000) == Pace(since=10.0, changes=1_000)


def test_a_full_window_gives_the_rate_and_begins_the_next() -> None:
    pace = count(Pace(since=10.0, changes=40), 12.0, 10)

    assert pace == Pace(since=12.0, changes=10, per_second=20.0)


def test_a_burst_after_a_long_rest_is_seen_as_it_begins() -> None:
    assert count(Pace(since=0.0), 3_600.0, round(BUSY * WINDOW)).is_busy
    assert not count(Pace(since=0.0), 3_600.0, round(BUSY * WINDOW) - 1).is_busy


def test_after_a_burst_a_calm_window_must_pass() -> None:
    pace = count(Pace(since=0.0), 10.0, 1_000)

    assert not count(pace, 10.0 + WINDOW / 2, 0).is_calm
    assert not count(pace, 10.0 + WINDOW, 0).is_calm, "the burst was in the window before"
    assert count(count(pace, 10.0 + WINDOW, 0), 10.0 + 2 * WINDOW, 0).is_calm


def test_between_the_limits_everything_stays_as_it_is() -> None:
    calm, between, busy = (replace(Pace(since=0.0), per_second=rate) for rate in (CALM - 1, (CALM + BUSY) / 2, BUSY))

    assert (calm.is_calm, calm.is_busy) == (True, False)
    assert (between.is_calm, between.is_busy) == (False, False)
    assert (busy.is_calm, busy.is_busy) == (False, True)


def test_it_begins_calm() -> None:
    assert Pace(since=0.0).is_calm


def test_the_pause_follows_what_a_search_costs_within_limits() -> None:
    assert [pause(searched) for searched in (0.0, 0.005, 0.1, 3.0)] == [0.02, 0.02, 0.4, 2.0]

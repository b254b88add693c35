"""When event dates count as whole hours off, and what begins the count again."""

import pytest

from cdc_sync.core.zone import Dated, EventDates, hours_off

MINUTE = 60_000
HOUR = 60 * MINUTE
NOW = 1_700_000_000_000


def dated(number: int, distance: int, *, between: int = 0) -> Dated:
    """Row `number` changed in the minutes `between` a sweep and its time; its date is at a distance from that."""
    at = NOW + number * MINUTE
    return Dated((str(number),), at + distance, at - between, at)


@pytest.mark.parametrize(
    ("distance", "between", "hours"),
    [
        (0, 0, 0),
        (-3 * MINUTE, 0, 0),
        (-4 * MINUTE, 0, None),
        (-HOUR - 3 * MINUTE, 0, -1),
        (14 * HOUR, 0, 14),
        (-15 * HOUR, 0, None),
        (-HOUR - 14 * MINUTE, 15 * MINUTE, -1),
        (-14 * MINUTE, 15 * MINUTE, 0),
        (-HOUR + 5 * MINUTE, 15 * MINUTE, None),
        (-HOUR, 54 * MINUTE, None),
        (-HOUR, 53 * MINUTE, -1),
    ],
)
def test_only_one_whole_number_of_hours_is_certain(distance: int, between: int, hours: int | None) -> None:
    assert hours_off(dated(1, distance, between=between)) == hours


def test_three_rows_in_a_row_are_news_once_and_so_are_three_that_fit() -> None:
    dates = EventDates()

    assert [dates.see([dated(number, -HOUR)]) for number in range(5)] == [False, False, True, False, False]
    assert dates.hours == -1
    assert dates.reason == "the event dates of the last 3 changed rows are 1 h before the changes"
    assert dates.reason.code == "zone-before"
    assert [dates.see([dated(number, 0)]) for number in range(4)] == [False, False, True, False]
    assert dates.hours == 0


def test_other_hours_are_other_news() -> None:
    dates = EventDates()

    assert dates.see([dated(number, HOUR) for number in range(3)])
    assert dates.see([dated(number, 2 * HOUR) for number in range(3)])
    assert dates.reason == "the event dates of the last 3 changed rows are 2 h after the changes"
    assert dates.reason.code == "zone-after"


def test_the_rows_of_one_date_and_the_dates_of_one_row_count_once() -> None:
    dates = EventDates()

    assert not dates.see([Dated((str(number),), NOW - HOUR, NOW, NOW) for number in range(9)])
    dates = EventDates()
    for number in range(9):
        assert not dates.see([dated(number, -HOUR)._replace(key=("1",))])


def test_nothing_changed_is_no_news() -> None:
    dates = EventDates()
    dates.see([dated(number, -HOUR) for number in range(2)])

    assert not dates.see([])
    assert dates.see([dated(2, -HOUR)])

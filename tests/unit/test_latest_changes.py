"""Many changes of one row are one reading of it."""

from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.ats.changelog import latest
from cdc_sync.core.rows import Key


def test_no_changes_no_keys() -> None:
    assert latest([]) == {}


def test_each_key_once_with_its_last_change_in_the_order_of_first_mention() -> None:
    changes = [(("2",), 10), (("1", "a"), 30), (("2",), 40), (("1", "a"), 20)]

    assert list(latest(changes).items()) == [(("2",), 40), (("1", "a"), 30)]


@given(st.lists(st.tuples(st.sampled_from([("1",), ("2",), ("1", "2")]), st.integers(-5, 5))))
def test_no_key_is_lost_and_no_time_invented(changes: list[tuple[Key, int]]) -> None:
    times = latest(changes)

    assert times.keys() == {key for key, _ in changes}
    assert all(time == max(at for each, at in changes if each == key) for key, time in times.items())

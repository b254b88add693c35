"""Many hints of one row are one reading of it."""

from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.hints import Hint, latest


def test_no_hints_no_keys() -> None:
    assert latest([]) == {}


def test_each_key_once_with_its_last_change_in_the_order_of_first_mention() -> None:
    hints = [Hint(("2",), 10), Hint(("1", "a"), 30), Hint(("2",), 40), Hint(("1", "a"), 20)]

    assert list(latest(hints).items()) == [(("2",), 40), (("1", "a"), 30)]


@given(st.lists(st.builds(Hint, st.sampled_from([("1",), ("2",), ("1", "2")]), st.integers(-5, 5))))
def test_no_key_is_lost_and_no_time_invented(hints: list[Hint]) -> None:
    times = latest(hints)

    assert times.keys() == {hint.key for hint in hints}
    assert all(time == max(hint.at for hint in hints if hint.key == key) for key, time in times.items())

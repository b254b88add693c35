"""Which records a walk has met, and which numbers it has not: two sides of one bitmap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.ats.sweep import mark, size_of
from cdc_sync.store.capture import unmarked


@given(last=st.integers(0, 70), data=st.data())
def test_what_was_not_met_is_what_is_left(last: int, data: st.DataObject) -> None:
    met = data.draw(st.lists(st.integers(1, last + 20)))
    first = data.draw(st.integers(1, last + 1))
    marks = bytearray(size_of(last))

    mark(marks, met)

    assert unmarked(bytes(marks), first, last) == [n for n in range(first, last + 1) if n not in met]


@pytest.mark.parametrize("number", [0, -1, -8, -9])
def test_what_is_no_number_marks_nothing(number: int) -> None:
    marks = bytearray(size_of(20))

    mark(marks, [number])

    assert unmarked(bytes(marks), 1, 20) == list(range(1, 21))

"""When capture stands back."""

import pytest

from cdc_sync.core.flood import FLOOD, LONGEST_BREATH, SHARE, TO_TELL, WINDOW, Writes, breath, count

FLOODED = Writes(since=0.0, next_id=1, per_second=(FLOOD, FLOOD))


def test_the_first_look_tells_nothing() -> None:
    assert count(Writes(), 10.0, 5_000_000) == Writes(since=10.0, next_id=5_000_000, per_second=(0.0, 0.0))


def test_nor_does_one_that_follows_at_its_heels() -> None:
    before = Writes(since=10.0, next_id=100, per_second=(0.0, 7.0))

    assert count(before, 10.0 + WINDOW / 2, 1_000_000) == before


def test_the_rate_is_taken_from_look_to_look() -> None:
    before = Writes(since=10.0, next_id=100, per_second=(3.0, 7.0))

    assert count(before, 12.0, 2_100) == Writes(since=12.0, next_id=2_100, per_second=(7.0, 1_000.0))


def test_the_end_of_a_flood_is_seen_with_the_next_window() -> None:
    assert breath(count(FLOODED, WINDOW, 1), 0.1, 9) == 0.0


@pytest.mark.parametrize(
    ("worked", "seconds"), [(0.0, 0.0), (0.01, 0.01 * (SHARE - 1)), (0.2, 0.2 * (SHARE - 1)), (60.0, LONGEST_BREATH)]
)
def test_in_a_flood_it_takes_its_share(worked: float, seconds: float) -> None:
    assert breath(FLOODED, worked, 0) == seconds


def test_what_it_takes_to_tell_the_changes_counts_too() -> None:
    assert breath(FLOODED, 0.01, 100) == (SHARE - 1) * (0.01 + 100 * TO_TELL)


def test_below_it_takes_what_it_needs() -> None:
    assert breath(Writes(per_second=(FLOOD - 1, FLOOD)), 60.0, 1_000) == 0.0


def test_one_statement_with_many_rows_is_none() -> None:
    """Its ids are handed out by the time of its commit, after which nobody writes."""
    rested = Writes(since=0.0, next_id=1)

    seen = count(rested, 5.0, 1_000_001)
    after = count(seen, 5.0 + WINDOW, 1_000_001)

    assert breath(seen, 60.0, 1_000) == breath(after, 60.0, 1_000) == 0.0

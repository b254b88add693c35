import pytest

from cdc_sync.core.findings import check_clock, clock_skew


@pytest.mark.parametrize(
    ("theirs", "before", "after", "resolution", "expected"),
    [
        (1_000, 1_000, 2_000, 0, 0),  # in between: nothing is known to be wrong
        (2_000, 1_000, 2_000, 0, 0),
        (2_001, 1_000, 2_000, 0, 1),
        (999, 1_000, 2_000, 0, -1),
        (1_000, 1_900, 1_950, 1_000, 0),  # told in whole seconds
        (0, 1_900, 1_950, 1_000, -900),
        (90_000, 1_000, 61_000, 0, 29_000),  # a slow answer is no skew
    ],
)
def test_only_what_lies_outside_the_exchange_is_skew(
    theirs: int, before: int, after: int, resolution: int, expected: int
) -> None:
    assert clock_skew(theirs, before, after, resolution) == expected


def test_much_is_told_with_its_side() -> None:
    ahead, behind = check_clock("clock", "its clock", 2_001), check_clock("clock", "its clock", -90_000)

    assert (ahead.check, ahead.state) == ("clock", "warning")
    assert ahead.message.startswith("its clock is 2 s ahead of this machine's")
    assert behind.message.startswith("its clock is 90 s behind this machine's")
    assert "timedatectl" in (behind.remedy or "")


@pytest.mark.parametrize("found", [0, 2_000, -2_000])
def test_a_little_is_not_worth_a_word(found: int) -> None:
    assert check_clock("clock", "its clock", found).state == "ok"

"""When a watermark is doubted: by how many rows, and what their distances say."""

import pytest

from cdc_sync.core.watermark import Evidence

HOUR = 60 * 60_000
DAY = 24 * HOUR
NOW = 1_700_000_000_000
AHEAD = "in the future when it was written"
ELSEWHERE = "part of the ATS writes another time zone than `timezone`"


def verdict(
    *,
    ahead: tuple[int, ...] = (),
    early: tuple[int, ...] = (),
    missed: tuple[int | None, ...] = (),
    resolution: int = 0,
    now: int = NOW,
) -> str | None:
    """What is said of rows that are so far from where they should be."""
    evidence = Evidence("changed_on", resolution)
    for number, distance in enumerate(ahead):
        evidence.polled((str(number),), NOW + distance, None, NOW)
    for number, distance in enumerate(early):
        evidence.polled((str(number),), NOW - DAY, NOW - DAY + distance, NOW)
    for number, lag in enumerate(missed):
        evidence.missed((str(number),), None if lag is None else NOW - lag, NOW, HOUR // 4)
    return evidence.verdict(now)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"ahead": (2 * HOUR - 900, 2 * HOUR, 2 * HOUR - 1900)}, f"3 rows was {AHEAD}, by 2 h: {ELSEWHERE}"),
        ({"ahead": (HOUR // 2, HOUR // 2, 40 * DAY)}, f"3 rows was {AHEAD}"),
        ({"ahead": (40 * DAY,) * 3}, f"3 rows was {AHEAD}"),
        ({"early": (HOUR,) * 3}, "3 rows is before `created`, by 1 h: the ATS writes the two in different time zones"),
        ({"early": (HOUR // 3,) * 4}, "4 rows is before `created`"),
        (
            {"missed": (2 * HOUR, 2 * HOUR + HOUR // 5, 2 * HOUR + 5)},
            f"3 changed rows was 2 h in the past when it was written, so only sweeps found them: {ELSEWHERE}",
        ),
    ],
)  # fmt: skip
def test_three_rows_are_enough(seen: dict[str, tuple[int, ...]], said: str) -> None:
    assert verdict(**seen) == f"changed_on of {said}"  # type: ignore[arg-type]


@pytest.mark.parametrize("lags", [(DAY, 3 * DAY, 400 * DAY), (None,) * 3, (2 * HOUR, 2 * HOUR, 3 * HOUR), (1000,) * 3])
def test_changes_at_no_certain_distance_are_such_as_did_not_move_it(lags: tuple[int | None, ...]) -> None:
    said = verdict(missed=lags)

    assert said is not None
    assert said.startswith("changed_on did not move when 3 rows changed, so only sweeps found them: ")


def test_several_things_are_said_together() -> None:
    said = verdict(ahead=(HOUR,) * 3, missed=(DAY, 2 * DAY, 3 * DAY))

    assert said is not None
    assert said.count("; ") == 1


@pytest.mark.parametrize(
    "seen",
    [
        {"ahead": (HOUR, HOUR), "early": (HOUR, HOUR), "missed": (HOUR, HOUR)},
        {"ahead": (1000,) * 9, "early": (1000,) * 9},
        {"early": (20 * HOUR,) * 9, "resolution": DAY},
    ],
    ids=["two rows", "a clock that is a little off", "a date without a time"],
)
def test_little_says_nothing(seen: dict[str, tuple[int, ...]]) -> None:
    assert verdict(**seen) is None  # type: ignore[arg-type]


def test_it_is_forgotten_after_a_day() -> None:
    assert verdict(ahead=(HOUR,) * 3, now=NOW + DAY) is not None
    assert verdict(ahead=(HOUR,) * 3, now=NOW + DAY + 1) is None


def test_a_row_that_is_read_again_counts_once_and_as_it_was_first() -> None:
    evidence = Evidence("changed_on")
    for _ in range(9):
        for key in range(200):
            evidence.polled((str(key),), NOW + HOUR, None, NOW)
    evidence.polled(("0",), NOW + HOUR, None, NOW + HOUR // 2)

    said = evidence.verdict(NOW)

    assert said is not None
    assert said.startswith("changed_on of 100 rows was in the future when it was written, by 1 h")

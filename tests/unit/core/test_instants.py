"""Instants at the edges: the epoch, the first and the last year, rounding, and what is no instant."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.content import from_datetime, iso, milliseconds
from cdc_sync.core.rows import from_microseconds

FIRST = -62_135_596_800_000
LAST = 253_402_300_799_999
INSTANTS = st.integers(FIRST, LAST)


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (1_673_341_200_000, "2023-01-10T09:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (FIRST, "0001-01-01T00:00:00.000Z"),
        (LAST, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_hellowork_dates(instant: int, text: str) -> None:
    assert iso(instant) == text


@given(INSTANTS)
def test_a_written_date_reads_back_as_the_same_instant(instant: int) -> None:
    text = iso(instant)

    assert len(text) == len("2023-01-10T09:00:00.000Z")
    assert from_datetime(datetime.fromisoformat(text)) == instant


@pytest.mark.parametrize(
    ("text", "instant"),
    [("999", 0), ("-1", -1), ("-1000", -1), (str(FIRST * 1000), FIRST), (str(LAST * 1000 + 999), LAST)],
)
def test_microseconds_are_rounded_down_on_both_sides_of_the_epoch(text: str, instant: int) -> None:
    assert from_microseconds(text) == instant


@pytest.mark.parametrize(
    ("moment", "instant"),
    [
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
    ],
)
def test_aware_datetimes(moment: datetime, instant: int) -> None:
    assert from_datetime(moment) == instant


@pytest.mark.parametrize(
    ("length", "expected"),
    [(timedelta(days=7), 604_800_000), (timedelta(microseconds=1_999), 1), (timedelta(microseconds=-1), -1)],
)
def test_lengths_are_whole_milliseconds_rounded_down(length: timedelta, expected: int) -> None:
    assert milliseconds(length) == expected

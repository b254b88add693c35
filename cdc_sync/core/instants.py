"""Instants as whole milliseconds since the epoch, as far as HelloWork's way of writing them goes."""

from datetime import UTC, datetime, timedelta

from cdc_sync.core.reasons import coded

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# HelloWork's dates have a year of four digits (hellowork-api: `2023-01-10T09:00:00.000Z`).
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // _MILLISECOND
LATEST = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - EPOCH) // _MILLISECOND


class NotAnInstant(ValueError):  # noqa: N818 - says what the value is, as the row's reason does
    """A date that exists in PostgreSQL but cannot be written in HelloWork's format."""


def milliseconds(length: timedelta) -> int:
    """A length of time in whole milliseconds, rounded down."""
    return length // _MILLISECOND


def from_datetime(moment: datetime) -> int:
    """An aware datetime in milliseconds since the epoch, rounded down.

    Raises:
        NotAnInstant: when the conversion to UTC leaves the years 1 to 9999.
    """
    return within_range((moment - EPOCH) // _MILLISECOND)


def within_range(instant: int) -> int:
    """The instant, if it can be written.

    Raises:
        NotAnInstant: its year is outside 1 to 9999.
    """
    if not FIRST <= instant <= LATEST:
        raise NotAnInstant(
            coded("year-out-of-range", "its year is outside 1 to 9999, which YYYY-MM-DDTHH:MM:SS.mmmZ cannot write")
        )
    return instant

"""What a reply means (design, "What a reply means"): one closed set of meanings, decided in one place."""

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from cdc_sync.core.instants import NotAnInstant, from_datetime

LONGEST_RETRY_AFTER = 60 * 60 * 1000
"""A `Retry-After` is obeyed up to an hour (milliseconds): a mistaken date must not silence us for years."""


class Reply(NamedTuple):
    """What came back: a status line with what matters of its headers, or `failure`, what happened instead of one.

    Its `date` matters beside a `retry_after` only.
    """

    status: int | None = None
    content_type: str = ""
    retry_after: str | None = None
    failure: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """HelloWork knows it now."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """HelloWork does not know the application (yet)."""


@dataclass(frozen=True, slots=True)
class CredentialsRefused:
    """It is about us, not about this call: the whole endpoint pauses."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The whole endpoint waits: for `wait` milliseconds, or by its own backoff if None was told."""

    wait: int | None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nobody knows whether the call was heard. `misconfigured`: a redirect, which only a person can repair."""

    misconfigured: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Understood and refused: to say the same again would not help."""


ACKNOWLEDGED = Acknowledged()

Meaning = Acknowledged | NotFound | CredentialsRefused | Throttled | Unavailable | Rejected

_UNAVAILABLE_4XX = {408, 425}
_CREDENTIALS = {401, 403, 407}


def meaning_of(reply: Reply, now: int) -> Meaning:  # noqa: PLR0911 - a decision table, one return per row
    """Read a reply; `now` (milliseconds since the epoch) is what a `Retry-After` date is compared with.

    If the reply has a date of its own, that is now: the sender's clock may differ from ours by more than the wait.
    """
    status = reply.status
    if status is None:
        return Unavailable()
    # A web page in the place of the API's answer is a captive portal, a proxy's error page, a maintenance page.
    is_page = reply.content_type.partition(";")[0].strip().lower() == "text/html"
    if 200 <= status < 300 and not is_page:  # noqa: PLR2004 - HTTP's classes are numbers
        return ACKNOWLEDGED
    wait = None
    if reply.retry_after is not None:
        sent_at = None if reply.date is None else _instant(reply.date)
        wait = _wait(reply.retry_after, now if sent_at is None else sent_at)
    if status == 429 or wait is not None:  # noqa: PLR2004 - Too Many Requests
        return Throttled(wait)
    if status in _CREDENTIALS:
        return CredentialsRefused()
    if status == 404:  # noqa: PLR2004 - Not Found
        return NotFound()
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's classes are numbers
        return Unavailable(misconfigured=True)
    if 400 <= status < 500 and status not in _UNAVAILABLE_4XX:  # noqa: PLR2004 - HTTP's classes are numbers
        return Rejected()
    return Unavailable()


def _wait(value: str, now: int) -> int | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3), as milliseconds from now; None if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Cut before int(): Python refuses to convert thousands of digits.
        return min(int(value.lstrip("0")[:9] or "0") * 1000, LONGEST_RETRY_AFTER)
    until = _instant(value)
    return None if until is None else min(max(until - now, 0), LONGEST_RETRY_AFTER)


def _instant(date: str) -> int | None:
    """An HTTP date in milliseconds since the epoch; None if it is none."""
    try:
        moment = parsedate_to_datetime(date.strip())
        return from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError, NotAnInstant):
        return None

"""What HelloWork knows, or should know, of one application, and the call that carries it.

Body and key depend on the content alone, so every retry is the same request to the byte, also after a crash.
"""

import hashlib
import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Literal, NamedTuple, Self

from .status_url import DEFAULT_ACCOUNT, endpoint_name, endpoint_of

# Numbers stay texts: Python refuses thousands of digits.
_decode = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode

Kind = Literal["first", "status", "job", "deleted"]
"""Why a call is made; several may apply."""


class Content(NamedTuple):
    """The content of one call.

    Attributes:
        status: as it is sent, already mapped.
        deleted: whether the application is gone from the ATS.
        source: JSON text of a string or an object; None: not sent.
        extra: JSON text of an object with further fields of the payload.
        account: whose headers the call has; it is not sent otherwise.
    """

    status: str
    job_id: str
    deleted: bool
    created: int
    event_date: int
    source: str | None
    extra: str | None
    url: str
    account: str = DEFAULT_ACCOUNT

    @property
    def endpoint(self) -> str:
        """The endpoint of the call.

        Raises:
            ValueError: the URL is not usable.
        """
        return endpoint_name(endpoint_of(self.url), self.account)

    def same_as(self, other: Self) -> bool:
        """Whether status, job and existence are the same; the other fields are metadata."""
        return self.status == other.status and self.job_id == other.job_id and self.deleted == other.deleted

    def same_metadata(self, other: Self) -> bool:
        """Whether address, account, source, creation date and extra fields are the same.

        The event's date is left out: each write to a row may change it.
        """
        mine = (self.url, self.account, self.source, self.created, self.extra)
        return mine == (other.url, other.account, other.source, other.created, other.extra)

    def as_deleted(self, status: str, at: int, extra_fields: Collection[str]) -> Self:
        """The content after a deletion at `at`, with only these extra fields."""
        extra = None if self.extra is None else only_fields(self.extra, extra_fields)
        return self._replace(status=status, deleted=True, event_date=at, extra=extra)


# The call.


def request(application_id: str, content: Content) -> tuple[bytes, str]:
    """The JSON body, as HelloWork's page "Envoi changements de statut" documents it, and the idempotency key.

    Every retry of a content has the same key; any other content or application has another one.
    """
    text = (
        f'{{"status": {encode_basestring_ascii(content.status)}, "eventDate": "{iso(content.event_date)}", '
        f'"created": "{iso(content.created)}", "jobId": {encode_basestring_ascii(content.job_id)}'
    )
    if content.source is not None:
        # PostgreSQL wrote this JSON; a parser could only change its numbers.
        text += f', "source": {content.source}'
    if content.extra is not None and (further := content.extra.strip()[1:-1].strip()):
        text += f", {further}"
    data, key = f"{text}}}".encode(), hashlib.sha256()
    for part in (application_id.encode(), content.url.encode(), data):
        # With the lengths: otherwise ("a", "bc") and ("ab", "c") would have one key.
        key.update(len(part).to_bytes(8, "big") + part)
    return data, key.hexdigest()[:40]


def only_fields(text: str, names: Collection[str]) -> str | None:
    """The object with only these fields, each as it was written; None if none is left.

    Also None if a value is nested deeper than Python can follow, which PostgreSQL accepts.
    """
    kept: list[str] = []
    place = _after_blanks(text, 1)
    try:
        while text[place] != "}":
            name, after_name = _decode(text, place)
            _, end = _decode(text, _after_blanks(text, after_name))
            if name in names:
                kept.append(text[place:end])
            place = _after_blanks(text, end)
    except RecursionError:
        return None
    return f"{{{', '.join(kept)}}}" if kept else None


def _after_blanks(text: str, place: int) -> int:
    """The next place with neither white space nor a separator."""
    return len(text) - len(text[place:].lstrip(" \t\r\n,:"))


# Instants.

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(length: timedelta) -> int:
    """A length of time in whole milliseconds, rounded down."""
    return length // _MILLISECOND


def from_datetime(moment: datetime) -> int:
    """An aware datetime in milliseconds, rounded down."""
    return milliseconds(moment - _EPOCH)


# HelloWork's dates have a year of four digits (`2023-01-10T09:00:00.000Z`), as Python's have.
FIRST = from_datetime(datetime.min.replace(tzinfo=UTC))
LATEST = from_datetime(datetime.max.replace(tzinfo=UTC))


@lru_cache(maxsize=1024)  # rows of one statement have the same date
def iso(instant: int) -> str:
    """An instant as HelloWork documents it: UTC, milliseconds, `Z`."""
    return (_NAIVE_EPOCH + instant * _MILLISECOND).isoformat(timespec="milliseconds") + "Z"

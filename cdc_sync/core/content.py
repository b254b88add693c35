"""What HelloWork knows, or should know, of one application, and the call that says it.

The call's body and key are functions of the content alone, so every retry of a delivery, also after a crash, is the
same request to the byte. Instants are whole milliseconds since the epoch, as far as HelloWork's dates can be written.
"""

import hashlib
import json
import re
import struct
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Literal, NamedTuple, Self

from cdc_sync.core.reasons import coded

quoted = encode_basestring

_as_length = struct.Struct(">Q").pack
_decode = json.JSONDecoder().raw_decode

_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|[^\s",:\[\]{}]+', re.DOTALL)
"""A string, a bracket, or a number or word. What is between is white space, commas and colons."""

Kind = Literal["first", "status", "job", "deleted"]
"""Why a call is made; several may apply at once."""


class Content(NamedTuple):
    """What one call tells HelloWork.

    Attributes:
        status: the label as it is sent, already mapped.
        job_id: the job's id in the ATS.
        deleted: whether the application is gone from the ATS.
        created: when the application was created in the ATS, in milliseconds since the epoch.
        event_date: when the event behind this content happened, in milliseconds since the epoch.
        source: JSON text of a string or an object, or None to leave the field out.
        extra: JSON text of an object with the further fields of the payload, or None.
        url: where the call goes.
    """

    status: str
    job_id: str
    deleted: bool
    created: int
    event_date: int
    source: str | None
    extra: str | None
    url: str

    def same_as(self, other: Self) -> bool:
        """Whether telling one after the other would tell HelloWork nothing new.

        Only status, job and existence count; the other fields ride along.
        """
        return self.status == other.status and self.job_id == other.job_id and self.deleted == other.deleted

    def rides_as(self, other: Self) -> bool:
        """Whether what rides along is the same too: address, source, date of creation and extra fields.

        Not the event's date: each write to a row may change it.
        """
        mine = (self.url, self.source, self.created, self.extra)
        return mine == (other.url, other.source, other.created, other.extra)

    def as_deleted(self, status: str, at: int, extra_fields: Collection[str]) -> Self:
        """The same application gone: its last known job and creation date, since its row cannot be read any more.

        Of the extra fields only those go with it that `extra_fields` names.
        """
        extra = None if self.extra is None else only_fields(self.extra, extra_fields)
        return self._replace(status=status, deleted=True, event_date=at, extra=extra)


# The call.


def request(application_id: str, content: Content) -> tuple[bytes, str]:
    """The JSON body, as HelloWork's page "Envoi changements de statut" documents it, and the call's idempotency key.

    The key is the same for every retry of the same content, another for any other content or application.
    """
    text = (
        f'{{"status": {encode_basestring_ascii(content.status)}, "eventDate": "{iso(content.event_date)}", '
        f'"created": "{iso(content.created)}", "jobId": {encode_basestring_ascii(content.job_id)}'
    )
    if content.source is not None:
        # PostgreSQL wrote this JSON. It goes out as it is: reading it here could only change its numbers.
        text += f', "source": {content.source}'
    if content.extra is not None and (further := content.extra.strip()[1:-1].strip()):
        text += f", {further}"
    data = f"{text}}}".encode()
    whose, url = application_id.encode(), content.url.encode()
    # The lengths too: otherwise ("a", "bc") and ("ab", "c") would be one key.
    parts = (_as_length(len(whose)), whose, _as_length(len(url)), url, _as_length(len(data)), data)
    return data, hashlib.sha256(b"".join(parts)).hexdigest()[:40]


def only_fields(text: str, names: Collection[str]) -> str | None:
    """The object with only these fields, each as it was written; None if none is left.

    `text` is an object as `core.rows` composes it: one separator after each value.
    """
    kept: list[str] = []
    place = 1
    while place < len(text) - 1:
        name, after_name = _decode(text, place)
        end = _end_of_value(text, after_name + len(": "))
        if name in names:
            kept.append(text[place:end])
        place = len(text) - len(text[end:].lstrip().removeprefix(",").lstrip())
    return f"{{{', '.join(kept)}}}" if kept else None


def _end_of_value(text: str, start: int) -> int:
    """Where the value ends that begins at, or after white space at, `start`.

    Not by a parser: PostgreSQL takes json that is nested deeper than Python's can follow.
    """
    depth, parts = 0, _PART.finditer(text, start)
    while True:
        part = next(parts)
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(part[0], 0)
        if depth == 0:
            return part.end()


# Instants.

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MILLISECOND = timedelta(milliseconds=1)
# HelloWork's dates have a year of four digits (hellowork-api: `2023-01-10T09:00:00.000Z`).
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
LATEST = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - _EPOCH) // _MILLISECOND


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
    return within_range((moment - _EPOCH) // _MILLISECOND)


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


def iso(instant: int) -> str:
    """Write an instant as HelloWork documents it: UTC, milliseconds, `Z`."""
    second, rest = divmod(instant, 1_000)
    return f"{to_the_second(second)}.{rest:03}Z"


@lru_cache(maxsize=1_024)  # a mass change and its log lines have few different ones
def to_the_second(second: int) -> str:
    """Write a second since the epoch, in UTC: `2023-01-10T09:00:00`."""
    return (_NAIVE_EPOCH + timedelta(seconds=second)).isoformat()

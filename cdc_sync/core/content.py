"""What HelloWork knows, or should know, of one application; and JSON text of which fields are cut out.

Cut out without touching what stays: to read a number and write it could change it.
"""

import json
import re
from collections.abc import Collection
from json.encoder import encode_basestring
from typing import Literal, NamedTuple, Self

quoted = encode_basestring

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

"""How far a sweep is, as the store keeps it, so that an interruption does not cost what was compared before it."""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cdc_sync import __version__
from cdc_sync.core.outbox import Known
from cdc_sync.core.rows import Key
from cdc_sync.pipeline.intake import Intake

POSITION = "sweep"
FINISHED = ""
"""What stands in the position's place when no sweep is under way."""

_QUICKLY = 1
"""zlib's level: a bitmap is either nearly all ones and zeros or does not compress at all, whatever the effort."""


@dataclass(frozen=True, slots=True)
class SweepPosition:
    """How far a sweep is.

    Attributes:
        shape: what is compared with what rules; another shape would be another sweep (`shape_of`).
        last: the highest record number when it began.
        after: the last key compared; None: none yet.
        walked: whether the whole table was compared, and only the search for unmet records is left.
        rows: rows compared so far.
        at: the database's clock at the last page, in milliseconds since the epoch.
        seconds: how long it has worked so far, without interruptions.
        repaired: what it has repaired so far, by cause.
        requests: how many sweeps had been asked for when it began (`SweepRequests`).
        marks: the records met so far, as a bitmap (see `Marks`).
    """

    shape: str
    last: int
    after: Key | None = None
    walked: bool = False
    rows: int = 0
    at: int = 0
    seconds: float = 0.0
    repaired: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    marks: bytes = b""

    def to_text(self) -> str:
        """As the store keeps it. For 100 million records it takes up to 17 MB and half a second of a processor."""
        fields = asdict(self)
        fields["marks"] = base64.b64encode(zlib.compress(self.marks, _QUICKLY)).decode("ascii")
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | None, shape: str) -> "SweepPosition | None":
        """The inverse of `to_text`.

        Returns:
            None if there is nothing to go on with: no sweep was interrupted, it was one of another shape, or the text
            cannot be understood. Beginning anew is right in each case.
        """
        if not text:
            return None
        try:
            fields = json.loads(text)
            position = cls(
                **{
                    **fields,
                    "after": _key(fields["after"]),
                    "marks": zlib.decompress(base64.b64decode(fields["marks"], validate=True)),
                }
            )
            fits = position.shape == shape and len(position.marks) == size_of(position.last)
        except (ValueError, TypeError, KeyError, zlib.error):
            return None
        return position if fits else None


def _key(parts: Any) -> Key | None:
    return None if parts is None else tuple(parts)


class Marks:
    """Which records a walk through the table has met: marks for those up to number `last`.

    Later ones were made by somebody who saw their row.

    `bitmap`, if given, are those of an earlier part of the same walk.
    """

    def __init__(self, last: int, bitmap: bytes | None = None) -> None:
        self._bits = bytearray(size_of(last)) if bitmap is None else bytearray(bitmap)

    def add(self, met: Iterable[Known]) -> None:
        """Mark what was met."""
        self.add_numbers(known.number for known in met)

    def add_numbers(self, met: Iterable[int]) -> None:
        """The same by the records' numbers; what is not above 0 is none."""
        bits, size = self._bits, len(self._bits)
        for number in met:
            place = number >> 3
            if number > 0 and place < size:
                bits[place] |= 1 << (number & 7)

    def bitmap(self) -> bytes:
        """The marks as the store reads them: bit n & 7 of byte n >> 3 is number n's."""
        return bytes(self._bits)


def size_of(last: int) -> int:
    """How many bytes the marks for the records up to number `last` are."""
    return (last >> 3) + 1


def shape_of(intake: Intake) -> str:
    """A digest of all that a comparison depends on but the data: table, key, mapping, and the watch's rules."""
    rules = json.dumps(asdict(intake.rules), sort_keys=True, default=sorted)  # sets have no order of their own
    return hashlib.sha256(f"{intake.reader.shape}\0{rules}".encode()).hexdigest()


def shape_of_digests(intake: Intake) -> str:
    """The same for the digests of rows, which outlive a sweep: another version may read a row otherwise."""
    return f"{__version__} {shape_of(intake)}"

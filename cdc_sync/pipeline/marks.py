"""Which records a walk through the table has met: one bit for each record number of the store."""

from collections.abc import Iterable

from cdc_sync.core.outbox import Known


class Marks:
    """Marks for the records up to number `last`; later ones were made by somebody who saw their row.

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

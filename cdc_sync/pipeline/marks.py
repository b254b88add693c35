"""Which records a walk through the table has met: one bit for each record number of the store."""

from collections.abc import Iterable

from cdc_sync.core.outbox import Known


class Marks:
    """Marks for the records up to number `last`; later ones were made by somebody who saw their row."""

    def __init__(self, last: int) -> None:
        self._bits = bytearray((last >> 3) + 1)

    def add(self, met: Iterable[Known]) -> None:
        """Mark what was met."""
        for known in met:
            place = known.number >> 3
            if place < len(self._bits):
                self._bits[place] |= 1 << (known.number & 7)

    def bitmap(self) -> bytes:
        """The marks as the store reads them: bit n & 7 of byte n >> 3 is number n's."""
        return bytes(self._bits)

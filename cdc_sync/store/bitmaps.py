"""A sweep's bitmap: bit n & 7 of byte n >> 3 is set if the record number n was met."""

_ALL = 0xFF


def unmarked(bitmap: bytes, first: int, last: int) -> list[int]:
    """The numbers from `first` to `last` whose bit is not set."""
    found: list[int] = []
    for place, byte in enumerate(bitmap[first >> 3 : (last >> 3) + 1], start=first >> 3):
        if byte != _ALL:
            found += [
                number for bit in range(8) if not byte >> bit & 1 and first <= (number := place << 3 | bit) <= last
            ]
    return found

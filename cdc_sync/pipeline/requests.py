"""Sweeps that belong to capture: what they find was left to them, and is nothing that the capture has missed.

A TRUNCATE, a partition that comes or goes, a row of a table on which any application may depend: each changes rows that
nobody names, so a sweep is asked for. From then on, until one that began afterwards has compared everything, what a
sweep finds may be just that. What was missed meanwhile cannot be told from it, and counts as asked for too.

It is kept in the store, since such a sweep may take long: after a restart it is still one that was asked for.
"""

from collections.abc import Awaitable, Callable, Mapping

POSITION = "sweeps-asked-for"


class SweepRequests:
    """How often a sweep was asked for since the last one began that has compared everything.

    Args:
        place: saves capture positions.
    """

    def __init__(self, place: Callable[[Mapping[str, str]], Awaitable[None]]) -> None:
        self._place = place
        self.number = 0

    def load(self, positions: Mapping[str, str]) -> None:
        """Take up what an earlier run was asked for."""
        self.number = int(positions.get(POSITION, "0"))

    async def add(self) -> None:
        """Ask. Whoever does so forgets why only afterwards, and has the sweep begin.

        Raises:
            StoreError: it cannot be kept.
        """
        await self._set(self.number + 1)

    async def answer(self, number: int) -> None:
        """A sweep that began when there were so many requests has compared everything.

        Raises:
            StoreError: that cannot be kept.
        """
        if number:
            await self._set(max(self.number - number, 0))

    async def _set(self, number: int) -> None:
        self.number = number
        await self._place({POSITION: str(number)})

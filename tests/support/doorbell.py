"""One doorbell by itself, as the lookout sees to those of all watches."""

from cdc_sync.source.changelog import Bell, Bells
from cdc_sync.source.connection import Pool


class Doorbell:
    """A watch's doorbell.

    Attributes:
        bell: what is known of it.
    """

    def __init__(self, pool: Pool, watch: str) -> None:
        self.bell = Bell(watch)
        self._bells = Bells(pool)

    async def arm(self) -> int | None:
        """Arm it, or renew; returns what all have to pass that may have seen it before."""
        self.bell.wanted = True
        await self._see_to()
        return self.bell.fence

    async def worked(self, *, begins: bool = True) -> None:
        self.bell.begins = begins
        await self._see_to()

    async def disarm(self) -> None:
        await self._bells.disarm(self.bell)

    async def _see_to(self) -> None:
        await self._bells.update([self.bell])
        if self.bell.error is not None:
            raise self.bell.error

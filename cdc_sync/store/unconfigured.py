"""Which watches the store knows and the configuration does not have."""

from collections.abc import Collection

from cdc_sync.core.observations import WatchUnconfigured
from cdc_sync.store.store import Store


async def unconfigured(store: Store, configured: Collection[str]) -> list[WatchUnconfigured]:
    """What the store holds of each watch that is not among those configured, by name.

    Raises:
        StoreError: the store cannot be read.
    """
    return [
        WatchUnconfigured(watch, of.known, of.pending, of.held, of.dead, of.suspected)
        for watch, of in sorted((await store.counts()).items(), key=lambda item: item[0])
        if watch not in configured
    ]

"""Keeping the history within bounds, in small steps between which everybody else has the store."""

from cdc_sync.store.protocol import StoreError
from cdc_sync.store.store import Store

EVERY_MINUTES = 10

MOST_EVENTS = 1_000_000
"""Events kept at most, whatever their age: about 300 MB, for 300,000 deliveries. A flood must not fill the disk."""

_AT_ONCE = 5_000
"""Events forgotten in one transaction: 20 to 40 ms."""


async def prune(store: Store, before: int, keep: int = MOST_EVENTS) -> int:
    """Forget what is older than `before` (milliseconds since the epoch), and all but the newest `keep` events.

    Returns how many. A store that cannot be written is whoever sends or consumes to tell of; the next turn tries again.
    """
    forgotten = 0
    pruned = _AT_ONCE
    while pruned == _AT_ONCE:
        try:
            pruned = await store.prune(before, keep, _AT_ONCE)
        except StoreError:
            break
        forgotten += pruned
    return forgotten

"""The store: what capture, the sender, operators and people do with it, over one of two databases.

Each method is one transaction, durable when it returns. What a crash costs, step by step:

- before `apply` returns: nothing is known of the observations; their keys are still in the change log or before the
  watermark, and come again;
- after `apply`, before the change log's commit or the position's next use: the keys come again and are no news;
- before `claim` returns: the entry is due as before;
- after `claim`, before `complete` returns: the entry is taken for attempted, and is sent again with the same body and
  the same idempotency key. This is the one place where HelloWork can receive the same state twice. An entry that was
  claimed ahead, and whose call had not begun, is sent although it may have been reverted meanwhile: at most twice as
  many as calls may be under way.
"""

from collections.abc import Callable, Collection

from cdc_sync.store.capture import Capture
from cdc_sync.store.delivery import Delivery
from cdc_sync.store.operation import Operation
from cdc_sync.store.report import Report


class Store(Capture, Delivery, Operation, Report):
    """See the module's text. Times are in milliseconds since the epoch; every method may raise `StoreError`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.moves = 0
        self.wake: Callable[[], None] = lambda: None
        self.withheld: Collection[str] = ()
        self.is_woken = False
        self._leases = {}

"""The store: snapshot, outbox, dead letters, history and capture positions, in one of two databases.

Each method is one transaction, durable when it returns. What a crash costs, step by step:

- before `apply` returns: the observations' keys come again, from the change log or after the watermark;
- after `apply`, before the change log's commit or the position's next use: the keys come again and change nothing;
- before `claim` returns: the entry is due as before;
- after `claim`, before `complete` returns: the entry counts as attempted, and is sent again with the same body and
  idempotency key. Only here HelloWork can receive a state twice. An entry whose call had not begun is sent even if it
  was reverted meanwhile.
"""

from collections.abc import Callable

from cdc_sync.store.capture import Capture
from cdc_sync.store.delivery import Delivery
from cdc_sync.store.operation import Operation
from cdc_sync.store.report import Report


class Store(Capture, Delivery, Operation, Report):
    """See the module's text. Times are milliseconds since the epoch; every method may raise `StoreError`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.wake: Callable[[], None] = lambda: None
        self._leases = {}

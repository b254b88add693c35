"""The store: snapshot, outbox, dead letters, history and capture positions, in one of two databases.

What a method writes is durable when it returns; `apply` and `complete` write in one transaction each. What a crash
costs, step by step:

- before `apply` returns: the observations' keys come again, from the change log or after the watermark;
- after `apply`, before the change log's commit or the position's next use: the keys come again and change nothing;
- after `apply`, before `complete` returns: every entry that is pending then counts as attempted. One whose call had
  begun is sent again with the same body and idempotency key: only here HelloWork can receive a state twice. One whose
  row goes back is sent in that state.
"""

from .capture import Capture, Databases
from .delivery import Delivery
from .driver import Driver
from .operation import Operation
from .report import Report


class Store:
    """See the module's text. Times are milliseconds since the epoch; every method may raise `StoreError`.

    Attributes:
        driver: the database; it also runs what has no role.
        databases, capture, delivery, operation, report: what the parts of the program do with it.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.databases = Databases(driver)
        self.capture = Capture(driver)
        self.delivery = Delivery(driver)
        self.operation = Operation(driver)
        self.report = Report(driver)

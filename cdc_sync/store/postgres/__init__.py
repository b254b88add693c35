"""The shared store: the schema `cdc_sync` of a PostgreSQL database, for several daemons on several hosts.

Transactions lock rows in this order, so that there is no deadlock:

1. the row of the watch: one batch or operator command writes for a watch at a time;
2. rows of the outbox, by watch and application id;
3. rows of the snapshot, in the same order: only the holder of the application's entry, or of its watch, writes to one;
4. rows of endpoints, then of call counts, in order.

An application that moves between two watches is the exception: a batch of one also writes to the entry and record of
the other. Such a batch may end in a deadlock, and runs again.

A claim locks the key of its daemon's row: a transaction that removes the daemon waits for the claim, and finds it.
Claiming and verifying skip locked rows. A decision's input is locked before it is read. After a deadlock all the same,
the driver runs the whole step again.
"""

from cdc_sync.store.postgres.driver import PostgresStore
from cdc_sync.store.postgres.schema import copy_to_sqlite

__all__ = ["PostgresStore", "copy_to_sqlite"]

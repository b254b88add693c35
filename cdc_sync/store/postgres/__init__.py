"""The shared store: the schema `cdc_sync` of a PostgreSQL database, for several daemons on several hosts.

Who locks what, in this order, so that there is no deadlock:

1. the row of the watch: one batch or operator command writes for a watch at a time;
2. rows of the outbox, in order of watch and application id;
3. rows of the snapshot, in the same order: only whoever has the application's entry, or its watch, writes to one;
4. rows of endpoints, then of call counts, in order.

A claim holds the key of its daemon's row, so whoever takes the daemon for dead waits for it, and then finds its claims.
Claiming waits for nobody else: it skips what is locked. What a decision is taken from is locked before it is read.
Should PostgreSQL find a deadlock all the same, the whole step is done again.
"""

from cdc_sync.store.postgres.driver import PostgresStore
from cdc_sync.store.postgres.schema import copy_to_sqlite

__all__ = ["PostgresStore", "copy_to_sqlite"]

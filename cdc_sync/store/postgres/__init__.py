"""The shared store: the schema `cdc_sync` of a PostgreSQL database, for several daemons on several hosts.

Who locks what, in this order, so that nobody ever waits in a circle:

1. the row of the watch (`recording`, `operating`): one of those writes for a watch at a time;
2. rows of the snapshot, in order of watch and application id;
3. rows of the outbox, in the same order;
4. rows of endpoints, then of call counts, in order.

Claiming waits for nobody: it skips what is locked. What a decision is taken from is locked before it is read. Should
PostgreSQL find a circle all the same, the whole step is done again.
"""

from cdc_sync.store.postgres.copying import copy_to_sqlite
from cdc_sync.store.postgres.store import PostgresStore

__all__ = ["PostgresStore", "copy_to_sqlite"]

"""Whether the connected database is the one that the store belongs to, or a copy of it."""

from cdc_sync.core.database_identity import Whereabouts, elsewhere
from cdc_sync.source.connection import Connection
from cdc_sync.source.facts import is_same_cluster, whereabouts
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.store import Store


async def recognise(store: Store, identity: str, dsn: str, connection: Connection) -> None:
    """Bind the store to the database, the first time; afterwards insist on it, and remember where it is now.

    Args:
        store: the store.
        identity: the database's, as `ServerFacts` has it.
        dsn: how it is reached.
        connection: a connection to it.

    Raises:
        AnotherDatabaseError: the store belongs to another one.
        SourceError: the server cannot be asked.
        StoreError: the store cannot be used.
    """
    await store.bind(identity)
    here = await whereabouts(dsn, connection)
    while True:
        before = await store.hosts()
        why_not = await found_elsewhere(before, identity, dsn, here, connection)
        if why_not is not None:
            raise AnotherDatabaseError(why_not)
        # Other daemons may read other servers of the cluster, each by hosts of its own.
        now = Whereabouts.from_text(before).joined(here) if before and store.clock.shared else here
        if before == now.to_text() or await store.set_hosts(now.to_text(), before):
            return


async def found_elsewhere(
    before: str | None, identity: str, dsn: str, now: Whereabouts, connection: Connection
) -> str | None:
    """Why a database of the store's identity may be a copy; None if it is the one that the store belongs to.

    Args:
        before: where the store remembers it, as text; None if it does not: stores of 0.1.0 remember no hosts.
        identity: its identity.
        dsn: how it is reached.
        now: where that leads.
        connection: a connection to it.
    """
    if not before:
        return None
    remembered = Whereabouts.from_text(before)
    if remembered.has(now) or await is_same_cluster(dsn, identity, remembered, now, connection):
        return None
    return elsewhere(identity, remembered, now)

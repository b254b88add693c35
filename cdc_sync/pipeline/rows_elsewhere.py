"""Which applications the ATS's tables have, asked outside a watch's own capture: by `resend`, and before a deletion.

The read is as the capture's: on the sessions of the database, of the store's own database, and never of an older
server.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from cdc_sync.config import Watch
from cdc_sync.core.rows import by_application
from cdc_sync.pipeline.database import Database
from cdc_sync.source.connection import Connection
from cdc_sync.source.facts import table_facts
from cdc_sync.source.mapping import Mapping
from cdc_sync.source.reading import Reader


@asynccontextmanager
async def reading(database: Database, name: str, watch: Watch) -> AsyncIterator[Reader]:
    """Read a watch's table.

    Raises:
        SourceError: it cannot be read.
        StoreError: the store cannot be used, or the database is not the store's.
    """

    async def prepare(connection: Connection) -> Mapping:
        return await Mapping.prepare(connection, watch, await table_facts(connection, watch.table))

    async with database.sessions(name) as sessions:
        yield Reader(sessions.pool, await sessions.pool.ask(f"preparing to read {watch.table}", prepare))


async def with_live_row(reader: Reader, application_ids: Collection[str]) -> set[str]:
    """Those of these applications of which a row exists that is not marked as deleted; may raise `SourceError`."""
    rows = (await reader.by_application(application_ids)).rows
    found = by_application(rows, application_ids)
    return {id_ for id_, of_one in found.items() if any(not row.deleted for row in of_one)}


async def without_live_row(database: Database, name: str, watch: Watch, application_ids: Collection[str]) -> set[str]:
    """Those of these applications of which the store knows no deletion, and the table has no live row.

    Raises:
        SourceError: the table cannot be read.
        StoreError: the store cannot be used, or the database is not the store's.
    """
    known = await database.store.known(name, list(application_ids))
    alive = [id_ for id_, of in known.items() if of.latest is not None and not of.latest.deleted]
    if not alive:
        return set()
    async with reading(database, name, watch) as reader:
        return set(alive) - await with_live_row(reader, alive)

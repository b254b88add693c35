"""A watch's source, opened as the daemon opens it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cdc_sync.ats.connection import Connection, Pool, ReplicaGuard, connected, pooled
from cdc_sync.ats.mapping import Statements
from cdc_sync.ats.poll import WatermarkReader
from cdc_sync.ats.reading import Read, Reader
from cdc_sync.config import Config, Watch
from cdc_sync.core.rows import Key, Row


@dataclass(frozen=True, slots=True)
class Source:
    """A source, connected and fitted to its table."""

    watch: Watch
    connection: Connection
    pool: Pool
    mapping: Statements
    reader: Reader

    async def rows(self) -> list[Row]:
        return (await self.reader.page(None, 10_000)).rows

    async def row(self) -> Row:
        (row,) = await self.rows()
        return row

    async def watermark_reader(self, watermark: str) -> WatermarkReader:
        """The reader of poll mode."""
        return WatermarkReader(self.reader, watermark, timedelta(0))


async def keys_of_pages(read: Callable[[Any], Awaitable[Read]], place: Key | None = None) -> list[Key]:
    """The keys of all pages from a place on; as many pages as there can be, and no more."""
    met: list[Key] = []
    for _ in range(100):
        page = await read(place)
        met += [row.key for row in page.rows]
        place = page.last
        if place is None:
            return met
    raise AssertionError("the walk goes round in circles")


@asynccontextmanager
async def opened(config: Config, guard: ReplicaGuard | None = None) -> AsyncIterator[Source]:
    """Open the source of a configuration's only watch, with what was read of it before.

    Raises:
        SourceError: it cannot be used as configured.
    """
    (watch,) = config.watches.values()
    dsn = config.database.dsn.get_secret_value()
    async with connected(dsn) as connection, pooled(dsn, guard) as pool:
        mapping = await Statements.prepare(connection, watch)
        yield Source(watch, connection, pool, mapping, Reader(pool, mapping))

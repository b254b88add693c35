"""A transaction in the schema beside the daemon that leads: for the table of requests alone."""

import asyncio
from typing import TypeVar

import psycopg

from cdc_sync import own_path
from cdc_sync.config.dsn import shown
from cdc_sync.store.driver import Work
from cdc_sync.store.errors import store_error
from cdc_sync.store.postgres.schema import connected, translate
from cdc_sync.store.postgres.session import PostgresTransaction

T = TypeVar("T")

_ANSWERS_WITHIN = 30.0
"""Seconds."""

_PINNED = f"SET LOCAL search_path = {own_path.PINNED}".encode()


async def transact_beside(dsn: str, work: Work[T]) -> T:
    """See `Driver.transact`. The schema is as it is.

    Raises:
        StoreError: nothing of it is kept, unless the answer to the commit was lost.
    """
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN), connected(dsn) as connection, connection.transaction():
            await connection.execute(_PINNED)
            return await work(PostgresTransaction(connection))
    except TimeoutError as error:
        message = f"it has not answered within {_ANSWERS_WITHIN:g} s"
        raise store_error("store-unusable/postgres", place=shown(dsn), message=message) from error
    except psycopg.Error as error:
        raise translate(dsn, error) from error

"""A transaction in the file beside the daemon that has its lock: for the table of requests alone."""

import asyncio
import sqlite3
from functools import partial
from pathlib import Path
from typing import TypeVar

from cdc_sync.store.driver import Work
from cdc_sync.store.sqlite.driver import SqliteThread
from cdc_sync.store.sqlite.schema import open_file, translate

T = TypeVar("T")


async def transact_beside(path: Path, work: Work[T]) -> T:
    """See `Driver.transact`. The schema is as it is.

    Raises:
        StoreError: nothing of it is kept.
    """
    thread = await asyncio.to_thread(SqliteThread, partial(open_file, path, read_only=False), "BEGIN IMMEDIATE")
    try:
        return await thread.run(work)
    except sqlite3.Error as error:
        raise translate(path, error) from error
    finally:
        await thread.close()

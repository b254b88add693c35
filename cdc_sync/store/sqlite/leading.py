"""The lead of a store in a file: the file's lock, which ends with its process, also by kill -9."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.errors import store_error
from cdc_sync.store.lead import LOOKS_EVERY, Lead, Standby, StandingBy, held
from cdc_sync.store.leader import Leader, lead, leader_in
from cdc_sync.store.sqlite.driver import SqliteDriver, opened
from cdc_sync.store.sqlite.schema import holder_of, try_lock

_MADE_WITHIN = 5.0
"""Seconds for a leader that has just started to make the store, or to bring it up to date."""


@asynccontextmanager
async def leading(path: Path, ours: Leader, standing_by: StandingBy) -> AsyncIterator[Lead]:
    """Stand by until this process leads, then lead.

    Raises:
        StoreError: the store cannot be used.
    """
    lock = await _take(path, ours, standing_by)
    try:
        driver = await opened(path)
        try:
            leader = await driver.transact(lambda t: lead(t, ours, driver.clock.for_people()))
            async with held(Lead(driver, leader)) as found:
                yield found
        finally:
            await driver.close()
    finally:
        os.close(lock)


async def _take(path: Path, ours: Leader, standing_by: StandingBy) -> int:
    """Stand by until the lock is ours; returns its descriptor."""
    if (lock := try_lock(path)) is not None:
        return lock
    read = await _opened_to_read(path)
    try:
        while (lock := try_lock(path)) is None:
            await standing_by(Standby(Store(read), await read.transact(leader_in), ours))
            await asyncio.sleep(LOOKS_EVERY)
        return lock
    finally:
        await read.close()


async def _opened_to_read(path: Path) -> SqliteDriver:
    """The store, to be read beside its leader.

    Raises:
        StoreError: the leader is of an earlier version, and has to end first.
    """
    give_up_at = time.monotonic() + _MADE_WITHIN
    while True:
        try:
            return SqliteDriver(path, "read")
        except StoreError as error:
            if error.code not in {"store-not-set-up", "store-unopenable"}:
                raise
            if time.monotonic() > give_up_at:
                raise store_error("store-upgrade", store=path, process=holder_of(path) or "unknown") from error
        await asyncio.sleep(LOOKS_EVERY)

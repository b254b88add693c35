"""A batch whose daemon is suspended, or lost, holds nothing at the server; it deletes nothing but its own changes."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.builders import WATCH
from support.log_batches import batch
from support.sessions import Ats, one, run
from support.watched import a_config, install_triggers

from cdc_sync.ats.connection import Pool, pooled
from cdc_sync.ats.notify import ChangeLog

_OPEN = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'cdc-sync'
   AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)
"""
_PLACES = "SELECT array_agg(ctid::text ORDER BY ctid)::text FROM cdc_sync.changes"


@pytest.fixture
async def log(database: str, ats: Ats) -> AsyncIterator[ChangeLog]:
    """A change log with one change in it."""
    install_triggers(ats, a_config())
    ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    pool: Pool
    async with pooled(database) as pool:
        yield ChangeLog(pool, WATCH)


async def test_a_batch_under_way_holds_no_transaction(log: ChangeLog, ats: Ats) -> None:
    async with batch(log, 10) as changes:
        assert len(changes.times) == 1
        assert one(ats, _OPEN) == 0
        run(ats, "SET lock_timeout = '1s'; LOCK TABLE cdc_sync.changes")

    assert one(ats, "SELECT count(*) FROM cdc_sync.changes") == 0


async def test_a_change_that_took_the_place_of_one_that_was_read_stays(log: ChangeLog, ats: Ats) -> None:
    before = one(ats, _PLACES)
    async with batch(log, 10):
        # As a second daemon does that captures the watch by now.
        run(ats, "DELETE FROM cdc_sync.changes")
        run(ats, "VACUUM cdc_sync.changes")
        ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a2')")
        assert one(ats, _PLACES) == before

    async with batch(log, 10) as changes:
        assert len(changes.times) == 1


async def test_a_change_of_the_same_transaction_that_was_moved_to_a_place_that_was_read_stays(
    log: ChangeLog, ats: Ats
) -> None:
    run(ats, "TRUNCATE cdc_sync.changes")
    run(
        ats,
        "INSERT INTO cdc_sync.changes SELECT 'applications', 'I', ARRAY[i::text], now() FROM generate_series(1, 4) i",
    )
    run(ats, "DELETE FROM cdc_sync.changes WHERE row_key = '{1}'")
    async with batch(log, 1) as changes:
        assert list(changes.times) == [("2",)]
        run(ats, "VACUUM FULL cdc_sync.changes")

    async with batch(log, 10) as changes:
        assert changes.times.keys() >= {("3",), ("4",)}


async def test_who_rewrites_the_log_is_waited_for(log: ChangeLog, other: Ats) -> None:
    with other.transaction():
        other.execute("LOCK TABLE cdc_sync.changes")  # as VACUUM FULL does
        asked = asyncio.create_task(log.read(10))
        await log.give_back(nearly_full=True)

    assert (await asked).number == 1

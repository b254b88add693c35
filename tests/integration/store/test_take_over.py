"""Whose sessions a daemon ends when it takes over from another one, whose lease has lapsed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import psycopg
import pytest
from support.eventually import eventually
from support.store_backends import PostgresBackend

from cdc_sync.core.failures import StoreError
from cdc_sync.event_loop import end
from cdc_sync.store.postgres import PostgresStore
from cdc_sync.store.postgres.takeover import take_over

Dba = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def dsn(store_database: str) -> str:
    return PostgresBackend(store_database).dsn


@pytest.fixture
def dba(dsn: str) -> Iterator[Dba]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def stores(dsn: str) -> AsyncIterator[list[PostgresStore]]:
    """Those of two daemons; each has a session in use."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            store = await PostgresStore.open(dsn, longest_call=1.0)
            stack.push_async_callback(store.close)
            await store.daemon()
            await store.counts()
            opened.append(store)
        yield opened


async def lapse(dba: Dba, store: PostgresStore) -> tuple[int, str]:
    """Let a daemon renew its lease no more, so that it lapses; returns its number, and when the lease ended."""
    await end(store._lasting)
    number = store._lease.number
    row = dba.execute(
        "UPDATE cdc_sync.daemon SET alive_until = clock_timestamp() - interval '1 minute' WHERE id = %s"
        " RETURNING id, alive_until::text",
        (number,),
    ).fetchone()
    assert row is not None
    return int(str(row[0])), str(row[1])


def marked(dba: Dba, number: int) -> set[int]:
    """The processes of the sessions that a daemon has marked."""
    rows = dba.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (number,),
    ).fetchall()
    return {int(str(pid)) for (pid,) in rows}


async def test_only_the_sessions_of_that_daemon_are_ended(dsn: str, dba: Dba, stores: list[PostgresStore]) -> None:
    frozen, other = stores
    number, until = await lapse(dba, frozen)
    assert marked(dba, number)
    others = marked(dba, int(str(other._lease.number)))
    assert others
    with psycopg.connect(dsn, autocommit=True, application_name="cdc-sync store") as bystander:
        # Another application's locks with the same numbers, each in one place.
        bystander.execute("SELECT pg_advisory_lock_shared(%s, %s)", (number, number))
        bystander.execute("SELECT pg_advisory_lock_shared(%s)", (number,))
        bystander.execute("SELECT pg_advisory_lock(%s, %s)", (int.from_bytes(b"cdcs", "big"), number + 1_000))

        assert await take_over(other._lease._run, number, until, other.clock)

        await eventually(lambda: marked(dba, number) == {bystander.info.backend_pid}, "its sessions to end")
        bystander.execute("SELECT 1")
    assert marked(dba, int(str(other._lease.number))) >= others


async def test_one_that_has_renewed_its_lease_keeps_its_sessions(dba: Dba, stores: list[PostgresStore]) -> None:
    frozen, other = stores
    number, until = await lapse(dba, frozen)
    before = marked(dba, number)
    await frozen._lease.renew()

    assert not await take_over(other._lease._run, number, until, other.clock)

    assert marked(dba, number) >= before


async def test_it_does_not_wait_for_ever_for_somebody_elses_lock(
    dsn: str, dba: Dba, stores: list[PostgresStore]
) -> None:
    frozen, other = stores
    number, until = await lapse(dba, frozen)
    with psycopg.connect(dsn) as somebody:
        somebody.execute("SELECT FROM cdc_sync.daemon WHERE id = %s FOR UPDATE", (number,))

        with pytest.raises(StoreError, match="a session keeps rows of the store locked"):
            await take_over(other._lease._run, number, until, other.clock)

        somebody.execute("SELECT 1")
    assert await take_over(other._lease._run, number, until, other.clock)

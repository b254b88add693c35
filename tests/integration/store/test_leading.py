"""One daemon of a store leads, the others stand by: real processes, since a lock and a lease are between processes.

With a store in PostgreSQL a short lease is 6 s, of which the leader gives up 3 s before the end.
"""

import asyncio
import platform
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.leading_process import UNKNOWN, LeadingProcess, leading_process
from support.proxy import proxy_to
from support.sessions import Ats, one, rows
from support.waiting import wait_until

from cdc_sync.store import Store
from cdc_sync.store.lead import present_leader
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.postgres.leading import Lease
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.statements import LOCK

pytestmark = pytest.mark.timeout(120)

SHORT = -4.0
"""The longest call of a leader with a lease of 6 s."""

LEASE = Lease(SHORT).length


@contextmanager
def leader_of(name: str, **settings: Any) -> Iterator[LeadingProcess]:
    """A process that leads."""
    with leading_process(name, **settings) as process:
        process.next("leads")
        yield process


@pytest.fixture(params=["sqlite", "postgres"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store's name for a process that leads it."""
    return f"sqlite:{tmp_path / 'state.db'}" if request.param == "sqlite" else request.getfixturevalue("dsn")


@pytest.fixture
async def beside(name: str) -> AsyncIterator[Store]:
    """The store, as a command of another process sees it."""
    store: Store
    if name.startswith("sqlite:"):
        store = Store(SqliteDriver(Path(name.removeprefix("sqlite:"))))
    else:
        store = Store(await PostgresDriver.open(name))
    yield store
    await store.driver.close()


def seconds_since(begun: float) -> float:
    return time.monotonic() - begun


async def test_the_row_says_who_leads(name: str, beside: Store) -> None:
    assert await present_leader(beside) is None
    with leading_process(name, configuration="a digest") as first:
        assert first.next("leads")["may_call"]

        leader = await present_leader(beside)
        assert leader is not None
        assert (leader.process, leader.host) == (first.pid, platform.node())
        assert abs(leader.since - beside.driver.clock.for_people()) < 60_000
        assert leader.configuration == "a digest"
        assert not leader.has_surely_ended
        first.stop()
    assert await present_leader(beside) is None


def test_who_loses_the_file_of_its_lock_leads_no_more(tmp_path: Path) -> None:
    """Another daemon may lock a new one."""
    path = tmp_path / "state.db"
    with leader_of(f"sqlite:{path}") as first:
        path.with_name("state.db.lock").unlink()

        assert first.next("failed")["code"] == "store-gone"


class TestPostgres:
    """A process may be stopped, its host may be gone, and its session may outlive both."""

    def test_the_session_of_a_silent_leader_is_ended_and_no_other(self, dsn: str, dba: Ats) -> None:
        with (
            leader_of(dsn, longest_call=SHORT) as first,
            leading_process(dsn, longest_call=SHORT) as second,
            leading_process(dsn, longest_call=SHORT) as third,
            psycopg.connect(make_conninfo(dsn, application_name="psql"), autocommit=True),
        ):
            for standby in (second, third):
                standby.next("stands by")
            (backend,) = rows(dba, "SELECT backend FROM cdc_sync.leader")[0]
            sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() ORDER BY pid"
            others = [pid for (pid,) in rows(dba, sessions) if pid != backend]
            assert len(others) == 4

            first.send(signal.SIGSTOP)
            wait_for_another_leader(dba, first.pid)

            assert {pid for (pid,) in rows(dba, sessions)} == set(others)
            first.send(signal.SIGCONT)
            assert first.ended() == -signal.SIGALRM

    def test_one_of_ours_that_was_stopped_before_it_wrote_its_row_is_ended(self, dsn: str) -> None:
        """It may be a daemon that has just taken the lock, or a command."""
        with psycopg.connect(make_conninfo(dsn, application_name="cdc-sync store"), autocommit=True) as stopped:
            stopped.execute("SELECT pg_advisory_lock(%s, 0)", (LOCK,))
            with leading_process(dsn, longest_call=SHORT) as second:
                began = time.monotonic()
                assert second.next("stands by")["is_free"], "nobody leads"
                second.next("leads")
                assert seconds_since(began) > LEASE - 1

            with pytest.raises(psycopg.OperationalError):
                stopped.execute("SELECT 1")

    def test_another_programs_session_is_not_ended(self, dsn: str) -> None:
        with leader_of(dsn, longest_call=SHORT, place=UNKNOWN) as first:
            first.kill()
        with psycopg.connect(make_conninfo(dsn, application_name="psql"), autocommit=True) as other:
            other.execute("SELECT pg_advisory_lock(%s, 0)", (LOCK,))
            with leading_process(dsn, longest_call=SHORT) as second:
                blocked = second.next("stands by")
                while not blocked["blocked"]:
                    blocked = second.next("stands by")
                assert "another session holds its lock" in blocked["blocked"]
                assert one(other, "SELECT 1") == 1

                other.execute("SELECT pg_advisory_unlock_all()")
                second.next("leads")

    def test_one_that_is_resumed_within_its_lease_goes_on(self, dsn: str, dba: Ats) -> None:
        with leader_of(dsn) as first:
            first.send(signal.SIGSTOP)
            time.sleep(1)
            first.send(signal.SIGCONT)

            before = one(dba, "SELECT beat FROM cdc_sync.leader")
            wait_until(lambda: one(dba, "SELECT beat FROM cdc_sync.leader") > before + 1, "it renews its lease")

    async def test_one_that_does_not_reach_the_store_gives_up_before_its_lease_ends(self, dsn: str) -> None:
        async with proxy_to(dsn) as proxy:
            with leading_process(proxy.dsn, longest_call=SHORT) as first:
                await asyncio.to_thread(first.next, "leads")
                proxy.deafen()
                silent = time.monotonic()

                lost = await asyncio.to_thread(first.next, "failed")

                assert lost["code"] == "store-lead-lost"
                assert seconds_since(silent) < LEASE - 2, "a margin is left to end its calls"
                assert first.ended() == 0


def wait_for_another_leader(dba: Ats, process: int) -> None:
    wait_until(lambda: one(dba, "SELECT process FROM cdc_sync.leader") != process, "another one leads")

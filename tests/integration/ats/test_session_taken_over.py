"""A lock that the server keeps for a session of our own, whose end it has not heard of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.proxy import proxy_to
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, end_sessions, one
from support.watch_session import LastSession, session

from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.session import Process, _lock_number

_HOLDERS = """
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@asynccontextmanager
async def a_session_left_behind(dsn: str, last: LastSession) -> AsyncIterator[None]:
    """Behind a silent network: we have given it up, and the server does not know."""
    async with proxy_to(dsn) as proxy:
        async with session(proxy.dsn, "applications", last):
            proxy.fall_silent()
        yield


async def test_a_session_of_our_own_gives_way(database: str, ats: Ats) -> None:
    last = LastSession()
    async with a_session_left_behind(database, last):
        assert one(ats, _HOLDERS) == 1
        before = last.process
        async with session(database, "applications", last):
            assert one(ats, _HOLDERS) == 1
            assert last.process != before


async def test_one_that_we_do_not_remember_does_not(database: str) -> None:
    async with a_session_left_behind(database, LastSession()):
        with pytest.raises(SourceError, match="Another cdc-sync works the watch"):
            async with session(database, "applications", LastSession()):
                pass


async def held_by(dsn: str) -> str:
    with pytest.raises(SourceError) as refused:
        async with session(dsn, "applications"):
            pass
    return refused.value.message


async def test_a_role_that_took_the_lock_is_named_with_what_ends_it(
    database: str, ats: Ats, new_role: NewRole, open_session: OpenSession
) -> None:
    daemon, thief = new_role(), new_role()
    stolen = open_session(user=thief, password=thief, application_name="psql\x1b[2J")
    stolen.execute("SELECT pg_advisory_lock(%s)", [_lock_number("applications")])
    dsn = dsn_of(database, daemon)

    said = await held_by(dsn)

    process = stolen.info.backend_pid
    assert said.startswith("A session of another role holds the advisory lock of the watch applications")
    assert f"process {process} of the role {thief}" in said
    assert "application_name" in said
    assert "\x1b" not in said
    assert "not visible to this role" in said
    remedy = f"SELECT pg_terminate_backend({process});"
    assert remedy in said
    seen_by_all = await held_by(database)
    assert ", since 20" in seen_by_all
    end_sessions(ats, "pid = %s", [process])
    async with session(dsn, "applications"):
        pass


async def test_a_process_that_only_has_the_same_number_is_left_alone(database: str, ats: Ats) -> None:
    async with session(database, "applications") as own:
        started = one(
            ats,
            "SELECT (backend_start - interval '1 s')::text FROM pg_stat_activity WHERE pid = %s",
            [own.process.pid],
        )
        other = LastSession(Process(own.process.pid, started))
        with pytest.raises(SourceError, match="Another cdc-sync works the watch"):
            async with session(database, "applications", other):
                pass
        assert one(ats, _HOLDERS) == 1

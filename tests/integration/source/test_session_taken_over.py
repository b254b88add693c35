"""A lock that the server keeps for a session of our own, whose end it has not heard of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.binaries import server_binaries
from support.proxy import proxy_to
from support.sessions import Ats, one
from support.watch_session import session

from cdc_sync.demo.postgres import server as embedded_server
from cdc_sync.source.errors import SourceError
from cdc_sync.source.session import LastSession, Process

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


async def test_a_process_that_only_has_the_same_number_is_left_alone(database: str, ats: Ats) -> None:
    async with session(database, "applications") as own:
        started = one(
            ats,
            "SELECT (backend_start - interval '1 s')::text FROM pg_stat_activity WHERE pid = %s",
            [own.process.pid],
        )
        other = LastSession(Process(own.process.pid, started, own.process.server))
        with pytest.raises(SourceError, match="Another cdc-sync works the watch"):
            async with session(database, "applications", other):
                pass
        assert one(ats, _HOLDERS) == 1


async def test_the_server_is_told_to_notice_our_end_soon() -> None:
    with embedded_server(server_binaries(), tcp=True) as own:
        async with session(own.dsn, "applications") as lasting:
            row = await (await lasting.connection.execute("SELECT current_setting('tcp_keepalives_idle')")).fetchone()

    assert row == ("20",)

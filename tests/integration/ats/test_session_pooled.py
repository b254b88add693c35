"""Behind a pooler: a session that several clients use is no place for a lock, and nothing is left behind in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from psycopg import AsyncConnection
from support.eventually import eventually
from support.pgbouncer import pgbouncer, pgbouncer_binary
from support.sessions import Ats, one
from support.watch_session import session

from cdc_sync.ats import session as module
from cdc_sync.ats.connection import connected
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.session import Session, own_session

WATCH = "applications"

_LEFT = """
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def binary() -> str:
    binary = pgbouncer_binary()
    if binary is None:
        pytest.skip("there is no pgbouncer here (Debian: apt-get install pgbouncer)")
    return binary


@asynccontextmanager
async def unprobed(dsn: str, token: str) -> AsyncIterator[Session]:
    """A session that was taken for our own, since nothing gave the pooler away when it began."""
    async with connected(dsn) as connection:
        row = await (await connection.execute(module._SQL["ours"])).fetchone()
        await connection.execute(module._SQL["mark"], (token,))
        assert row is not None
        own = Session(connection, module.Process(*row), token)
        try:
            yield own
        finally:
            await own.end()


async def test_a_session_that_has_anothers_mark_is_refused_and_not_locked(database: str, ats: Ats, binary: str) -> None:
    with pgbouncer(binary, database, "transaction", default_pool_size=1) as dsn:
        async with unprobed(dsn, "first") as first:
            await first.lock(WATCH)
            with pytest.raises(SourceError, match="lets several clients use one session"):
                async with own_session(dsn):
                    pass
            await first.prove()  # whoever was there first is left alone
            assert one(ats, _LEFT) == 1
        assert one(ats, _LEFT) == 0


async def test_a_session_that_turns_out_to_be_shared_is_given_up(database: str, ats: Ats, binary: str) -> None:
    """The other client keeps it in a transaction, so that the next proof is given another one."""
    with pgbouncer(binary, database, "transaction") as dsn:
        async with unprobed(dsn, "ours") as own:
            await own.lock(WATCH)
            await own.listen(WATCH, lambda: None, lambda _: None)
            task = asyncio.create_task(own.hold(0.05))
            async with await AsyncConnection.connect(dsn, prepare_threshold=None) as other:
                await other.execute("SELECT 1")
                await asyncio.wait([task], timeout=30)
                error = task.exception()
        assert isinstance(error, SourceError)
        assert error.kind == "misconfigured"
        assert "lets several clients use one session" in str(error)
        await eventually(lambda: one(ats, _LEFT) == 0, "the lock to be gone")


async def test_a_pool_in_session_mode_works_and_is_given_back_clean(database: str, ats: Ats, binary: str) -> None:
    with pgbouncer(binary, database, "session", server_reset_query="") as dsn:
        for _ in range(3):  # the pooler keeps the session, and cleans nothing up
            async with session(dsn, WATCH) as own:
                assert own.is_pooled
                task = asyncio.create_task(own.hold(0.01))
                await asyncio.wait([task], timeout=0.2)
                assert not task.done()
                assert one(ats, _LEFT) == 1
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert one(ats, _LEFT) == 0


async def test_a_session_that_somebody_else_works_in_is_not_ended(database: str, ats: Ats, binary: str) -> None:
    with pgbouncer(binary, database, "transaction") as dsn:
        other = await AsyncConnection.connect(dsn, prepare_threshold=None)
        async with unprobed(dsn, "ours") as own:
            await own.lock(WATCH)
            await other.execute("SELECT 1")  # keeps the session
            assert one(ats, _LEFT) == 1
        await other.execute("SELECT 1")
        await other.close()

"""A server that is behind what was read before is not read until it has caught up."""

from collections.abc import Iterator

import pytest
from support.eventually import eventually
from support.sessions import Ats, one, run, sessions
from support.source import opened
from support.standby import Standby, standby_of
from support.watched import a_config

from cdc_sync.demo.postgres import Server
from cdc_sync.source import connection as module
from cdc_sync.source.connection import connected, pooled
from cdc_sync.source.errors import SourceError
from cdc_sync.source.reached import Reached

XMAX = "SELECT txid_snapshot_xmax(txid_current_snapshot())"


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


async def met(dsn: str, reached: Reached) -> bool:
    """Whether a server is far enough."""
    async with connected(dsn) as connection:
        try:
            await reached.meet(connection)
        except SourceError as error:
            return error.kind != "unreachable" or "behind what was read before" not in str(error)
    return True


async def test_a_replica_that_lags_is_waited_for(
    restartable_server: Server, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECTS_WITHIN", 1.0)
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, replica = on_primary(), on_standby()
        run(replica, "SELECT pg_wal_replay_pause()")
        run(ats, "INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
        reached = Reached()
        assert await met(restartable_server.dsn, reached)

        assert not await met(standby.dsn, reached)
        with pytest.raises(SourceError, match="behind what was read before"):
            async with pooled(standby.dsn, reached):
                pass

        run(replica, "SELECT pg_wal_replay_resume()")
        await eventually(lambda: met(standby.dsn, reached), "the replica has caught up")
        async with pooled(standby.dsn, reached) as pool, pool.connection() as connection:
            assert await (await connection.execute("SELECT hellowork_id FROM public.applications")).fetchall()


async def test_a_standby_is_read_where_sessions_would_begin_serializable(
    restartable_server: Server, standby: Standby
) -> None:
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, replica = on_primary(), on_standby()
        run(ats, "ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'")
        there = "SELECT count(*) FROM pg_db_role_setting"
        await eventually(lambda: one(replica, there), "the standby has the setting")

    async with opened(a_config(standby.dsn)) as source:
        assert await source.rows() == []


class TestAPrimary:
    """It may have lost its last moments in a crash."""

    async def test_that_lost_its_last_moments_is_read(self, database: str, ats: Ats) -> None:
        assert await met(database, Reached(int(one(ats, XMAX)) + 500))

    async def test_that_was_put_back_is_not_read(self, database: str, ats: Ats) -> None:
        assert not await met(database, Reached(int(one(ats, XMAX)) + 100_000))

    async def test_tells_a_poll_how_far_it_is(self, database: str, ats: Ats) -> None:
        async with opened(a_config(database)) as source:
            reader = await source.watermark_reader("updated_at")
            for statement in ("SELECT txid_current()", "INSERT INTO public.applications (updated_at) VALUES (now())"):
                run(ats, statement)
                now = one(ats, XMAX)
                await reader.page("2024-01-01", 10)
                assert reader._reached.xmax >= now

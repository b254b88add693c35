"""The doorbell on the server; what the daemon makes of it is tried in the pipeline's tests."""

from collections.abc import AsyncIterator

import pytest
from psycopg_pool import AsyncConnectionPool
from support.builders import WATCH
from support.sessions import Ats, one, rows
from support.watched import a_config, install_triggers

from cdc_sync.source.bell import LEASE, Bell
from cdc_sync.source.connection import Connection, pooled
from cdc_sync.source.errors import SourceError


@pytest.fixture
async def pool(database: str, ats: Ats) -> AsyncIterator[AsyncConnectionPool[Connection]]:
    install_triggers(ats, a_config())
    ats.execute("INSERT INTO public.applications (id, status) VALUES (1, 'new'), (2, 'new')")
    ats.execute("DELETE FROM cdc_sync.changes")
    async with pooled(database) as pool:
        yield pool


class TestLease:
    async def test_is_by_the_databases_clock(self, pool: AsyncConnectionPool[Connection], ats: Ats) -> None:
        bell = Bell(pool, WATCH)
        left = "SELECT last_value - extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell_applications"

        await bell.arm()
        assert LEASE - 2 < one(ats, left) < LEASE + 1

        await bell.disarm()
        assert rows(ats, "SELECT last_value FROM cdc_sync.bell_applications") == [(0,)]

    async def test_takes_an_id_that_is_above_all_that_write(
        self, pool: AsyncConnectionPool[Connection], other: Ats
    ) -> None:
        bell = Bell(pool, WATCH)
        other.execute("BEGIN")
        writing = one(other, "SELECT txid_current()")

        taken = await bell.arm()

        assert taken is not None
        assert taken > writing
        assert not await bell.is_quiet(taken)
        other.execute("ROLLBACK")

    @pytest.mark.parametrize("step", ["arm", "disarm"])
    async def test_a_bell_that_is_not_installed(self, pool: AsyncConnectionPool[Connection], step: str) -> None:
        with pytest.raises(SourceError, match='bell_nothing" does not exist') as raised:
            await getattr(Bell(pool, "nothing"), step)()

        assert "`cdc-sync sql install`" in str(raised.value)

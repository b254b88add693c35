"""The doorbell on the server; what the daemon makes of it is tried in the pipeline's tests."""

from collections.abc import AsyncIterator

import pytest
from support.binaries import server_binaries
from support.builders import WATCH
from support.doorbell import Doorbell
from support.postgres import SETTINGS, create_ats
from support.sessions import Ats, one, rows, sessions
from support.versions import needs
from support.watched import a_config, install_triggers

from cdc_sync.demo.postgres import server as embedded_server
from cdc_sync.source.changelog import LEASE, have_ended
from cdc_sync.source.connection import Pool, pooled
from cdc_sync.source.errors import SourceError

ARMED = "SELECT last_value > extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell_applications"
SMALL_QUEUE = {"max_notify_queue_pages": "64"}
"""A setting since PostgreSQL 17; before, a queue has 8 GB."""


@pytest.fixture
async def pool(database: str, ats: Ats) -> AsyncIterator[Pool]:
    install_triggers(ats, a_config())
    ats.execute("INSERT INTO public.applications (id, status) VALUES (1, 'new'), (2, 'new')")
    ats.execute("DELETE FROM cdc_sync.changes")
    async with pooled(database) as pool:
        yield pool


class TestLease:
    async def test_is_by_the_databases_clock(self, pool: Pool, ats: Ats) -> None:
        bell = Doorbell(pool, WATCH)
        left = "SELECT last_value - extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell_applications"

        await bell.arm()
        assert LEASE - 2 < one(ats, left) < LEASE + 1

        await bell.disarm()
        assert rows(ats, ARMED) == [(False,)]

    async def test_takes_an_id_that_is_above_all_that_write(self, pool: Pool, other: Ats) -> None:
        bell = Doorbell(pool, WATCH)
        other.execute("BEGIN")
        writing = one(other, "SELECT txid_current()")

        taken = await bell.arm()

        assert taken is not None
        assert taken > writing
        assert not await have_ended(pool, taken)
        other.execute("ROLLBACK")

    @pytest.mark.parametrize("step", ["arm", "disarm"])
    async def test_a_bell_that_is_not_installed(self, pool: Pool, step: str) -> None:
        with pytest.raises(SourceError, match='bell_nothing" does not exist') as raised:
            await getattr(Doorbell(pool, "nothing"), step)()

        assert "`cdc-sync sql install`" in str(raised.value)


async def test_a_bell_is_disarmed_while_the_notify_queue_fills_up(ats: Ats) -> None:
    """Somebody listens inside a transaction; a full queue makes each COMMIT fail that notifies."""
    needs(ats, 17, "a setting for the size of the NOTIFY queue")
    with embedded_server(server_binaries(), settings={**SETTINGS, **SMALL_QUEUE}) as own, sessions(own.dsn) as open_own:
        create_ats(own.dsn)
        ats, forgotten = open_own(), open_own()
        install_triggers(ats, a_config())
        async with pooled(own.dsn) as pool:
            bell = Doorbell(pool, WATCH)
            await bell.arm()
            forgotten.execute("LISTEN other")
            forgotten.execute("BEGIN")
            ats.execute("SELECT pg_notify('other', repeat('x', 7000) || i) FROM generate_series(1, 20) i")
            assert one(ats, "SELECT pg_notification_queue_usage()") > 0.25

            assert await bell.arm() is None

            assert bell.bell.refused
            assert rows(ats, ARMED) == [(False,)]
            forgotten.execute("COMMIT")
            ats.execute("NOTIFY other")  # who notifies trims the queue
            assert await bell.arm() is not None

"""Polling a hot standby, which hands out no transaction ids of its own."""

from collections.abc import Iterator

import pytest
from support.eventually import eventually
from support.log_batches import batch
from support.sessions import one, sessions
from support.source import opened
from support.standby import standby_of
from support.watched import a_config

from cdc_sync.ats.connection import pooled
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.lookout import Bell
from cdc_sync.ats.notify import ChangeLog
from cdc_sync.demo.postgres import Server


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[str]:
    with standby_of(restartable_server) as standby:
        yield standby.dsn


async def test_a_writer_on_the_primary_holds_the_fence(restartable_server: Server, standby: str) -> None:
    with sessions(restartable_server.dsn) as on_primary, sessions(standby) as on_standby:
        ats, slow, restart = on_primary(), on_primary(), on_standby()
        async with opened(a_config(standby)) as source:
            reader = await source.watermark_reader("updated_at")
            with slow.transaction():
                slow.execute("INSERT INTO public.applications (hellowork_id, updated_at) VALUES ('slow', now())")
                writing = int(one(slow, "SELECT txid_current()"))
                began = one(slow, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                ats.execute("INSERT INTO public.applications (hellowork_id, updated_at) VALUES ('quick', now())")
                ats.execute("CHECKPOINT")

                async def knows_of_the_checkpoint() -> bool:
                    restart.execute("CHECKPOINT")
                    return (await reader.look()).xmax > writing

                await eventually(knows_of_the_checkpoint, "the standby has replayed the checkpoint")
                await eventually(source.rows, "the standby has the quick row")
                held = await reader.look()
                assert held.xmin <= writing < held.xmax
                assert held.instant <= began + 10**6

            async def is_past() -> bool:
                ats.execute("SELECT txid_current()")
                return (await reader.look()).xmin >= held.xmax

            await eventually(is_past, "the slow transaction has ended on the standby too")
            page = await reader.page((reader.watermark_at(held.instant - 10 * 10**6),), 10)
            assert [row.application_id for row in page.rows] == ["slow", "quick"]


async def test_what_needs_to_write_says_so(restartable_server: Server, standby: str) -> None:
    with sessions(restartable_server.dsn) as on_primary:
        ats = on_primary()
        ats.execute("CREATE SCHEMA cdc_sync; CREATE SEQUENCE cdc_sync.bell MINVALUE 0 START 0")
        ats.execute(
            'CREATE TABLE cdc_sync.changes (watch text, operation "char", row_key text[], changed_at timestamptz)'
        )
        ats.execute("INSERT INTO cdc_sync.changes VALUES ('applications', 'U', '{1}', now())")
        position = one(ats, "SELECT pg_current_wal_lsn()")
    async with pooled(standby) as pool:
        with sessions(standby) as on_standby:
            replica = on_standby()
            replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            await eventually(lambda: one(replica, replayed, [position]), "the standby has the log")
        for writes in (consume(ChangeLog(pool, "applications")), Bell(pool).follow()):
            with pytest.raises(SourceError, match="it is a standby") as raised:
                await writes
            assert raised.value.kind == "misconfigured"
            assert "capture.mode poll" in str(raised.value)


async def consume(log: ChangeLog) -> None:
    async with batch(log, 10):
        pass

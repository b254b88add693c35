"""Polling a hot standby, which hands out no transaction ids of its own."""

from collections.abc import Iterator

import pytest
from support.eventually import eventually
from support.sessions import one, sessions
from support.source import opened
from support.standby import standby_of
from support.watched import a_config

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

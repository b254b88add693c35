"""A server that is behind what was read before is not read until it has caught up."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.eventually import eventually
from support.sessions import one, run, sessions
from support.source import opened
from support.standby import Standby, standby_of
from support.watched import a_config

from cdc_sync.ats.connection import ReplicaGuard, connected
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import server_facts
from cdc_sync.demo.postgres import Server

HAS = "SELECT count(*) > 0 FROM public.applications WHERE hellowork_id = %s"


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


async def met(dsn: str, guard: ReplicaGuard) -> bool:
    """Whether a server is far enough."""
    async with connected(dsn) as connection:
        try:
            await guard.meet(connection)
        except SourceError as error:
            return error.kind != "unreachable" or "behind what was read before" not in str(error)
    return True


async def test_a_replica_is_not_read_while_a_transaction_is_open_whose_end_was_seen(
    restartable_server: Server, standby: Standby
) -> None:
    """Its xmax is high enough by then: a later transaction has ended there."""
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, slow, replica = on_primary(), on_primary(), on_standby()
        guard = ReplicaGuard()
        slow.execute("BEGIN; INSERT INTO public.applications (hellowork_id) VALUES ('slow')")
        run(ats, "INSERT INTO public.applications (hellowork_id) VALUES ('quick')")
        await eventually(lambda: one(replica, HAS, ["quick"]), "the replica has the quick one")
        run(replica, "SELECT pg_wal_replay_pause()")
        slow.execute("COMMIT")
        async with opened(a_config(restartable_server.dsn), guard) as source:
            assert len(await source.rows()) == 2

        with pytest.raises(SourceError, match=r"its transaction \d+ is still open"):
            async with opened(a_config(standby.dsn), guard) as source:
                await source.rows()
        run(replica, "SELECT pg_wal_replay_resume()")
        await eventually(lambda: met(standby.dsn, guard), "the replica has caught up")


async def test_each_read_is_checked_on_connections_that_are_open(restartable_server: Server, standby: Standby) -> None:
    """Behind a transaction pooler, one connection leads to several servers."""
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, replica = on_primary(), on_standby()
        run(ats, "INSERT INTO public.applications (hellowork_id, updated_at) VALUES ('a1', now())")
        await eventually(lambda: one(replica, HAS, ["a1"]), "the replica has the row")
        guard = ReplicaGuard(behind_for=0.2)
        async with (
            opened(a_config(restartable_server.dsn), guard) as there,
            opened(a_config(standby.dsn), guard) as lagging,
        ):
            (row,) = await lagging.rows()
            run(replica, "SELECT pg_wal_replay_pause()")
            run(ats, "UPDATE public.applications SET status = 'HIRED'")
            assert [row.status for row in await there.rows()] == ["HIRED"]

            polling = await lagging.watermark_reader("updated_at")
            shape = lagging.reader.statements.shape
            for read in (
                lambda: lagging.reader.page(None, 10),
                lambda: lagging.reader.page(None, 10, shape),
                lambda: lagging.reader.digests(None, 10, shape),
                lambda: lagging.reader.by_key([row.key]),
                lambda: lagging.reader.by_key([("0",)], confirming=True),
                lambda: lagging.reader.by_application(["gone"]),
                lambda: polling.page(("2024-01-01",), 10),
                polling.look,
            ):
                with pytest.raises(SourceError, match="behind what was read before"):
                    await read()

            run(replica, "SELECT pg_wal_replay_resume()")
            guard.behind_for = 60.0
            assert [row.status for row in await lagging.rows()] == ["HIRED"]


async def test_a_primary_that_a_failover_left_behind_is_not_read(restartable_server: Server, standby: Standby) -> None:
    """It is behind by less than a crash may cost, and it may take writes."""
    standby.promote()
    guard = ReplicaGuard()
    with sessions(standby.dsn) as on_promoted:
        run(on_promoted(), "CHECKPOINT")
    assert await met(standby.dsn, guard)
    with sessions(restartable_server.dsn) as on_left:
        for _ in range(10):
            run(on_left(), "SELECT txid_current()")
    assert not await met(restartable_server.dsn, guard)


async def test_a_connection_to_another_database_is_refused(database: str, server: str) -> None:
    guard = ReplicaGuard()
    async with connected(database) as connection:
        guard.identity = (await server_facts(connection)).identity
        await guard.meet(connection)
    async with connected(server) as connection:
        with pytest.raises(SourceError, match="leads to the database postgres of cluster"):
            await guard.meet(connection)


class TestAPrimary:
    """It may have lost its last moments in a crash."""

    @staticmethod
    async def read_further(database: str, by: int) -> ReplicaGuard:
        """The guard of a watch that was read on another server, further by so many transactions."""
        guard = ReplicaGuard()
        assert await met(database, guard)
        assert guard.position is not None
        further = guard.position.xmax + by
        guard.position = replace(guard.position, server="another", xmin=further, xmax=further, open=frozenset())
        return guard

    async def test_that_lost_its_last_moments_is_read(self, database: str) -> None:
        guard = await self.read_further(database, 500)
        # Not while another test's transaction is open there.
        await eventually(lambda: met(database, guard), "it is read")

    async def test_that_was_put_back_is_not_read(self, database: str) -> None:
        assert not await met(database, await self.read_further(database, 100_000))

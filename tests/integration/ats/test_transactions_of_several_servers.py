"""Behind a real transaction pooler each read may be made on another server: none goes back."""

from functools import partial

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.balancer import balancer
from support.eventually import eventually
from support.pgbouncer import pgbouncer, pgbouncer_binary
from support.sessions import Ats, one, run, sessions
from support.source import opened
from support.standby import standby_of
from support.watched import a_config

from cdc_sync.ats.connection import ReplicaPosition
from cdc_sync.demo.postgres import Server

_IN_TURN = {"server_round_robin": 1, "min_pool_size": 4, "default_pool_size": 4}
_STATUS = "SELECT count(*) > 0 FROM public.applications WHERE status = 'V0'"


async def test_no_read_goes_back(restartable_server: Server) -> None:
    binary = pgbouncer_binary()
    if binary is None:
        pytest.skip("pgbouncer is not installed")
    with (
        standby_of(restartable_server) as standby,
        balancer(restartable_server.dsn, standby.dsn) as both,
        pgbouncer(binary, make_conninfo(both, password="x"), "transaction", **_IN_TURN) as pooler,
        sessions(restartable_server.dsn) as on_primary,
        sessions(standby.dsn) as on_standby,
    ):
        ats, replica = on_primary(), on_standby()
        run(ats, "INSERT INTO public.applications (hellowork_id, status) VALUES ('a1', 'V0')")
        await eventually(lambda: one(replica, _STATUS), "the standby has the row")
        await eventually(lambda: leads_to_both(pooler), "the pooler has connections to both")
        async with opened(a_config(pooler)) as source:
            servers = set()
            for version in range(1, 6):
                run(replica, "SELECT pg_wal_replay_pause()")
                run(ats, "UPDATE public.applications SET status = %s", [f"V{version}"])
                seen = [await source.row() for _ in range(6)]
                said = [str(row.status) for row in seen]
                assert said == sorted(said)
                servers.add(server_of(source.reader.pool.guard.position))
                run(replica, "SELECT pg_wal_replay_resume()")
                await eventually(partial(is_there, replica, version), "the standby has caught up")
                assert [str((await source.row()).status) for _ in range(4)] == [f"V{version}"] * 4
                servers.add(server_of(source.reader.pool.guard.position))
            for _ in range(100):  # the pooler chooses
                if len(servers) == 2:
                    break
                assert str((await source.row()).status) == "V5"
                servers.add(server_of(source.reader.pool.guard.position))
            assert len(servers) == 2


def server_of(position: ReplicaPosition | None) -> str:
    assert position is not None
    return position.server


def is_there(replica: Ats, version: int) -> bool:
    return bool(one(replica, "SELECT count(*) > 0 FROM public.applications WHERE status = %s", [f"V{version}"]))


def leads_to_both(dsn: str) -> bool:
    """Whether transactions of one session run on both servers."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as session:
        found = {one(session, "SELECT pg_is_in_recovery()") for _ in range(8)}
    return len(found) == 2

"""One address leads to several servers in turn: reads never go back to one that is behind, even after a restart."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.balancer import balancer
from support.daemon_process import DaemonProcess
from support.installation import JOB, PASSWORD, Installation
from support.sessions import Ats, one, run
from support.standby import Standby, standby_of

from cdc_sync.demo.postgres import Server

pytestmark = pytest.mark.parametrize("mode", ["poll"], indirect=True)

_STARTED = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint"
_REPLAYED = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"


@pytest.fixture
def replicas(on_own_server: Installation, restartable_server: Server) -> Iterator[tuple[Standby, Standby]]:
    """Two replicas of the ATS's server behind one address, which is what the daemon connects to."""
    on_own_server.add("hw-1")
    on_own_server.add_many("hw-idle-", 10_000)  # sweeps and polls are under way at once, on several connections
    on_own_server.configure_watch(capture={"poll_interval": "20ms"})
    with (
        standby_of(restartable_server) as first,
        standby_of(restartable_server, 5434) as second,
        balancer(first.dsn, second.dsn) as dsn,
    ):
        on_own_server.variables["ATS_DSN"] = make_conninfo(dsn, user=on_own_server.role, password=PASSWORD)
        yield first, second


def read_server(installation: Installation) -> int:
    """When the server was started that was read last, as the store has it."""
    with closing(sqlite3.connect(f"file:{installation.store}?mode=ro", uri=True)) as store:
        ((text,),) = store.execute("SELECT value FROM position WHERE name = 'replica'").fetchall()
    return int(json.loads(text)[0])


def catch_up(primary: Ats, replica: Ats, daemon: DaemonProcess) -> None:
    """Wait until the replica has what is committed on the primary."""
    position = one(primary, "SELECT pg_current_wal_lsn()")
    daemon.wait_until(lambda: one(replica, _REPLAYED, [position]), "the replica has caught up")


def test_a_replica_that_lags_sends_nothing_old_and_deletes_nothing(
    on_own_server: Installation, replicas: tuple[Standby, Standby]
) -> None:
    with on_own_server.daemon() as daemon:
        on_own_server.change("hw-1", status="V1")
        on_own_server.settle(daemon)
        on_own_server.sweeps(daemon, 4)
        with (
            psycopg.connect(replicas[0].dsn, autocommit=True) as a,
            psycopg.connect(replicas[1].dsn, autocommit=True) as b,
        ):
            catch_up(on_own_server.ats, a, daemon)
            catch_up(on_own_server.ats, b, daemon)
            a_is_read = one(a, _STARTED) == read_server(on_own_server)
            lagging, (good, good_session) = (b, (replicas[0], a)) if a_is_read else (a, (replicas[1], b))
            run(lagging, "SELECT pg_wal_replay_pause()")
            on_own_server.add("hw-2", "FRESH")
            for version in range(2, 5):
                on_own_server.change("hw-1", status=f"V{version}")
                on_own_server.settle(daemon)
                on_own_server.sweeps(daemon, 1)
            run(
                good_session,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                [on_own_server.role],
            )
            on_own_server.sweeps(daemon)
            wanted = [(f"V{version}", JOB) for version in range(1, 5)]
            assert on_own_server.hellowork.told("hw-1") == wanted
            assert on_own_server.hellowork.told("hw-2") == [("FRESH", JOB)]

            good_session.close()
            good.stop()
            assert "a restart does not forget" in daemon.wait_until_not_ready("behind what was read before")
            assert daemon.stop() == 0
            assert on_own_server.run("run", "--once").code == 1
            assert "warning  applications replica-position" in on_own_server.run("check").stdout
            with on_own_server.daemon(ready=False) as again:
                again.wait_until_not_ready("behind what was read before")
                # Replaying for which it is late, the server cancels what it meets, this statement too.
                with suppress(psycopg.errors.SerializationFailure):
                    run(lagging, "SELECT pg_wal_replay_resume()")
                again.wait_until_ready()
                on_own_server.change("hw-1", status="V5")
                on_own_server.settle(again)
                on_own_server.sweeps(again)
                assert again.stop() == 0
    assert on_own_server.hellowork.told("hw-1") == [*wanted, ("V5", JOB)]
    assert on_own_server.hellowork.told("hw-2") == [("FRESH", JOB)]
    assert not [call for call in on_own_server.hellowork.calls if str(call.application_id).startswith("hw-idle-")]


def test_a_primary_and_its_standby_may_share_an_address(
    on_own_server: Installation, restartable_server: Server
) -> None:
    on_own_server.add("hw-1")
    with standby_of(restartable_server) as standby, balancer(restartable_server.dsn, standby.dsn) as dsn:
        on_own_server.variables["ATS_DSN"] = make_conninfo(dsn, user=on_own_server.role, password=PASSWORD)
        for number in range(2):
            with on_own_server.daemon() as daemon:
                on_own_server.change("hw-1", status=f"STEP {number}")
                on_own_server.settle(daemon)
                on_own_server.sweeps(daemon)
                assert not daemon.events_named("notify")
                assert daemon.stop() == 0
    assert on_own_server.hellowork.told("hw-1") == [("STEP 0", JOB), ("STEP 1", JOB)]

"""Daemons that read different servers of the ATS's cluster: one captures a watch, and what is read never goes back."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.installation import JOB, PASSWORD, Installation
from support.standby import Standby, standby_of

from cdc_sync.demo.postgres import Server

APPLICATIONS = 12
ROUNDS = 20

WAITS = "Another cdc-sync works the watch"

pytestmark = pytest.mark.timeout(300)  # servers, and leases that must lapse


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


def share(installation: Installation) -> None:
    """Share a store on the ATS's primary."""
    installation.share_store()
    installation.variables["STATE_DSN"] = installation.variables["ATS_DSN"]
    installation.configure(state={"dsn": "${STATE_DSN}"}, hellowork={"timeout": "1s"})


def another_through(installation: Installation, standby: Standby) -> Installation:
    """A second daemon, which reads the standby, and names the primary too: that makes it the same database."""
    there, primary = conninfo_to_dict(standby.dsn), conninfo_to_dict(installation.dsn)
    dsn = make_conninfo(
        standby.dsn, host=f"{there['host']},{primary['host']}", port=f"{there['port']},{primary['port']}"
    )
    second = installation.another("second")
    second.variables = {**installation.variables, "ATS_DSN": make_conninfo(dsn, user=second.role, password=PASSWORD)}
    return second


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_daemons_that_read_different_servers_tell_each_change_once_and_in_order(
    on_own_server: Installation, standby: Standby
) -> None:
    """The standby lags more and less, so that what its daemon would read is often older than what was sent."""
    applications = [f"hw-{number}" for number in range(1, APPLICATIONS + 1)]
    on_own_server.add_many("hw-", APPLICATIONS)
    share(on_own_server)
    second = another_through(on_own_server, standby)
    with (
        on_own_server.daemon() as first,
        second.daemon(ready=False) as waiting,
        psycopg.connect(standby.dsn, autocommit=True) as replica,
    ):
        waiting.wait_until_standby()
        for turn in range(ROUNDS):
            replica.execute("SELECT pg_wal_replay_pause()" if turn % 2 else "SELECT pg_wal_replay_resume()")
            for application in applications:
                on_own_server.change(application, status=f"V{turn:03}")
            if turn % 4 == 3:
                on_own_server.settle(first)
        replica.execute("SELECT pg_wal_replay_resume()")
        on_own_server.settle(first)
        on_own_server.sweeps(first)
        assert not waiting.events_named("watching")
    for application in applications:
        told = [status for status, _ in on_own_server.hellowork.told(application)]
        assert told == sorted(set(told))
        assert told[-1] == f"V{ROUNDS - 1:03}"
    assert len(on_own_server.hellowork.calls) <= ROUNDS * APPLICATIONS + ROUNDS


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_the_one_that_waits_takes_over_through_its_own_server(on_own_server: Installation, standby: Standby) -> None:
    on_own_server.add("hw-1")
    share(on_own_server)
    second = another_through(on_own_server, standby)
    with on_own_server.daemon() as first, second.daemon(ready=False) as waiting:
        waiting.wait_until_standby()
        on_own_server.change("hw-1", status="SEEN")
        on_own_server.settle(first)
        assert first.stop() == 0  # in order
        waiting.wait_for_event("watching")
        on_own_server.change("hw-1", status="HIRED")
        second.settle(waiting)
        assert waiting.stop() == 0
    assert on_own_server.hellowork.told("hw-1") == [("SEEN", JOB), ("HIRED", JOB)]


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_one_whose_server_is_behind_takes_over_when_it_has_caught_up(
    on_own_server: Installation, standby: Standby
) -> None:
    """Read before, it would send old states, and report as deleted what its server does not show yet."""
    on_own_server.add("hw-1")
    share(on_own_server)
    second = another_through(on_own_server, standby)
    with (
        on_own_server.daemon() as first,
        second.daemon(ready=False) as waiting,
        psycopg.connect(standby.dsn, autocommit=True) as replica,
    ):
        waiting.wait_until_standby()
        replica.execute("SELECT pg_wal_replay_pause()")
        on_own_server.add("hw-2")
        for application in ("hw-1", "hw-2"):
            on_own_server.change(application, status="SEEN")
        on_own_server.settle(first)
        first.kill()
        waiting.wait_for_event("This server is behind what was read before")
        replica.execute("SELECT pg_wal_replay_resume()")
        waiting.wait_for_event("watching")
        on_own_server.change("hw-1", status="HIRED")
        second.settle(waiting)
        on_own_server.sweeps(waiting)
        assert waiting.stop() == 0
    assert on_own_server.hellowork.told("hw-1") == [("SEEN", JOB), ("HIRED", JOB)]
    assert on_own_server.hellowork.told("hw-2")[-1] == ("SEEN", JOB)
    assert not [status for status, _ in on_own_server.hellowork.told("hw-2") if status == "deleted"]


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_with_stores_of_their_own_they_meet_on_the_primary(on_own_server: Installation, standby: Standby) -> None:
    """Only the one that reads the standby knows both: it reads the first host, and locks on the primary."""
    on_own_server.add("hw-1")
    second = another_through(on_own_server, standby)
    with on_own_server.daemon() as first, second.daemon(ready=False) as waiting:
        waiting.wait_for_event(WAITS)
        assert "leads to the primary too" in " ".join(second.run("check").stdout.split())
        on_own_server.change("hw-1", status="SEEN")
        on_own_server.settle(first)
        standby.catch_up()  # what its daemon finds first is known without a call
        first.kill()
        waiting.wait_for_event("watching")
        on_own_server.change("hw-1", status="HIRED")
        second.settle(waiting)
        # It holds the lock as long as it works, and notices when it is gone.
        on_own_server.ats.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        waiting.wait_for_event("watching", 2)
        assert waiting.stop() == 0
    assert on_own_server.hellowork.told("hw-1") == [("SEEN", JOB), ("HIRED", JOB)]

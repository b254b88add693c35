"""Daemons that read different servers of the ATS's cluster: one captures a watch, and what is read never goes back."""

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.installation import JOB, PASSWORD, Installation
from support.standby import Standby, standby_of

from cdc_sync.demo.postgres import Server

WAITS = "Another cdc-sync works the watch"

pytestmark = pytest.mark.timeout(300)  # servers, and leases that must lapse


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


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

"""The daemon on a hot standby: it polls, goes on after a promotion, and says that notify cannot work there."""

from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo
from support.installation import JOB, PASSWORD, Installation
from support.standby import Standby, standby_of

from cdc_sync.demo.postgres import Server


@pytest.fixture
def standby(on_own_server: Installation, restartable_server: Server) -> Iterator[Standby]:
    """Follows the ATS's server, and is what the daemon connects to."""
    on_own_server.add("hw-1")
    on_own_server.add("hw-2")
    with standby_of(restartable_server) as standby:
        on_own_server.variables["ATS_DSN"] = make_conninfo(standby.dsn, user=on_own_server.role, password=PASSWORD)
        yield standby


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_a_standby_is_polled_and_may_be_promoted(on_own_server: Installation, standby: Standby) -> None:
    with on_own_server.daemon() as daemon:
        on_own_server.change("hw-1", status="SEEN")
        on_own_server.settle(daemon)
        assert on_own_server.hellowork.told("hw-1") == [("SEEN", JOB)]
        checked = " ".join(on_own_server.run("check").stdout.split())
        assert "the server is a standby, which is enough" in checked
        assert "would send each change twice" in checked
        on_own_server.delete("hw-2")
        daemon.wait_until(lambda: on_own_server.hellowork.told("hw-2") == [("deleted", JOB)], "a sweep's deletion")

        standby.promote()
        on_own_server.ats.close()
        on_own_server.dsn = standby.dsn
        on_own_server.reconnect()

        on_own_server.change("hw-1", status="HIRED")
        on_own_server.settle(daemon)
        assert on_own_server.hellowork.told("hw-1") == [("SEEN", JOB), ("HIRED", JOB)]
        on_own_server.delete("hw-1")
        daemon.wait_until(lambda: on_own_server.hellowork.told("hw-1")[2:] == [("deleted", JOB)], "a sweep's deletion")

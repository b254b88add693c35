"""A pooler between the daemon and the ATS's database: refused where it shares sessions out, else no hindrance."""

import pytest
from support.installation import JOB, Installation
from support.pgbouncer import pgbouncer, pgbouncer_binary


@pytest.fixture
def binary() -> str:
    binary = pgbouncer_binary()
    if binary is None:
        pytest.skip("there is no pgbouncer here (Debian: apt-get install pgbouncer)")
    return binary


def test_a_pooler_in_transaction_mode_is_refused(installation: Installation, binary: str) -> None:
    """Two daemons would both have the lock there, and the one that comes next would be kept out by it."""
    installation.add("hw-1")
    direct = installation.variables["ATS_DSN"]
    with pgbouncer(binary, direct, "transaction") as dsn:
        installation.variables["ATS_DSN"] = dsn
        second = installation.another("second")
        with installation.daemon(ready=False) as first, second.daemon(ready=False) as other:
            for daemon in (first, other):
                reasons = daemon.wait_until_not_ready("lets several clients use one session")
                assert "Let database.dsn lead directly to PostgreSQL" in reasons
                assert daemon.events_named("lets several clients use one session")[0]["level"] == "error"
            installation.change("hw-1", status="SEEN")
            assert first.stop() == other.stop() == 0
        once = installation.run("run", "--once")
        assert once.code == 1
        assert "Let database.dsn lead directly to PostgreSQL" in once.output
        # The pooler is still there, and has kept its sessions: no lock is in them.
        installation.variables["ATS_DSN"] = direct
        with installation.daemon() as daemon:
            installation.settle(daemon)
            installation.change("hw-1", status="HIRED")
            installation.settle(daemon)
            assert daemon.stop() == 0
    assert installation.hellowork.told("hw-1") == [("HIRED", JOB)]  # SEEN was there before the baseline

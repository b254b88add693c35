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


@pytest.mark.parametrize("mode", ["notify", "poll"], indirect=True)
@pytest.mark.parametrize("wakeup", ["notify", "none"])
def test_a_pooler_in_transaction_mode_is_refused(installation: Installation, binary: str, wakeup: str) -> None:
    """Two daemons would both have the lock there, and the one that comes next would be kept out by it."""
    if installation.mode == "poll" and wakeup == "none":
        pytest.skip("polls are woken by nobody")
    installation.configure_watch(capture={"wakeup": wakeup})
    if installation.mode == "notify":
        installation.install()
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


@pytest.mark.parametrize("mode", ["notify", "poll"], indirect=True)
def test_a_pool_in_session_mode_works(installation: Installation, binary: str) -> None:
    installation.add("hw-1")
    with pgbouncer(binary, installation.variables["ATS_DSN"], "session") as dsn:
        installation.variables["ATS_DSN"] = dsn
        for status in ("SEEN", "HIRED"):
            with installation.daemon() as daemon:
                installation.change("hw-1", status=status)
                installation.settle(daemon)
                assert daemon.stop() == 0
    assert installation.hellowork.told("hw-1") == [("SEEN", JOB), ("HIRED", JOB)]


def test_pending_entries_wait_while_their_rows_cannot_be_read_again(notify: Installation, binary: str) -> None:
    notify.share_store()
    notify.variables["STORE_DSN"] = notify.variables["ATS_DSN"]
    notify.configure(state={"backend": "postgres", "dsn": "${STORE_DSN}"})
    notify.add("hw-1")
    assert notify.run("run", "--once").code == 0
    notify.hellowork.will({"kind": "status", "status": 503, "times": None})
    notify.change("hw-1", status="SEEN")
    assert notify.run("run", "--once").code == 1
    notify.hellowork.will_work()
    with pgbouncer(binary, notify.variables["ATS_DSN"], "transaction") as dsn:
        notify.variables["ATS_DSN"] = dsn
        with notify.daemon(ready=False) as daemon:
            daemon.wait_until_not_ready("lets several clients use one session")
            assert daemon.stop() == 0
    assert notify.hellowork.told("hw-1") == []

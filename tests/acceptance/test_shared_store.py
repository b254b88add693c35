"""state.backend postgres: who may make the store, and a store that is away."""

import signal

import pytest
from support.installation import JOB, Installation

from cdc_sync.demo.postgres import Server

pytestmark = pytest.mark.timeout(300)  # many processes, one after the other


def test_uninstalling_keeps_the_store_unless_it_is_meant(notify: Installation) -> None:
    notify.share_store()
    kept = notify.run("sql", "uninstall", "--apply", "--dsn", notify.dsn)
    assert kept.code == 0
    assert "cdc-sync sql uninstall --store" in kept.stderr
    assert notify.ats.execute("SELECT to_regclass('cdc_sync.snapshot') IS NOT NULL").fetchone() == (True,)
    assert notify.run("sql", "uninstall", "--store", "--apply", "--dsn", notify.dsn).code == 0
    assert notify.ats.execute("SELECT to_regnamespace('cdc_sync')").fetchone() == (None,)


def test_nothing_is_sent_while_it_is_away_and_it_mends_itself(notify: Installation, restartable_server: Server) -> None:
    notify.variables["STATE_DSN"] = restartable_server.dsn
    notify.configure(state={"backend": "postgres", "dsn": "${STATE_DSN}"}, hellowork={"timeout": "1s"})
    notify.add("hw-1")
    with notify.daemon() as daemon:
        restartable_server.stop(signal.SIGQUIT)
        notify.change("hw-1", status="SEEN")
        daemon.wait_for_event("The store in")
        daemon.wait_until_not_ready("The store in")
        assert notify.hellowork.calls_for("hw-1") == []
        assert "cannot be used" in notify.run("status").stderr
        restartable_server.start()
        daemon.wait_until_ready()
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]

"""The ATS's database is away, comes back, or is not as configured: said once, with the remedy, until it works."""

import signal

import pytest
from support.installation import JOB, Installation

from cdc_sync.demo.postgres import Server


@pytest.mark.parametrize(
    ("mode", "stop"),
    [("notify", signal.SIGQUIT), ("poll", signal.SIGINT)],
    ids=["notify-crash", "poll-in order"],
    indirect=["mode"],
)
def test_a_server_that_restarts_is_caught_up_with(
    on_own_server: Installation, restartable_server: Server, stop: signal.Signals
) -> None:
    for number in range(3):
        on_own_server.add(f"hw-{number}")
    with on_own_server.daemon() as daemon:
        on_own_server.change("hw-0", status="BEFORE")
        on_own_server.ats.close()
        restartable_server.stop(stop)
        daemon.wait_until_not_ready("cannot be reached")
        restartable_server.start()
        on_own_server.reconnect()
        on_own_server.change("hw-1", status="AFTER")
        daemon.wait_until_ready()
        on_own_server.settle(daemon)
        assert on_own_server.hellowork.told("hw-0") == [("BEFORE", JOB)]
        assert on_own_server.hellowork.told("hw-1") == [("AFTER", JOB)]
        assert on_own_server.hellowork.calls_for("hw-2") == []


def test_without_triggers_sweeps_alone_find_changes_until_they_are_installed(notify: Installation) -> None:
    notify.uninstall()
    notify.add("hw-1")
    notify.configure_watch(capture={"sweep": "500ms"})
    with notify.daemon(ready=False) as daemon:
        missing = daemon.wait_for_event("capture.mode is notify, but")
        assert missing["level"] == "error"
        assert "Only sweeps find what that misses. Let the DBA run what `cdc-sync sql install`" in missing["event"]
        daemon.wait_until_not_ready("sql install")
        daemon.wait_for_event("swept")  # the silent baseline before it must not meet the change
        notify.change("hw-1", status="SWEPT")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SWEPT", JOB)], "what the sweep finds")
        # It is counted after the call has begun.
        daemon.wait_for_report(
            lambda report: report["watches"][0]["sweep_repairs"].get("status", 0) >= 1, "the sweep's repair"
        )
        daemon.wait_until(lambda: "triggers" in notify.run("status").stdout, "the status")
        notify.install()
        daemon.wait_until_ready()
        before = daemon.report()["watches"][0]["sweep_repairs"]
        notify.change("hw-1", status="TOLD")
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1")[-1] == ("TOLD", JOB)
        assert daemon.report()["watches"][0]["sweep_repairs"] == before

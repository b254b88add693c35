"""Settings that change how the daemon works, each seen from outside."""

import signal

from support.installation import JOB, Installation


def test_without_an_admin_address_nobody_listens(notify: Installation) -> None:
    notify.configure(admin={"listen": None})
    with notify.daemon(ready=False) as daemon:
        daemon.wait_for_event("watching")
        assert daemon.readiness()[0] == 0
        assert "admin" not in daemon.wait_for_event("started")
        assert daemon.stop() == 0


def test_an_interrupted_run_once_says_nothing_odd(notify: Installation) -> None:
    assert notify.run("run", "--once").code == 0
    notify.change("hw-sentinel", status="SEEN")
    notify.hellowork.will({"kind": "hang", "seconds": 60})
    with notify.daemon("--once", ready=False) as process:
        process.wait_until(lambda: notify.hellowork.calls, "the call")
        assert process.stop(signal.SIGINT) == 130
        assert process.logged.count("\n") == len(process.events)
    assert notify.run("run", "--once").code == 0
    assert notify.hellowork.told("hw-sentinel") == [("SEEN", JOB)]

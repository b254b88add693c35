"""Settings that change how the daemon works, each seen from outside."""

import signal

from support.installation import JOB, Installation


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

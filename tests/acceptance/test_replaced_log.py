"""`sql uninstall` and `sql install` while the daemon works: what was lost with the change log is found at once."""

import json
import signal

from support.installation import JOB, Installation


def test_changes_of_a_log_that_was_replaced_unseen_are_found_by_a_sweep(notify: Installation) -> None:
    notify.configure_watch(capture={"drain_interval": "200ms"})
    for number in range(3):
        notify.add(f"hw-{number}")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        daemon.suspend()
        notify.change("hw-0", status="IN THE OLD LOG")
        notify.uninstall()
        notify.change("hw-1", status="WITHOUT TRIGGERS")
        notify.install()
        daemon.send_signal(signal.SIGCONT)

        daemon.wait_until(lambda: notify.hellowork.told("hw-0") == [("IN THE OLD LOG", JOB)], "the change")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("WITHOUT TRIGGERS", JOB)], "the change")

        # And what follows is recorded in the new log.
        daemon.wait_until_ready()
        notify.change("hw-2", status="IN THE NEW LOG")
        notify.settle(daemon)
        assert notify.hellowork.told("hw-2") == [("IN THE NEW LOG", JOB)]
        # Not by a sweep: one may be on its way still.
        (story,) = json.loads(notify.run("explain", "hw-2", "--json").stdout)
        assert [event["by"] for event in story["events"] if event["event"] == "queued"] == ["notify"]

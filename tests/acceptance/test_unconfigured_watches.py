"""Watches that the configuration has no longer, because they were renamed or removed, while the store knows them."""

import json

from support.installation import JOB, Installation


def rename(installation: Installation, old: str, new: str) -> None:
    """Give a watch another name in the configuration, and install what that needs."""
    watches = installation.document["watches"]
    watches[new] = watches.pop(old)
    installation.configure()
    installation.install()


def test_what_they_left_is_seen_waits_and_is_decided_about(notify: Installation) -> None:
    for name in ("hw-1", "hw-2", "hw-3"):
        notify.add(name)
    assert notify.run("run", "--once").code == 0
    notify.hellowork.will(
        {"kind": "status", "status": 503, "application_id": "hw-1"},
        {"kind": "status", "status": 400, "application_id": "hw-2", "times": None},
    )
    notify.change("hw-1", status="SEEN")
    notify.change("hw-2", status="SEEN")
    assert notify.run("run", "--once").code == 1
    rename(notify, "applications", "candidates")

    finding, *more = [
        each for each in json.loads(notify.run("check", "--json").stdout) if each["check"] == "store-watches"
    ]
    assert (finding["state"], finding["watch"], more) == ("warning", "applications", [])
    assert "known 4, pending 1, held 0, dead 1, suspected 0" in finding["message"]
    watches = {watch["watch"]: watch for watch in json.loads(notify.run("status", "--json").stdout)["watches"]}
    assert {name: watch["configured"] for name, watch in watches.items()} == {"candidates": True, "applications": False}
    assert (watches["applications"]["pending"], watches["applications"]["dead_letters"]) == (1, 1)
    notify.hellowork.will_work()
    retried = notify.run("dead-letters", "retry", "hw-2", "--watch", "applications")
    assert (retried.code, retried.stdout) == (0, "to be sent again: applications hw-2\n")
    with notify.daemon() as daemon:
        daemon.wait_for_event("swept")
        assert notify.hellowork.told("hw-1") == notify.hellowork.told("hw-2") == []
        assert daemon.stop() == 0
    rename(notify, "candidates", "applications")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1") == notify.hellowork.told("hw-2") == [("SEEN", JOB)]

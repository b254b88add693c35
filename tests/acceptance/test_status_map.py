"""An edited status map: the plan tells what it means, and a mass change that it makes is held whole."""

import json

from support.installation import Installation


def test_an_edited_map_is_counted_by_the_plan_and_held_by_the_daemon(installation: Installation) -> None:
    installation.configure_watch(
        status={"map": {"NEW": "sent"}}, fuse={"max_changes": 5, "max_deletions": 5, "window": "10m"}
    )
    installation.add_many("hw-", 20)
    with installation.daemon() as daemon:
        assert daemon.stop() == 0

    installation.configure_watch(status={"map": {"NEW": "received"}})
    planned = json.loads(installation.run("plan", "--json").stdout)
    assert {item["action"] for item in planned} == {"held"}
    assert len(planned) == 21
    shown = installation.run("plan").stdout
    assert "21 applications would get another status for that reason alone" in shown
    assert "More than fuse.max_changes: all of them would be held" in shown
    assert installation.hellowork.calls == []

    with installation.daemon(ready=False) as daemon:
        assert "21 applications would be sent with another status" in daemon.wait_until_not_ready("fuse applications")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 21, "all of them held")
        assert daemon.wait_for_event("the section status of the configuration has changed")["applications"] == 21
        assert installation.hellowork.calls == []
        # A few first.
        few = [
            each["application_id"] for each in json.loads(installation.run("fuse", "show", "--json").stdout)["entries"]
        ]
        assert installation.run("fuse", "release", *few[:2], "--yes").stdout == "2 released\n"
        daemon.wait_until(lambda: len(installation.hellowork.calls) == 2, "the calls that were let out")
        assert {body["status"] for body in installation.hellowork.state.values()} == {"received"}
        assert installation.run("fuse", "discard", "--yes").stdout == "19 discarded\n"
        daemon.wait_until_ready()
        assert daemon.stop() == 0
    with installation.daemon() as daemon:
        assert not daemon.events_named("the section status")
        installation.settle(daemon)
        told = [call for call in installation.hellowork.calls if call.application_id != "hw-sentinel"]
        assert len(told) <= 2


def test_an_edit_that_touches_few_is_said_and_told(poll: Installation) -> None:
    poll.configure_watch(status={"map": {"NEW": "sent"}})
    poll.add("hw-1")
    assert poll.run("run", "--once").code == 0

    poll.configure_watch(status={"map": {"NEW": "received"}})
    once = poll.run("run", "--once")

    assert once.code == 0
    assert "so many applications get another status" in once.stderr
    assert poll.hellowork.told("hw-1") == [("received", "job-1")]

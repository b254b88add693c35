"""Never two daemons at one thing: one watch, one port. Daemons of one store: `test_leader.py`."""

from support.installation import JOB, Installation


def test_a_second_daemon_with_another_store_waits_for_the_watch(installation: Installation) -> None:
    installation.add("hw-1")
    second = installation.another("second")
    with installation.daemon() as first, second.daemon(ready=False) as waiting:
        waiting.wait_for_event("Another cdc-sync works the watch applications")
        said = waiting.wait_until_standby()  # it could take over
        assert said.startswith("ready\nstandby applications: Another cdc-sync works the watch applications")
        installation.change("hw-1", status="SEEN")
        installation.settle(first)
        assert len(waiting.events_named("Another cdc-sync works")) == 1
        assert waiting.readiness()[0] == 200
        assert not waiting.events_named("sent")
        first.kill()
        waiting.wait_for_event("watching")
        waiting.wait_until_ready()
        installation.change("hw-1", status="HIRED")
        second.settle(waiting)
        assert waiting.stop() == 0
    assert installation.hellowork.told("hw-1") == [("SEEN", JOB), ("HIRED", JOB)]

"""HelloWork is away, refuses, throttles or does not know: what becomes of the calls, and what people are told."""

import json
from functools import partial

from support.daemon_process import DaemonProcess, free_port
from support.emulated import EmulatorOptions
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, JOB, Installation


def test_what_happens_while_helloworks_is_down_is_told_when_it_is_back(poll: Installation) -> None:
    port = free_port()
    poll.configure(hellowork={"base_url": f"http://127.0.0.1:{port}"})
    for number in range(8):
        poll.add(f"hw-{number}")
    with poll.daemon() as daemon:
        for number in range(8):
            poll.change(f"hw-{number}", status="ONE")
        reasons = daemon.wait_until_not_ready("no connection to 127.0.0.1")
        assert f"endpoint http://127.0.0.1:{port}: open" in reasons
        daemon.wait_for_event("the endpoint does not work")
        assert len(daemon.events_named("the endpoint does not work")) == 1
        daemon.wait_until(partial(_was_tried, daemon, "hw-1"), "a call with hw-1")
        poll.change("hw-0", status="TWO")
        poll.change("hw-1", status="NEW")  # undone, but who knows what was heard
        for application_id, status in (("hw-0", "TWO"), ("hw-1", "NEW")):
            daemon.wait_until(partial(_is_pending, poll, application_id, status), f"{status} in the outbox")
        assert daemon.stop() == 0
    # Also a daemon that has just started knows, and says, that it is down.
    with poll.daemon(ready=False) as daemon:
        daemon.wait_until_not_ready("endpoint")
        with running_hellowork(EmulatorOptions(port=port, required_headers={"X-Api-Key": API_KEY})) as back:
            daemon.wait_until(lambda: len(back.state) == 8, "all calls")
            daemon.wait_until_ready()
            daemon.wait_for_event("takes calls again")
            assert back.told("hw-0") == [("TWO", JOB)]
            assert back.told("hw-1") == [("NEW", JOB)]
            assert {back.told(f"hw-{number}")[-1][0] for number in range(2, 8)} == {"ONE"}
            assert not any(call.concurrent or call.violations for call in back.calls)
            assert daemon.stop() == 0
    assert len(json.loads(poll.run("dead-letters", "list", "--json").stdout)) == 0


def _was_tried(daemon: DaemonProcess, application_id: str) -> bool:
    return any(event["application_id"] == application_id for event in daemon.events_named("not sent yet"))


def _is_pending(installation: Installation, application_id: str, status: str) -> bool:
    (story,) = json.loads(installation.run("explain", application_id, "--json").stdout)
    return bool(story["entry"] and story["entry"]["content"]["status"] == status)


def test_an_endpoint_that_base_url_no_longer_names_is_no_problem(notify: Installation) -> None:
    notify.add("hw-1")
    options = EmulatorOptions(required_headers={"X-Api-Key": API_KEY})
    with running_hellowork(options) as other, notify.daemon() as daemon:
        notify.hellowork.will({"kind": "status", "status": 503, "times": None})
        notify.change("hw-1", status="SEEN")
        daemon.wait_for_event("the endpoint does not work")
        notify.configure(hellowork={"base_url": other.url})
        daemon.reload()
        daemon.wait_until(lambda: other.told("hw-1"), "the call there")
        daemon.wait_until_ready()


def test_a_dead_deletion_waits_while_the_endpoint_is_paused_that_base_url_names_now(notify: Installation) -> None:
    there = notify.hellowork.url.replace("127.0.0.1", "localhost")
    notify.add("hw-1")
    notify.hellowork.will({"kind": "status", "status": 400})
    with notify.daemon() as daemon:
        notify.delete("hw-1")
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 1, "the dead letter")
        notify.configure(hellowork={"base_url": there})
        daemon.reload()
        notify.settle(daemon)
        assert notify.run("pause", there).code == 0
        assert notify.run("dead-letters", "retry", "hw-1").code == 0
        notify.quiet(daemon, pending=1)
        assert notify.hellowork.told("hw-1") == []
        assert notify.run("resume", there).code == 0
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("deleted", JOB)], "the call")

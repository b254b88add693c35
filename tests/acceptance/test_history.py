"""An application's story: what happened, what will happen next and when, and how long that is remembered."""

import json
from typing import Any

from support.emulated import Call
from support.installation import Installation


def story(of: Installation, application_id: str) -> dict[str, Any]:
    (found,) = json.loads(of.run("explain", application_id, "--json").stdout)
    assert isinstance(found, dict)
    return found


def assert_the_request_is_what_was_sent(told: dict[str, Any], shown: str, calls: list[Call]) -> None:
    request = told["told_request"]
    assert {(call.raw, call.idempotency_key) for call in calls} == {(request["body"], request["idempotency_key"])}
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[-4:-1] == [
        f"POST {request['url']}",
        f"Idempotency-Key: {request['idempotency_key']}",
        request["body"],
    ]


def test_the_whole_story_in_order(poll: Installation) -> None:
    poll.configure_watch(settle={"LATER": "1h"})
    poll.add("hw-1")
    poll.add("hw-2")
    poll.hellowork.will({"kind": "status", "status": 503, "body": {"message": "busy " * 500}, "application_id": "hw-1"})
    with poll.daemon() as daemon:
        poll.change("hw-2", status="LATER")
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 1, "its entry")
        waiting = story(poll, "hw-2")
        assert waiting["adopted"]
        (next_,) = waiting["next"]
        assert next_.startswith("pending: LATER, job job-1 (status), to be sent at 20")
        poll.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: poll.hellowork.told("hw-1"), "the call that is answered")
        poll.settle(daemon, pending=1)
        told = story(poll, "hw-1")
        assert [event["event"] for event in told["events"]] == [
            "queued",
            "answered",
            "acknowledged",
        ]
        queued, answered, acknowledged = told["events"]
        assert (queued["by"], queued["kinds"]) == ("poll", ["status"])
        assert (queued["from"]["status"], queued["to"]["status"]) == ("NEW", "SEEN")
        assert answered["status"] == 503
        assert answered["body"].startswith('{"message": "busy busy')
        assert len(answered["body"]) == 2_000
        assert acknowledged["body"] == '{"result": "Status was updated successfully"}'
        assert not told["adopted"]
        assert told["next"] == ["nothing is pending"]
        shown = poll.run("explain", "hw-1").stdout
        assert "answered: SEEN, job job-1; attempt 1; reason HTTP 503: " in shown
        assert "adopted" not in shown
        assert_the_request_is_what_was_sent(told, shown, poll.hellowork.calls_for("hw-1"))
        assert waiting["told_request"] is None
        call = waiting["entry"]["request"]
        assert call["url"].endswith("/v1/applications/hw-2/status")
        assert json.loads(call["body"])["status"] == "LATER"
        assert call["idempotency_key"] in poll.run("explain", "hw-2").stdout
        assert daemon.stop() == 0

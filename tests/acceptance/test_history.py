"""An application's story: what happened, what will happen next and when, and how long that is remembered."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from support.emulated import Call
from support.installation import Installation


def story(of: Installation, application_id: str) -> dict[str, Any]:
    (found,) = json.loads(of.run("explain", application_id, "--json").stdout)
    assert isinstance(found, dict)
    return found


def test_what_happens_next_and_when(notify: Installation) -> None:
    notify.add("hw-1")
    notify.hellowork.will({"kind": "hang", "seconds": 30, "application_id": "hw-1"})
    with notify.daemon() as daemon:
        adopted = notify.run("explain", "hw-1").stdout
        assert "assumed to be known to HelloWork: NEW, job job-1, since 20" in adopted
        assert "(no call was made, for it was so when it was first seen)" in adopted
        assert "nothing is pending" in adopted

        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the call")
        notify.hellowork.will({"kind": "status", "status": 401, "times": None})
        notify.add("hw-2")
        daemon.wait_until_not_ready("paused")
        (next_,) = story(notify, "hw-2")["next"]
        waits = f"waits for {notify.hellowork.url}, which is paused: HTTP 401"
        assert waits in next_
        daemon.kill()
    (next_,) = story(notify, "hw-2")["next"]
    assert next_.startswith("pending: NEW, job job-1 (first), due 20")
    assert "to be sent when the daemon runs: it does not" in next_


def assert_the_request_is_what_was_sent(told: dict[str, Any], shown: str, calls: list[Call]) -> None:
    request = told["told_request"]
    assert {(call.raw, call.idempotency_key) for call in calls} == {(request["body"], request["idempotency_key"])}
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[-4:-1] == [
        f"POST {request['url']}",
        f"Idempotency-Key: {request['idempotency_key']}",
        request["body"],
    ]


def test_times_are_local_too(poll: Installation) -> None:
    poll.add("hw-1")
    assert poll.run("run", "--once").code == 0
    poll.change("hw-1", status="SEEN")
    assert poll.run("run", "--once").code == 0

    (at,) = [event["at"] for event in story(poll, "hw-1")["events"] if event["event"] == "acknowledged"]
    local = datetime.fromisoformat(at).astimezone(ZoneInfo("Asia/Tokyo"))

    shown = poll.run("explain", "hw-1", variables={"TZ": "Asia/Tokyo"}).stdout
    assert re.search(rf"{re.escape(at)} \(.*{local:%H:%M:%S} JST\)  acknowledged: ", shown)
    assert f"{at}  acknowledged: " in poll.run("explain", "hw-1", variables={"TZ": "UTC"}).stdout


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


def test_what_is_older_than_it_is_to_be_remembered_is_forgotten(poll: Installation) -> None:
    poll.add("hw-1")
    assert poll.run("run", "--once").code == 0
    with closing(sqlite3.connect(poll.store)) as store, store:
        store.executemany(
            "INSERT INTO history (at, watch, application_id, event, detail) VALUES (?, ?, ?, ?, ?)",
            [(0, "applications", "hw-1", "long ago", "{}")] * 7_000,
        )
    with poll.daemon() as daemon:
        daemon.wait_until(lambda: story(poll, "hw-1")["events"] == [], "the old events to be gone")
        poll.change("hw-1", status="SEEN")
        poll.settle(daemon)
        assert [event["event"] for event in story(poll, "hw-1")["events"]] == ["queued", "acknowledged"]
        assert daemon.stop() == 0


def test_an_unknown_application_is_told_where_it_was_looked_for(poll: Installation) -> None:
    poll.add("hw-1")
    assert "does not exist yet: the daemon makes it at its first start" in poll.run("explain", "hw-1").stderr
    assert poll.run("run", "--once").code == 0

    unknown = poll.run("explain", "hw-9", "--watch", "applications")

    assert unknown.code == 1
    assert "No application 'hw-9' in the watch applications of the store" in unknown.stderr
    assert str(poll.store) in unknown.stderr
    assert "known applications, pending, held and dead entries, and rows that cannot be reported" in unknown.stderr


def test_a_url_that_is_none_is_no_reason_to_stumble(poll: Installation) -> None:
    poll.configure_watch(columns={"status_url": "status_api_url"})
    poll.grant()
    with poll.daemon() as daemon:
        poll.add("hw-1", status_api_url="not a url")
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 1, "the dead letter")
        told = poll.run("explain", "hw-1")

    assert (told.code, "dead letter: NEW" in told.stdout) == (0, True), told.output

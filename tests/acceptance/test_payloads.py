"""The calls to the byte: paths, bodies, headers, dates."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from support.installation import JOB, Installation

DOCUMENTED = """\
{"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
 "jobId": "2022-001-developer", "source": "hellowork.com"}
"""
DOCUMENTED_WITH_AN_OBJECT = """\
{"status": "NEW_STATUS", "eventDate": "2023-01-10T09:00:00.000Z", "created": "2023-01-01T09:00:00.000Z",
 "jobId": "2022-001-developer",
 "source": {"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}}
"""


def test_the_documented_examples_are_reproduced(notify: Installation) -> None:
    notify.ats.execute("ALTER TABLE public.applications ADD origin jsonb, ADD origin_text json")
    origin = '{"sourceTypeId": "DIRECT_SOURCING", "sourceSubTypeId": "ClientId", "sourceId": "CVCatcherWebsite"}'
    of_json = {**notify.document["watches"]["applications"]["columns"], "source": "origin_text"}
    of_json["application_id"] = {"sql": "'json-' || t.hellowork_id", "depends_on": ["hellowork_id"]}
    notify.configure(watches={"with_json": {**notify.document["watches"]["applications"], "columns": of_json}})
    notify.add("hw-1", "OLD", "2022-001-developer", source="hellowork.com", origin_text=origin)
    notify.install()
    with notify.daemon() as daemon:
        notify.change("hw-1", status="NEW_STATUS", updated_at="2023-01-10 10:00:00+01:00")
        notify.settle(daemon)
        daemon.wait_until(lambda: {"hw-1", "json-hw-1"} <= notify.hellowork.state.keys(), "both watches' calls")
    (call,) = notify.hellowork.calls_for("hw-1")
    assert "".join(call.raw.split()) == "".join(DOCUMENTED.split())
    assert call.method == "POST"
    assert call.path == "/v1/applications/hw-1/status"
    assert call.headers["Content-Type"] == "application/json"
    (call,) = notify.hellowork.calls_for("json-hw-1")
    assert "".join(call.raw.split()) == "".join(DOCUMENTED_WITH_AN_OBJECT.split())
    assert list(json.loads(call.raw)) == ["status", "eventDate", "created", "jobId", "source"]


def test_what_is_optional_is_left_out_and_what_is_odd_survives(notify: Installation) -> None:
    notify.ats.execute("ALTER TABLE public.applications ADD delay_days int, ADD remark jsonb, ADD naive timestamp")
    odd = "id/with ?%#&é😀"
    label = 'Entretien "RH" \\ 1ère étape\t😀'
    notify.add("hw-1")
    notify.add(odd)
    notify.configure_watch(
        columns={"event_date": None},
        timezone="Europe/Paris",
        extra={
            "communicationDelay": {"column": "delay_days", "only_for": ["REJECTED"]},
            "remark": "remark",
            "double": {"sql": "t.delay_days * 2", "depends_on": ["delay_days"]},
        },
    )
    notify.configure_watch(columns={"created": "naive"})
    notify.ats.execute("UPDATE public.applications SET naive = '2023-07-01 09:00:00.1239'")
    notify.install()
    with notify.daemon() as daemon:
        before = datetime.now(UTC)
        notify.change("hw-1", status="REJECTED", delay_days=3, updated_at="2001-01-01Z")
        notify.settle(daemon)
        notify.change("hw-1", status="HIRED", remark='{"n": 1.10, "z": [null, "é"]}', delay_days=None)
        notify.change(odd, status=label, job_id="j/é", naive="2023-01-01 00:30:00", source="")
        notify.settle(daemon)
        after = datetime.now(UTC)
    first, second = (_body(call) for call in notify.hellowork.calls_for("hw-1"))
    assert list(first) == ["status", "eventDate", "created", "jobId", "communicationDelay", "double"]
    assert first["communicationDelay"] == 3
    assert first["double"] == 6
    assert first["created"] == "2023-07-01T07:00:00.123Z"
    # Without a column for it, the event's date is the change's own time.
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(first["eventDate"]) <= after
    assert second == {
        "status": "HIRED",
        "eventDate": second["eventDate"],
        "created": "2023-07-01T07:00:00.123Z",
        "jobId": JOB,
        "remark": {"n": 1.1, "z": [None, "é"]},
    }
    (call,) = notify.hellowork.calls_for(odd)
    assert call.path == "/v1/applications/id%2Fwith%20%3F%25%23%26%C3%A9%F0%9F%98%80/status"
    body = _body(call)
    assert body["status"] == label
    assert body["jobId"] == "j/é"
    assert body["created"] == "2022-12-31T23:30:00.000Z"
    assert body["source"] == ""


def _body(call: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(call.raw)
    return body

"""The calls to the byte: paths, bodies, headers, dates."""

import json

from support.installation import Installation

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

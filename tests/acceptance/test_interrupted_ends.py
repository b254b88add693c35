"""The end of an application whose state could not be reported, or was taken back, in between."""

import json
import time
from typing import Any

import pytest
from support.installation import JOB, Installation


def story(ats: Installation, application_id: str) -> dict[str, Any]:
    """What `explain` says of an application."""
    (found,) = json.loads(ats.run("explain", application_id, "--json").stdout)
    return dict(found)


@pytest.mark.parametrize("how", ["key updated", "made again"])
def test_the_deletion_of_a_row_that_could_not_be_reported_under_its_new_key_is_sent_without_a_sweep(
    notify: Installation, how: str
) -> None:
    """A row gets another key while it lacks a status; from then on it is still the application's row."""
    old = notify.add("hw-1", "INTERVIEW")
    with notify.daemon() as daemon:
        if how == "key updated":
            notify.ats.execute("UPDATE public.applications SET id = 9001, status = NULL WHERE id = %s", (old,))
        else:
            with notify.ats.transaction():
                notify.delete("hw-1")
                notify.add("hw-1", None, id=9001)
        daemon.wait_for_event("cannot be reported")
        notify.settle(daemon)
        time.sleep(1.5)  # the grace of the old key
        notify.settle(daemon)
        notify.delete("hw-1")
        notify.settle(daemon)
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("deleted", JOB)], "the call for the deletion")
        assert story(notify, "hw-1")["key"] == ["9001"]


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
@pytest.mark.parametrize("back", ["ignored", "out of scope"])
def test_an_application_whose_first_call_was_under_way_when_it_was_deleted_and_came_back_is_known(
    bare: Installation, back: str
) -> None:
    """HelloWork acknowledges its first status; so its end must be sent, and the same status must not be sent again."""
    bare.configure_watch(
        status={"map": {"NEW": "new"}, "unmapped": "ignore"},
        where={"sql": "t.notes IS DISTINCT FROM 'out'", "depends_on": ["notes"]},
    )
    bare.ats.execute("UPDATE public.applications SET status = 'NEW'")
    bare.configure_watch(status={"map": {f"MARK {i}": f"MARK {i}" for i in range(1, 9)}})
    bare.install()
    with bare.daemon() as daemon:
        bare.hellowork.will({"kind": "delay", "application_id": "hw-1", "seconds": 4})
        bare.add("hw-1", "NEW")
        daemon.wait_until(lambda: bare.hellowork.calls_for("hw-1"), "the first call")
        bare.change("hw-1", deleted_at="2024-05-01 10:00:00Z")
        daemon.wait_until(
            lambda: any(event.get("by") == "deletion" for event in daemon.events_named("queued")),
            "the deletion to be queued",
        )
        bare.change("hw-1", deleted_at=None, **({"status": "PARKED"} if back == "ignored" else {"notes": "out"}))
        bare.settle(daemon)
        daemon.wait_until(
            lambda: any(event["application_id"] == "hw-1" for event in daemon.events_named("sent")), "the answer"
        )
        bare.settle(daemon)
        assert bare.hellowork.told("hw-1") == [("new", JOB)]
        if back == "ignored":
            # `ignore`: no call, except for the deletion of what was reported before.
            bare.delete("hw-1")
            bare.settle(daemon)
            both = [("new", JOB), ("deleted", JOB)]
            daemon.wait_until(lambda: bare.hellowork.told("hw-1") == both, "the call for the deletion")
        else:
            bare.change("hw-1", notes=None)
            bare.settle(daemon)
            time.sleep(1)
            assert bare.hellowork.told("hw-1") == [("new", JOB)]

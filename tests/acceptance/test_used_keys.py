"""A deleted row's key goes to another row: the application is gone all the same. A row that only loses its id stays."""

import json
from typing import Any

from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation


def reuse_key(ats: Installation, key: int, **columns: Any) -> None:
    """Insert a row without an id under a key that another row had."""
    ats.add(None, id=key, **{"created_at": "2024-05-05 10:00:00Z", **columns})


def wait_for_deletion(ats: Installation, daemon: DaemonProcess, application_id: str) -> None:
    daemon.wait_until(lambda: ats.hellowork.told(application_id), "the deletion")
    ats.settle(daemon)
    assert ats.hellowork.told(application_id) == [("deleted", JOB)]


def wait_for_page(daemon: DaemonProcess, application_id: str, text: str) -> None:
    """Wait until the page of an application has a text."""
    daemon.wait_until(lambda: text in daemon.get(f"/application?id={application_id}")[1], text)


LOST = "Its row has lost its application id"


def explained(ats: Installation, application_id: str) -> str:
    return ats.run("explain", application_id).stdout


class TestADeletedRow:
    def test_is_sent_if_its_key_goes_to_a_new_row_in_one_transaction(self, installation: Installation) -> None:
        key = installation.add("hw-1", "interview")
        with installation.daemon() as daemon:
            with installation.ats.transaction():
                installation.delete("hw-1")
                reuse_key(installation, key)
            wait_for_deletion(installation, daemon, "hw-1")
        assert "out of scope" not in explained(installation, "hw-1")


class TestARowThatLosesItsId:
    def test_is_no_deletion_and_explain_says_why(self, installation: Installation) -> None:
        installation.add("hw-1", "interview")
        with installation.daemon() as daemon:
            installation.change("hw-1", hellowork_id=None)
            wait_for_page(daemon, "hw-1", LOST)
            installation.settle(daemon)
            if installation.mode == "poll":
                installation.sweeps(daemon)
            assert installation.hellowork.told("hw-1") == []
        said = explained(installation, "hw-1")
        assert "its row has lost its application id" in said
        assert "out of scope" not in said
        (story,) = json.loads(installation.run("explain", "hw-1", "--json").stdout)
        assert story["lost_its_id"]

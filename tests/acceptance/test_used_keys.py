"""A deleted row's key goes to another row: the application is gone all the same. A row that only loses its id stays."""

import json
from typing import Any

import pytest
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

    def test_is_sent_if_its_key_goes_to_a_new_row_within_the_grace(self, installation: Installation) -> None:
        installation.configure_watch(deletion_grace="5s")
        key = installation.add("hw-1")
        with installation.daemon() as daemon:
            installation.delete("hw-1")
            daemon.wait_for_report(lambda report: report["watches"][0]["suspected_deletions"], "the suspicion")
            reuse_key(installation, key)
            wait_for_deletion(installation, daemon, "hw-1")

    def test_is_sent_if_its_key_went_to_a_new_row_while_the_daemon_was_down(self, installation: Installation) -> None:
        key = installation.add("hw-1")
        with installation.daemon() as daemon:
            installation.settle(daemon)
        installation.delete("hw-1")
        reuse_key(installation, key)
        with installation.daemon() as daemon:
            wait_for_deletion(installation, daemon, "hw-1")

    @pytest.mark.parametrize("mode", ["notify"], indirect=True)
    def test_is_sent_if_its_key_goes_to_a_row_that_says_nothing(self, installation: Installation) -> None:
        """Without a date of creation, or out of scope, the new row is another one as well."""
        installation.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]})
        installation.install()
        undated, unwatched = installation.add("hw-1"), installation.add("hw-2")
        with installation.daemon() as daemon:
            installation.delete("hw-1")
            reuse_key(installation, undated, created_at=None)
            installation.delete("hw-2")
            reuse_key(installation, unwatched, notes="draft")
            wait_for_deletion(installation, daemon, "hw-1")
            wait_for_deletion(installation, daemon, "hw-2")

    def test_that_was_deleted_softly_first_is_one_deletion(self, installation: Installation) -> None:
        key = installation.add("hw-1")
        with installation.daemon() as daemon:
            installation.change("hw-1", deleted_at="2024-01-01")
            wait_for_deletion(installation, daemon, "hw-1")
            installation.delete("hw-1")
            reuse_key(installation, key)
            wait_for_deletion(installation, daemon, "hw-1")


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

    @pytest.mark.parametrize("mode", ["notify"], indirect=True)
    def test_is_watched_again_with_its_id(self, installation: Installation) -> None:
        key = installation.add("hw-1", "interview")
        with installation.daemon() as daemon:
            installation.change("hw-1", hellowork_id=None)
            wait_for_page(daemon, "hw-1", LOST)
            installation.settle(daemon)
            installation.ats.execute("UPDATE applications SET hellowork_id = 'hw-1' WHERE id = %s", [key])
            installation.settle(daemon)
            assert installation.hellowork.told("hw-1") == []
            installation.change("hw-1", status="hired")
            installation.settle(daemon)
            assert installation.hellowork.told("hw-1") == [("hired", JOB)]
        (story,) = json.loads(installation.run("explain", "hw-1", "--json").stdout)
        assert not story["lost_its_id"]

    @pytest.mark.parametrize("mode", ["notify"], indirect=True)
    def test_is_told_from_one_out_of_scope(self, installation: Installation) -> None:
        installation.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]})
        installation.install()
        installation.add("hw-1")
        installation.add("hw-2")
        with installation.daemon() as daemon:
            installation.change("hw-1", hellowork_id=None)
            installation.change("hw-2", notes="draft")
            wait_for_page(daemon, "hw-1", LOST)
            wait_for_page(daemon, "hw-2", "Its row is out of scope")
        assert "its row has lost its application id" in explained(installation, "hw-1")
        assert "its row is out of scope (where): no calls" in explained(installation, "hw-2")

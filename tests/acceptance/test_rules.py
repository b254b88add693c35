"""What the configuration lets through: status map, scope, URLs of rows, first status; rows that cannot be reported."""

import json
import socket
from functools import partial

import pytest
from support.installation import JOB, Installation


def a_variant(installation: Installation, prefix: str, **sections: object) -> dict[str, object]:
    """The watch once more, over the same table, with ids of its own."""
    watch = installation.document["watches"]["applications"]
    column = {"sql": f"'{prefix}-' || t.hellowork_id", "depends_on": ["hellowork_id"]}
    return {**watch, "columns": {**watch["columns"], "application_id": column}, **sections}


def test_labels_are_mapped_sent_ignored_or_refused(notify: Installation) -> None:
    labels = {"Embauché": "hired", "Retenu": "hired", "NEW": "seen_by_recruiter"}
    notify.add("hw-1")
    notify.configure(
        watches={
            unmapped: a_variant(notify, unmapped, status={"map": labels, "unmapped": unmapped, "deleted": "gone"})
            for unmapped in ("send", "ignore", "reject")
        }
    )
    notify.install()
    with notify.daemon() as daemon:
        notify.change("hw-1", status="Embauché")
        # A watch that has not read it yet would see the next label alone.
        for unmapped in ("send", "ignore", "reject"):
            daemon.wait_until(partial(notify.hellowork.told, f"{unmapped}-hw-1"), f"the call of {unmapped}")
        notify.settle(daemon)
        notify.change("hw-1", status="Retenu")  # the same to HelloWork
        notify.settle(daemon)
        notify.change("hw-1", status="embauché")  # another label: letters count
        daemon.wait_until(lambda: len(notify.hellowork.told("send-hw-1")) == 2, "the label as it is")
        daemon.wait_for_report(lambda report: sum(w["dead_letters"] for w in report["watches"]) >= 1, "a dead letter")
        notify.settle(daemon)
        assert notify.hellowork.told("send-hw-1") == [("hired", JOB), ("embauché", JOB)]
        assert notify.hellowork.told("ignore-hw-1") == [("hired", JOB)]
        assert notify.hellowork.told("reject-hw-1") == [("hired", JOB)]
        letters = json.loads(notify.run("dead-letters", "list", "--watch", "reject", "--json").stdout)
        (letter,) = [letter for letter in letters if letter["application_id"] == "reject-hw-1"]
        assert letter["watch"] == "reject"
        assert "'embauché' is not in status.map" in letter["reason"]
        notify.change("hw-1", status="NEW")  # a dead letter is replaced by the next change
        notify.settle(daemon)
        daemon.wait_until(
            lambda: notify.hellowork.told("reject-hw-1")[-1:] == [("seen_by_recruiter", JOB)], "the next change"
        )
        notify.delete("hw-1")
        daemon.wait_until(lambda: notify.hellowork.told("ignore-hw-1")[-1:] == [("gone", JOB)], "the deletion")


def test_a_rows_url_is_called_only_if_its_origin_is_allowed(poll: Installation) -> None:
    here = poll.hellowork.url
    port = here.rpartition(":")[2]
    poll.configure(hellowork={"allowed_hosts": [f"localhost:{port}"]})
    poll.configure_watch(columns={"application_id": None, "status_url": "status_api_url"})
    neighbour = socket.create_server(("127.0.0.1", 0))
    neighbour.settimeout(0)
    elsewhere = neighbour.getsockname()[1]
    urls = {
        "hw-same": f"{here}/v1/applications/hw-same/status",
        "hw-local": f"{here.replace('127.0.0.1', 'localhost')}/v1/applications/hw-local/status",
        "hw-port": f"http://127.0.0.1:{elsewhere}/v1/applications/hw-port/status",
        "hw-evil": "https://evil.example/v1/applications/hw-evil/status",
        "hw-plain": "http://evil.example/v1/applications/hw-plain/status",
        "hw-user": "http://127.0.0.1@evil.example/v1/applications/hw-user/status",
        "hw-sentinel": f"{here}/v1/applications/hw-sentinel/status",
    }
    for name, url in urls.items():
        if name != "hw-sentinel":
            poll.add(name, status_api_url=url)
    poll.change("hw-sentinel", status_api_url=urls["hw-sentinel"])
    poll.install()
    with poll.daemon() as daemon:
        for name in urls:
            poll.change(name, status="SEEN")
        poll.settle(daemon)
        assert poll.hellowork.told("hw-same") == [("SEEN", JOB)]
        assert poll.hellowork.told("hw-local") == [("SEEN", JOB)]
        letters = {one["application_id"]: one for one in _dead_letters(poll)}
        assert letters.keys() == {"hw-evil", "hw-plain", "hw-port"}
        assert f"add '127.0.0.1:{elsewhere}' to that list" in letters["hw-port"]["reason"]
        with neighbour, pytest.raises(BlockingIOError):  # nobody has called there
            neighbour.accept()
        assert "evil.example" in letters["hw-evil"]["reason"]
        assert "hellowork.allowed_hosts" in letters["hw-evil"]["reason"]
        assert "https" in letters["hw-plain"]["reason"]
        # A person's retry is no way round.
        assert poll.run("dead-letters", "retry", "hw-evil").code == 0
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 3, "it is dead again")
        told = poll.run("dead-letters", "list")
        assert letters["hw-evil"]["reason"] in told.stdout


def _dead_letters(installation: Installation) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(installation.run("dead-letters", "list", "--json").stdout)
    return listed

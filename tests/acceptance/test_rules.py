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


def test_rows_out_of_scope_and_rows_that_cannot_be_reported_cause_no_call(poll: Installation) -> None:
    where = "t.notes IS DISTINCT FROM 'secret' AND t.job_id NOT LIKE '50%'"
    poll.configure_watch(where=where, last_known_job=False)
    for name in ("leaving", "away", "statusless", "jobless", "dateless"):
        poll.add(f"hw-{name}", notes="secret" if name == "away" else None)
    poll.install()
    with poll.daemon() as daemon:
        poll.change("hw-leaving", notes="secret", status="LEFT")
        poll.change("hw-away", status="UNSEEN")
        poll.delete("hw-away")
        poll.change("hw-statusless", status=None)
        poll.change("hw-jobless", job_id="  ", status="HIRED")
        poll.change("hw-dateless", created_at=None, status="HIRED")
        poll.add("..", "NEW")
        poll.add(" ", "NEW")  # no id at all: not HelloWork's
        daemon.wait_for_report(lambda report: report["watches"][0]["skipped"] == 4, "four rows skipped")
        poll.settle(daemon)
        assert {call.application_id for call in poll.hellowork.calls} == {"hw-sentinel"}
        reasons = {row["application_id"]: row["reason"] for row in daemon.report()["skipped_rows"]}
        assert "status" in reasons["hw-statusless"]
        assert "job" in reasons["hw-jobless"]
        assert "date" in reasons["hw-dateless"]
        shown = poll.run("status").stdout
        assert "hw-statusless" in shown
        assert reasons["hw-statusless"] in shown
        assert reasons["hw-jobless"] in poll.run("explain", "hw-jobless").stdout
        poll.change("hw-dateless", created_at="2023-01-01Z", status="OFFER")
        poll.change("hw-leaving", notes=None)
        poll.settle(daemon)
        assert poll.hellowork.told("hw-dateless") == [("OFFER", JOB)]
        assert poll.hellowork.told("hw-leaving") == [("LEFT", JOB)]
        assert daemon.report()["watches"][0]["skipped"] == 3


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


def test_new_applications_and_the_baseline_can_be_treated_otherwise(notify: Installation) -> None:
    notify.add("hw-old", "OLD")
    notify.configure_watch(first_status="adopt", baseline="send")
    with notify.daemon() as daemon:
        daemon.wait_for_event("2 applications known, 2 calls queued")
        daemon.wait_until(lambda: notify.hellowork.told("hw-old") == [("OLD", JOB)], "the baseline's calls")
        notify.add("hw-new", "FRESH")
        notify.settle(daemon)
        assert notify.hellowork.calls_for("hw-new") == []
        notify.change("hw-new", status="SEEN")
        notify.settle(daemon)
        assert notify.hellowork.told("hw-new") == [("SEEN", JOB)]


def test_a_status_in_another_table_is_followed(notify: Installation) -> None:
    notify.ats.execute("CREATE TABLE public.stages (id int PRIMARY KEY, label text)")
    notify.ats.execute("CREATE TABLE public.rejections (application_id bigint, reason text)")
    notify.ats.execute("INSERT INTO public.stages VALUES (1, 'To sort'), (2, 'Interview')")
    notify.ats.execute("ALTER TABLE public.applications ADD stage_id int NOT NULL DEFAULT 1")
    notify.add("hw-1")
    notify.add("hw-2")
    status = (
        "CASE WHEN EXISTS (SELECT FROM public.rejections r WHERE r.application_id = t.id) THEN 'Refused'"
        " WHEN t.hellowork_id = 'hw-sentinel' THEN t.status"
        " ELSE (SELECT s.label FROM public.stages s WHERE s.id = t.stage_id) END"
    )
    notify.configure_watch(
        columns={"status": {"sql": status, "depends_on": ["id", "stage_id", "status", "hellowork_id"]}},
        related=[{"table": "public.rejections", "key": ["application_id"]}, {"table": "public.stages", "key": []}],
    )
    notify.install()
    with notify.daemon() as daemon:
        notify.change("hw-1", stage_id=2)
        notify.settle(daemon)
        notify.ats.execute(
            "INSERT INTO public.rejections SELECT id FROM public.applications WHERE hellowork_id = 'hw-1'"
        )
        notify.settle(daemon)
        notify.ats.execute("UPDATE public.stages SET label = 'Inbox' WHERE id = 1")
        daemon.wait_until(lambda: notify.hellowork.told("hw-2"), "the renamed label's call")
        assert notify.hellowork.told("hw-1") == [("Interview", JOB), ("Refused", JOB)]
        assert notify.hellowork.told("hw-2") == [("Inbox", JOB)]


def _dead_letters(installation: Installation) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(installation.run("dead-letters", "list", "--json").stdout)
    return listed

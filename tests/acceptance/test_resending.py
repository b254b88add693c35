"""`resend` repeats what is true: it reads the rows first, and sends nothing of an application that no row carries."""

from typing import Any

import pytest
from support.installation import JOB, SENTINEL, Installation
from support.sessions import one

NOT_RESENT = "Nothing is resent: name a watch, and applications with a live row in the acknowledged state, "


def test_it_refuses_an_application_without_a_row(notify: Installation) -> None:
    key = notify.add("hw-1", "interview")
    notify.add("hw-2", "interview")
    notify.add("hw-3", "interview")
    with notify.daemon() as daemon:
        notify.settle(daemon)
    notify.delete("hw-1")
    notify.add(None, id=key, created_at="2024-05-05 10:00:00Z")
    notify.change("hw-2", hellowork_id=None)

    ended = notify.run("resend", "--yes", "hw-1", "hw-2", "hw-3", "hw-4")

    assert ended.code == 1
    assert ended.stdout == "to be sent: applications hw-3\n"
    gone, lost, unknown = ended.stderr.splitlines()
    assert gone.startswith("hw-1 cannot be resent: no live row in scope has its acknowledged state")
    assert lost.startswith("hw-2 cannot be resent: no live row in scope has its acknowledged state")
    assert unknown.startswith("hw-4 cannot be resent: no live row in scope has its acknowledged state")
    assert one(notify.ats, "SELECT count(*) FROM applications") == 4


def test_the_page_refuses_it_too(notify: Installation) -> None:
    notify.configure_watch(deletion_grace="1h")
    notify.add("hw-1", "interview")
    with notify.daemon() as daemon:
        notify.delete("hw-1")
        status, answer = daemon.post("/resend", watch="applications", application_id="hw-1")
        assert (status, answer.startswith(NOT_RESENT)) == (409, True)
        assert daemon.post("/resend", watch="nobody", application_id=SENTINEL)[0] == 409
        assert daemon.post("/resend", watch="applications", application_id=SENTINEL)[0] == 200
        daemon.wait_until(lambda: notify.hellowork.told(SENTINEL), "the call")
        notify.ats.execute("ALTER TABLE applications RENAME TO elsewhere")
        status, answer = daemon.post("/resend", watch="applications", application_id=SENTINEL)
        assert status == 409
        assert "the rows cannot be read" in answer


def test_it_refuses_a_row_that_is_out_of_scope_or_has_changed(notify: Installation) -> None:
    notify.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]})
    notify.install()
    notify.add("hw-left", "interview")
    notify.add("hw-unseen", "interview")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        notify.change("hw-left", notes="no consent")
        notify.settle(daemon)
        notify.ats.execute("SET session_replication_role = replica")
        notify.change("hw-unseen", status="hired")
        notify.ats.execute("RESET session_replication_role")
        assert notify.run("resend", "hw-left", "hw-unseen", "--yes").code == 1
        notify.settle(daemon)
        assert notify.hellowork.told("hw-left") == notify.hellowork.told("hw-unseen") == []


def an_account(customer: str) -> dict[str, Any]:
    return {"headers": {"X-Api-Key": "${HELLOWORK_API_KEY}", "X-Customer": customer}}


@pytest.mark.parametrize("is_by_column", [True, False])
def test_it_has_the_credentials_that_the_application_has_now(notify: Installation, *, is_by_column: bool) -> None:
    notify.ats.execute("ALTER TABLE public.applications ADD tenant text DEFAULT 'default'")
    notify.configure(hellowork={"accounts": {name: an_account(name) for name in ("acme", "beta")}})
    notify.configure_watch(**({"columns": {"account": "tenant"}} if is_by_column else {"account": "acme"}))
    notify.install()
    notify.add("hw-1", "interview", tenant="acme")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        if is_by_column:
            notify.change("hw-1", tenant="beta")
        else:
            del notify.document["hellowork"]["accounts"]["acme"]
            notify.configure_watch(account="beta")
            daemon.reload()
        notify.settle(daemon)
        assert notify.run("resend", "hw-1", "--yes").code == 0
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("interview", JOB)], "the call")
        assert [call.headers["X-Customer"] for call in notify.hellowork.calls_for("hw-1")] == ["beta"]


def test_it_waits_while_the_endpoint_is_paused_that_it_calls_now(notify: Installation) -> None:
    there = notify.hellowork.url.replace("127.0.0.1", "localhost")
    notify.add("hw-1", "interview")
    with notify.daemon() as daemon:
        notify.configure(hellowork={"base_url": there})
        daemon.reload()
        notify.settle(daemon)
        assert notify.run("pause", there).code == 0
        assert notify.run("resend", "hw-1", "--yes").code == 0
        notify.quiet(daemon, pending=1)
        assert notify.hellowork.calls_for("hw-1") == []


def test_a_dead_letter_that_cannot_be_called_is_not_retried_in_silence(notify: Installation) -> None:
    notify.configure_watch(columns={"status_url": "status_api_url"})
    notify.install()
    notify.add("hw-1", status_api_url="garbage")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        notify.change("hw-1", status="SEEN")
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 1, "the dead letter")
        for which in (["hw-1"], ["--all", "--yes"]):
            ended = notify.run("dead-letters", "retry", *which)
            assert (ended.code, ended.stdout) == (1, "")
            assert ended.stderr.startswith("hw-1 has no dead letter that can be called;")

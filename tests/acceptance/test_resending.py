"""`resend` repeats what is true: it reads the rows first, and sends nothing of an application that no row carries."""

from support.installation import SENTINEL, Installation
from support.sessions import one

NOT_RESENT = "Nothing is resent: name a watch and applications with a live row that are neither held nor dead.\n"


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
    assert gone.startswith("hw-1 cannot be resent: no live row has its id")
    assert lost.startswith("hw-2 cannot be resent: no live row has its id")
    assert unknown.startswith("hw-4 cannot be resent: no live row has its id, or it is unknown")
    assert one(notify.ats, "SELECT count(*) FROM applications") == 4


def test_the_page_refuses_it_too(notify: Installation) -> None:
    notify.configure_watch(deletion_grace="1h")
    notify.add("hw-1", "interview")
    with notify.daemon() as daemon:
        notify.delete("hw-1")
        status, answer = daemon.post("/resend", watch="applications", application_id="hw-1")
        assert (status, answer) == (409, NOT_RESENT)
        assert daemon.post("/resend", watch="nobody", application_id=SENTINEL)[0] == 409
        assert daemon.post("/resend", watch="applications", application_id=SENTINEL)[0] == 200
        daemon.wait_until(lambda: notify.hellowork.told(SENTINEL), "the call")
        notify.ats.execute("ALTER TABLE applications RENAME TO elsewhere")
        status, answer = daemon.post("/resend", watch="applications", application_id=SENTINEL)
        assert status == 409
        assert "the rows cannot be read" in answer

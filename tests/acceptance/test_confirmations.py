"""A person decides: what releases, discards or sends again asks on a terminal, and wants `--yes` elsewhere."""

import json
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager

from support.daemon_process import COMMAND, PATIENCE, Finished, environment, run_to_end
from support.forked import start
from support.installation import Installation, plainly
from support.waiting import wait_until


def answer(installation: Installation, answered: str, *arguments: str) -> Finished:
    """Run a command on a terminal, with an answer typed ahead."""
    ours, its = pty.openpty()
    try:
        os.write(ours, answered.encode())
        line = [*COMMAND, "--config", str(installation.config), *arguments]
        return run_to_end(line, installation.variables, stdin=its)
    finally:
        os.close(ours)
        os.close(its)


def change(installation: Installation, status: str) -> None:
    """Change three applications, which are made where need be."""
    if not installation.ats.execute("SELECT FROM public.applications WHERE hellowork_id = 'hw-1'").fetchone():
        for number in (1, 2, 3):
            installation.add(f"hw-{number}")
        installation.run("run", "--once")
    installation.ats.execute("UPDATE public.applications SET status = %s WHERE hellowork_id LIKE 'hw-_'", (status,))
    installation.run("run", "--once")


def test_a_person_is_asked_and_where_there_is_no_terminal_yes_is_wanted(notify: Installation) -> None:
    notify.configure_watch(fuse={"max_changes": 1})
    change(notify, "SEEN")  # of which two are held
    for arguments, what in (
        (("fuse", "release"), "2 × NEW → SEEN will be sent to HelloWork."),
        (("fuse", "discard"), "2 × NEW → SEEN will be taken as acknowledged, without a call."),
        (("resend", "hw-sentinel"), "The present state of these will be sent to HelloWork once more: hw-sentinel"),
    ):
        refused = notify.run(*arguments)
        assert (refused.code, refused.stdout) == (2, ""), arguments
        assert what in plainly(refused)
    assert [group["number"] for group in json.loads(notify.run("fuse", "show", "--json").stdout)["groups"]] == [2]

    declined = answer(notify, "n\n", "fuse", "release")
    assert (declined.code, declined.stdout.strip()) == (1, "")  # input() writes a blank
    assert "2 × NEW → SEEN will be sent to HelloWork. Go on?" in declined.stderr
    accepted = answer(notify, "y\n", "fuse", "release", "--only", "changes")
    assert (accepted.code, accepted.stdout.strip()) == (0, "2 released")
    assert notify.run("fuse", "release", "--only", "deletions").stdout == "0 released\n"  # nothing to ask about
    resent = notify.run("resend", "hw-sentinel", "--yes")
    assert (resent.stdout, resent.stderr) == ("to be sent: applications hw-sentinel\n", "")


@contextmanager
def question(installation: Installation, asked: str, *arguments: str) -> Iterator[None]:
    """A command that asks this, while the question is open; then it is affirmed, and ends with 0."""
    (ours, its), output = pty.openpty(), installation.config.with_name("output")
    try:
        with output.open("w+b") as file:
            line = [*COMMAND, "--config", str(installation.config), *arguments]
            asking = start(line, COMMAND, environment(installation.variables), stdout=file, stderr=file, stdin=its)
            wait_until(lambda: asked in output.read_text(encoding="utf-8"), "the question", PATIENCE)
            yield
            os.write(ours, b"y\n")
            assert asking.wait(PATIENCE) == 0, output.read_text(encoding="utf-8")
    finally:
        os.close(ours)
        os.close(its)


def test_what_changes_while_the_question_is_open_stays_held(notify: Installation) -> None:
    notify.configure_watch(fuse={"max_changes": 1})
    change(notify, "SEEN")  # of which two are held
    with question(notify, "2 × NEW → SEEN will be sent", "fuse", "release"):
        change(notify, "NEW")
        change(notify, "HIRED")

    groups = json.loads(notify.run("fuse", "show", "--json").stdout)["groups"]
    assert ("NEW → HIRED", 2) in [(group["transition"], group["number"]) for group in groups]


def test_a_dead_letter_that_has_changed_while_the_question_is_open_is_no_failure(notify: Installation) -> None:
    notify.configure_watch(columns={"status_url": "status_api_url"})
    notify.install()
    notify.add("hw-1", status_api_url="garbage")
    notify.run("run", "--once")
    notify.change("hw-1", status="SEEN")
    notify.run("run", "--once")
    with question(notify, "1 dead letters will be sent again", "dead-letters", "retry", "--all"):
        notify.change("hw-1", status="HIRED", status_api_url=None)
        notify.run("run", "--once")

    assert [status for status, _ in notify.hellowork.told("hw-1")] == ["HIRED"]

"""A person decides: what releases, discards or sends again asks on a terminal, and wants `--yes` elsewhere."""

import json
import os
import pty

from support.daemon_process import COMMAND, Finished, run_to_end
from support.installation import Installation, plainly


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


def test_what_a_person_did_is_in_the_history_in_the_log_once_and_in_a_metric(notify: Installation) -> None:
    notify.configure_watch(fuse={"max_changes": 1})
    change(notify, "SEEN")  # of which two are held
    julia = {"SUDO_USER": "julia"}
    assert notify.run("pause").code == 0

    with notify.daemon(ready=False) as daemon:
        daemon.wait_for_event("this daemon leads")
        assert notify.run("fuse", "discard", "--yes", variables=julia).code == 0
        assert notify.run("pause").code == 0
        daemon.wait_until(lambda: daemon.events_named("a person acted: pause"), "the pause in the log")
        (discarded,) = daemon.events_named("a person acted: discard")
        assert (discarded["who"].partition(" as ")[0], discarded["count"]) == ("julia", 2)
        assert len(daemon.events_named("a person acted: pause")) == 1, "the other one was done without a daemon"
        assert notify.run("resume", variables=julia).code == 0
        daemon.wait_until(lambda: daemon.events_named("a person acted: resume"), "the end of the pause in the log")
        metrics = daemon.get("/metrics")[1]
        for action, number in (("discard", 1), ("pause", 1), ("resume", 1), ("release", 0)):
            assert f'cdc_sync_human_actions_total{{action="{action}"}} {number}.0' in metrics
        assert daemon.stop() == 0
    (held,) = {e for e in ("hw-2", "hw-3") if "discarded" in notify.run("explain", e).stdout} - {"hw-2"}
    assert "who julia as " in notify.run("explain", held).stdout

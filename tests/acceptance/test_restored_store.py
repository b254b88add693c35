"""A store that was restored from a backup: what HelloWork received since is never followed by an older state."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation

IDS = [f"hw-{number}" for number in range(1, 41)]
"""Enough for a call of an old state to come before all rows are read again."""

INTERVIEW, REJECTED = ("INTERVIEW", JOB), ("REJECTED", JOB)


@pytest.fixture
def backed_up(notify: Installation) -> Installation:
    """An installation with applications that are known."""
    notify.add_many("hw-", len(IDS))
    assert notify.run("run", "--once").code == 0
    return notify


def back_up(installation: Installation) -> Callable[[], None]:
    """Copy the store; returns what restores it."""
    copy = installation.folder / "copy.db"
    assert installation.run("backup", str(copy)).code == 0
    return lambda: _put_back(copy, installation.store)


def _put_back(copy: Path, store: Path) -> None:
    for suffix in ("-wal", "-shm"):
        store.with_name(store.name + suffix).unlink(missing_ok=True)
    shutil.copy(copy, store)


def change_all(installation: Installation, status: str) -> None:
    """The ATS changes all of the applications."""
    installation.ats.execute(
        "UPDATE public.applications SET status = %s, updated_at = clock_timestamp() WHERE hellowork_id = ANY (%s)",
        (status, IDS),
    )


def leave_pending(installation: Installation) -> None:
    """Have an interview for each application in the outbox, while no daemon runs."""
    change_all(installation, "INTERVIEW")
    assert installation.run("pause").code == 0
    installation.run("run", "--once")
    assert installation.run("resume").code == 0


def send_all(installation: Installation) -> None:
    """Send what is pending, also what waits for a retry."""
    with installation.daemon() as daemon:
        installation.settle(daemon)
        assert daemon.stop() == 0


def restored_later(installation: Installation) -> int:
    """A store from before the calls that HelloWork received last; returns the number of calls so far."""
    leave_pending(installation)
    restore = back_up(installation)
    send_all(installation)
    change_all(installation, "REJECTED")
    send_all(installation)
    assert all(installation.hellowork.told(each)[-2:] == [INTERVIEW, REJECTED] for each in IDS)
    restore()
    return len(installation.hellowork.calls)


def states_after(installation: Installation, calls: int) -> set[str]:
    """The states of the applications that HelloWork received after so many calls."""
    later = [call for call in installation.hellowork.calls[calls:] if call.application_id in IDS]
    return {call.body["status"] for call in later if isinstance(call.body, dict)}


def test_no_older_state_is_sent_after_a_newer_one_whatever_crashes(backed_up: Installation) -> None:
    calls = restored_later(backed_up)

    for _ in range(2):
        with backed_up.daemon(ready=False) as daemon:
            daemon.wait_for_event("read")
            daemon.kill()
    with backed_up.daemon() as daemon:
        backed_up.settle(daemon)
        assert daemon.stop() == 0

    assert states_after(backed_up, calls) == {"REJECTED"}


def test_an_application_without_a_row_waits_until_its_deletion_is_confirmed(backed_up: Installation) -> None:
    backed_up.configure_watch(fuse={"max_deletions": len(IDS)})
    calls = restored_later(backed_up)
    backed_up.ats.execute("DELETE FROM public.applications WHERE hellowork_id = ANY (%s)", (IDS,))
    planned = json.loads(backed_up.run("plan", "--json").stdout)
    assert {each["action"] for each in planned if each["application_id"] in IDS} == {"send"}

    with backed_up.daemon() as daemon:
        calls_are(daemon, backed_up, calls)
        assert daemon.stop() == 0

    assert states_after(backed_up, calls) == {"deleted"}


def test_a_pending_deletion_whose_row_came_back_is_not_sent(backed_up: Installation) -> None:
    """Its row has another key now."""
    backed_up.hellowork.will({"kind": "status", "status": 503, "times": None})
    backed_up.delete("hw-1")
    backed_up.run("run", "--once")
    (refused,) = {call.body["status"] for call in backed_up.hellowork.calls_for("hw-1") if isinstance(call.body, dict)}
    assert refused == "deleted"
    calls = len(backed_up.hellowork.calls)
    backed_up.hellowork.will_work()
    backed_up.add("hw-1", "INTERVIEW")

    with backed_up.daemon() as daemon:
        backed_up.settle(daemon)
        assert daemon.stop() == 0

    assert states_after(backed_up, calls) == {"INTERVIEW"}


def calls_are(daemon: DaemonProcess, installation: Installation, calls: int) -> None:
    """Return when HelloWork has received a call for each application after so many calls."""
    daemon.wait_until(lambda: len(installation.hellowork.calls) >= calls + len(IDS), "a call for each application")
    installation.quiet(daemon)

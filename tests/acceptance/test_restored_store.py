"""A store that was restored from a backup: what HelloWork received since is never followed by an older state."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation

IDS = [f"hw-{number}" for number in range(1, 41)]
"""Enough for a call of an old state to come before all rows are read again."""

INTERVIEW, REJECTED = ("INTERVIEW", JOB), ("REJECTED", JOB)


@pytest.fixture(params=["sqlite", "postgres"])
def backed_up(installation: Installation, request: pytest.FixtureRequest) -> Installation:
    """An installation with applications that are known, with a store of either kind."""
    if request.param == "postgres":
        installation.share_store()
    installation.add_many("hw-", len(IDS))
    assert installation.run("run", "--once").code == 0
    return installation


def back_up(installation: Installation) -> Callable[[], None]:
    """Copy the store; returns what restores it."""
    if installation.document["state"].get("backend") != "postgres":
        copy = installation.folder / "copy.db"
        assert installation.run("backup", str(copy)).code == 0
        return lambda: _put_back(copy, installation.store)
    tables = [name for (name,) in installation.ats.execute(_TABLES).fetchall()]
    installation.ats.execute("CREATE SCHEMA saved")
    for table in tables:
        names = sql.Identifier("saved", table), sql.Identifier("cdc_sync", table)
        installation.ats.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(*names))
    return lambda: _copy_back(installation, tables)


_TABLES = """
SELECT relname::text FROM pg_class
 WHERE relnamespace = 'cdc_sync'::regnamespace AND relkind = 'r' AND relname <> 'changes'
"""


def _put_back(copy: Path, store: Path) -> None:
    for suffix in ("-wal", "-shm"):
        store.with_name(store.name + suffix).unlink(missing_ok=True)
    shutil.copy(copy, store)


def _copy_back(installation: Installation, tables: list[str]) -> None:
    with psycopg.connect(installation.dsn) as dba:
        dba.execute("SET session_replication_role = replica")  # rows come in any order
        every = sql.SQL(", ").join(sql.Identifier("cdc_sync", table) for table in tables)
        dba.execute(sql.SQL("TRUNCATE {}").format(every))
        for table in tables:
            names = sql.Identifier("cdc_sync", table), sql.Identifier("saved", table)
            dba.execute(sql.SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE TABLE {}").format(*names))


def change_all(installation: Installation, status: str) -> None:
    """The ATS changes all of the applications."""
    installation.ats.execute(
        "UPDATE public.applications SET status = %s, updated_at = clock_timestamp() WHERE hellowork_id = ANY (%s)",
        (status, IDS),
    )


def leave_pending(installation: Installation, *, attempted: bool) -> None:
    """Have an interview for each application in the outbox, while no daemon runs."""
    change_all(installation, "INTERVIEW")
    if attempted:
        installation.hellowork.will({"kind": "status", "status": 503, "times": None})
        installation.run("run", "--once")
        installation.hellowork.will_work()
        return
    assert installation.run("pause").code == 0
    installation.run("run", "--once")
    assert installation.run("resume").code == 0


def send_all(installation: Installation) -> None:
    """Send what is pending, also what waits for a retry."""
    with installation.daemon() as daemon:
        installation.settle(daemon)
        assert daemon.stop() == 0


def restored_later(installation: Installation, *, attempted: bool = False) -> int:
    """A store from before the calls that HelloWork received last; returns the number of calls so far."""
    leave_pending(installation, attempted=attempted)
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


@pytest.mark.parametrize("attempted", [False, True])
def test_no_older_state_is_sent_after_a_newer_one(backed_up: Installation, *, attempted: bool) -> None:
    calls = restored_later(backed_up, attempted=attempted)

    with backed_up.daemon() as daemon:
        backed_up.settle(daemon)
        assert daemon.stop() == 0

    assert states_after(backed_up, calls) == {"REJECTED"}


def test_neither_is_one_sent_by_a_daemon_that_waits_for_its_turn(backed_up: Installation) -> None:
    if backed_up.document["state"].get("backend") != "postgres":
        pytest.skip("two daemons share a store in PostgreSQL only")
    calls = restored_later(backed_up)

    with backed_up.daemon(ready=False) as one, backed_up.another("second").daemon(ready=False) as other:
        one.wait_until(lambda: len(backed_up.hellowork.calls) >= calls + len(IDS), "the calls")
        backed_up.quiet(one)
        for daemon in (one, other):
            assert daemon.stop() == 0

    assert states_after(backed_up, calls) == {"REJECTED"}


def test_nor_after_a_crash_while_the_rows_are_read_again(backed_up: Installation) -> None:
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


def test_an_application_whose_row_came_back_does_not_wait(backed_up: Installation) -> None:
    """Its deletion is still suspected, from before the end of the daemon."""
    backed_up.configure_watch(deletion_grace="1h", capture={"sweep": "1s"})
    assert backed_up.run("pause").code == 0
    with backed_up.daemon(ready=False) as daemon:
        daemon.wait_for_event("watching")
        backed_up.change("hw-1", status="INTERVIEW")
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 1, "the pending entry")
        backed_up.delete("hw-1")
        daemon.wait_for_report(lambda report: report["watches"][0]["suspected_deletions"] == 1, "the suspicion")
        daemon.kill()
    backed_up.add("hw-1", "INTERVIEW")
    assert backed_up.run("resume").code == 0

    with backed_up.daemon(ready=False) as daemon:
        daemon.wait_until(lambda: backed_up.hellowork.told("hw-1") == [INTERVIEW], "the call", within=30)
        assert daemon.stop() == 0


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


def test_a_pending_deletion_without_a_row_is_sent(backed_up: Installation) -> None:
    backed_up.hellowork.will({"kind": "status", "status": 503, "times": None})
    backed_up.delete("hw-1")
    backed_up.run("run", "--once")
    backed_up.hellowork.will_work()

    with backed_up.daemon(ready=False) as daemon:
        daemon.wait_until(lambda: backed_up.hellowork.told("hw-1")[-1:] == [("deleted", JOB)], "the call", within=30)
        assert daemon.stop() == 0


def test_reading_again_is_no_sweeps_work(backed_up: Installation) -> None:
    """What the start finds is not reported as missed by the capture."""
    leave_pending(backed_up, attempted=False)
    change_all(backed_up, "REJECTED")

    with backed_up.daemon() as daemon:
        backed_up.settle(daemon)
        assert daemon.stop() == 0

    (story,) = json.loads(backed_up.run("explain", "hw-1", "--json").stdout)
    found_by = {event["by"] for event in story["events"] if event["event"] == "queued"}
    assert found_by == {backed_up.mode}, story["events"]


def calls_are(daemon: DaemonProcess, installation: Installation, calls: int) -> None:
    """Return when HelloWork has received a call for each application after so many calls."""
    daemon.wait_until(lambda: len(installation.hellowork.calls) >= calls + len(IDS), "a call for each application")
    installation.quiet(daemon)


def test_a_change_that_was_undone_since_is_cancelled(backed_up: Installation) -> None:
    leave_pending(backed_up, attempted=False)
    change_all(backed_up, "NEW")

    with backed_up.daemon() as daemon:
        backed_up.settle(daemon)
        assert daemon.stop() == 0

    assert states_after(backed_up, 0) == set()


def test_entries_that_a_person_decides_about_stay_as_they_are(backed_up: Installation) -> None:
    backed_up.configure_watch(fuse={"max_changes": 10})
    change_all(backed_up, "INTERVIEW")
    backed_up.hellowork.will({"kind": "status", "status": 400, "times": None})
    backed_up.run("run", "--once")
    backed_up.hellowork.will_work()

    with backed_up.daemon(ready=False) as daemon:
        daemon.wait_for_event("swept")
        (watch,) = daemon.report()["watches"]
        assert daemon.stop() == 0

    assert (watch["held"], watch["dead_letters"]) == (len(IDS) - 10, 10)

"""What the ATS does, and what HelloWork hears of it: every real change once, and nothing else."""

import time
from functools import partial
from typing import Any

import pytest
from support.installation import JOB, Installation


def test_the_first_start_is_silent_and_every_real_change_after_it_is_told(installation: Installation) -> None:
    for name in ("status", "job", "soft", "hard", "both", "moved", "moved-slowly", "still"):
        installation.add(f"hw-{name}")
    nameless = installation.add(None)
    # Long enough for the two statements of a slow move on a busy machine.
    installation.configure_watch(deletion_grace="5s")
    with installation.daemon() as daemon:
        known = daemon.wait_for_event("applications known")
        assert known["event"] == "9 applications known, 0 calls"
        assert not installation.hellowork.calls
        installation.change("hw-status", status="INTERVIEW")
        installation.change("hw-job", job_id="job-2")
        installation.change("hw-both", status="OFFER", job_id="job-3")
        installation.change("hw-soft", deleted_at="2024-05-01 10:00:00Z")
        installation.delete("hw-hard")
        installation.add("hw-new", "APPLIED", "job-9")
        with installation.ats.transaction():
            installation.delete("hw-moved")
            installation.add("hw-moved", job_id="job-5")
        installation.delete("hw-moved-slowly")
        installation.add("hw-moved-slowly", job_id="job-6")
        installation.ats.execute(
            "UPDATE public.applications SET hellowork_id = 'hw-named', updated_at = now() WHERE id = %s", (nameless,)
        )
        daemon.wait_until(lambda: "hw-hard" in installation.hellowork.state, "the hard deletion's call")
        daemon.wait_until(lambda: "hw-soft" in installation.hellowork.state, "the soft deletion's call")
        # New rows of known applications are read once more, which the mark may overtake.
        for name in ("hw-moved", "hw-moved-slowly"):
            daemon.wait_until(partial(installation.hellowork.told, name), f"the call for {name}")
        installation.settle(daemon)
        told = {
            name: installation.hellowork.told(f"hw-{name}")
            for name in ("status", "job", "soft", "hard", "both", "moved", "moved-slowly", "still", "new", "named")
        }
        assert told == {
            "status": [("INTERVIEW", JOB)],
            "job": [("NEW", "job-2")],
            "both": [("OFFER", "job-3")],
            "soft": [("deleted", JOB)],
            "hard": [("deleted", JOB)],
            "moved": [("NEW", "job-5")],
            "moved-slowly": [("NEW", "job-6")],
            "new": [("APPLIED", "job-9")],
            "named": [("NEW", JOB)],
            "still": [],
        }
        (watch,) = daemon.report()["watches"]
        assert watch["known"] == 11
        assert watch["dead_letters"] == watch["held"] == watch["skipped"] == 0
        if watch["mode"] == "notify":
            assert watch["sweep_repairs"] == {}

        # What was deleted comes back.
        installation.change("hw-soft", deleted_at=None)
        installation.add("hw-hard")
        for name in ("hw-soft", "hw-hard"):
            daemon.wait_until(lambda name=name: len(installation.hellowork.told(name)) > 1, f"the next call for {name}")  # type: ignore[misc] # bound
        installation.settle(daemon)
        for name in ("hw-soft", "hw-hard"):
            assert installation.hellowork.told(name) == [("deleted", JOB), ("NEW", JOB)]


def test_what_is_no_change_is_not_told(installation: Installation) -> None:
    for name in ("touched", "cosmetic", "rewritten", "rolled-back", "misclicked", "undone", "merged", "nameless"):
        installation.add(f"hw-{name}", "OPEN" if name == "merged" else "NEW")
    nameless = installation.add(None)
    installation.configure_watch(
        settle={"default": "0s", "rejected": "1h"},
        status={"map": {"REJECTED": "rejected", "OPEN": "seen", "READ": "seen"}},
    )
    installation.install()
    with installation.daemon() as daemon:
        installation.change("hw-touched")
        installation.change("hw-cosmetic", notes="called her", source="elsewhere", created_at="2020-01-01 00:00Z")
        installation.ats.execute("UPDATE public.applications SET status = status, job_id = job_id")
        with installation.ats.transaction(force_rollback=True):
            installation.change("hw-rolled-back", status="HIRED")
            installation.delete("hw-rewritten")
            installation.add("hw-never", "HIRED")
        installation.change("hw-misclicked", status="REJECTED")
        installation.add("hw-misclicked-first", "REJECTED")
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 2, "the mis-clicks waiting")
        installation.change("hw-misclicked", status="NEW")
        installation.change("hw-misclicked-first", status=None)
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 0, "the mis-clicks cancelled")
        with installation.ats.transaction():
            installation.change("hw-undone", status="HIRED")
            installation.change("hw-undone", status="NEW")
        installation.change("hw-merged", status="READ")
        installation.ats.execute(
            "UPDATE public.applications SET status = 'X', updated_at = now() WHERE id = %s", (nameless,)
        )
        with installation.ats.transaction():
            installation.delete("hw-rewritten")
            installation.add("hw-rewritten")
        installation.settle(daemon)
        if daemon.report()["watches"][0]["mode"] == "poll":
            installation.sweeps(daemon)
            installation.settle(daemon)
        assert {call.application_id for call in installation.hellowork.calls} == {"hw-sentinel"}
        assert daemon.stop() == 0
    explained = installation.run("explain", "hw-misclicked")
    assert explained.code == 0
    assert "cancelled" in explained.stdout


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_each_absence_has_a_grace_of_its_own(installation: Installation) -> None:
    installation.configure_watch(deletion_grace="6s")
    installation.add("hw-1")
    with installation.daemon() as daemon:
        installation.settle(daemon)
        for absent in (0.5, 2):
            installation.delete("hw-1")
            daemon.wait_for_report(lambda report: report["watches"][0]["suspected_deletions"] == 1, "the suspicion")
            time.sleep(absent)
            installation.add("hw-1")
            daemon.wait_for_report(lambda report: report["watches"][0]["suspected_deletions"] == 0, "its end")
            time.sleep(4.5 - absent)  # so the second absence lasts until the first one's grace is over
        installation.settle(daemon)
        assert installation.hellowork.told("hw-1") == []


@pytest.mark.parametrize("back", [{"status": None}, {"notes": "out"}])
def test_a_row_that_is_back_without_a_call_takes_a_failing_deletion_back(
    installation: Installation, back: dict[str, Any]
) -> None:
    installation.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]})
    installation.install()
    with installation.daemon() as daemon:
        installation.hellowork.will({"kind": "status", "status": 500, "application_id": "hw-1", "times": None})
        installation.add("hw-1")
        daemon.wait_until(lambda: installation.hellowork.calls_for("hw-1"), "the call")
        installation.delete("hw-1")
        daemon.wait_until(lambda: statuses_of(installation, "hw-1")[-1] == "deleted", "the deletion's call")
        installation.add("hw-1", **back)
        installation.settle(daemon)
        installation.hellowork.will_work()
        assert installation.hellowork.told("hw-1") == []


def statuses_of(installation: Installation, application_id: str) -> list[str]:
    """What was called, whatever the answers."""
    return [call.body["status"] for call in installation.hellowork.calls_for(application_id)]  # type: ignore[index]


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_a_live_row_out_of_scope_is_not_suspected_by_each_sweep(installation: Installation) -> None:
    installation.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]}, capture={"sweep": "1s"})
    installation.install()
    key = installation.add("hw-1")
    with installation.daemon() as daemon:
        installation.settle(daemon)
        installation.add("hw-1", notes="archived")
        update = "UPDATE applications SET deleted_at = now(), updated_at = now() WHERE id = %s"
        installation.ats.execute(update, [key])
        installation.settle(daemon)
        installation.sweeps(daemon)
        before = len(daemon.events_named("swept"))
        installation.sweeps(daemon, 3)
        assert not any(sweep["repaired"] for sweep in daemon.events_named("swept")[before:])
        assert installation.hellowork.told("hw-1") == []


def test_a_row_that_cannot_be_reported_takes_back_its_applications_deletion(notify: Installation) -> None:
    notify.add("hw-back")
    with notify.daemon() as daemon:
        notify.run("pause")
        notify.delete("hw-back")
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 1, "the pending deletion")
        notify.add("hw-back", status=None)
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 0, "the end of it")
        notify.run("resume")
        notify.settle(daemon)
        assert not notify.hellowork.told("hw-back")

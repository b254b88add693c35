"""Ends in order, and at once: nothing is lost, and nothing is sent that did not happen. See `make torture`, too."""

import signal
import sqlite3
from contextlib import closing

from support.installation import JOB, Installation


def test_what_changes_while_the_daemon_is_away_is_told_when_it_is_back(installation: Installation) -> None:
    for name in ("changed", "deleted", "undone", "moved", "still"):
        installation.add(f"hw-{name}")
    with installation.daemon() as daemon:
        assert daemon.stop() == 0
    installation.change("hw-changed", status="ONE")
    installation.change("hw-changed", status="TWO")
    installation.delete("hw-deleted")
    installation.change("hw-undone", status="HIRED")
    installation.change("hw-undone", status="NEW")
    installation.delete("hw-moved")
    installation.add("hw-moved", job_id="job-2")
    installation.add("hw-new", "APPLIED")
    with installation.daemon() as daemon:
        daemon.wait_until(lambda: "hw-deleted" in installation.hellowork.state, "the deletion's call")
        installation.settle(daemon)
        names = ("changed", "deleted", "undone", "moved", "still", "new")
        assert {name: installation.hellowork.told(f"hw-{name}") for name in names} == {
            "changed": [("TWO", JOB)],
            "deleted": [("deleted", JOB)],
            "undone": [],
            "moved": [("NEW", "job-2")],
            "still": [],
            "new": [("APPLIED", JOB)],
        }


def test_a_signal_lets_what_is_in_flight_end(notify: Installation) -> None:
    notify.add("hw-1")
    notify.hellowork.will({"kind": "delay", "seconds": 1, "application_id": "hw-1"})
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the call")
        assert daemon.stop() == 0
        assert daemon.events_named("stopping")[0]["signal"] == "SIGTERM"
        (sent,) = daemon.events_named("sent")
        assert sent["application_id"] == "hw-1"
        assert daemon.events[-1]["event"] == "stopped"
    with notify.daemon() as daemon:
        notify.settle(daemon)
    assert len(notify.hellowork.calls_for("hw-1")) == 1


def test_a_signal_ends_it_while_another_program_keeps_the_store_locked(notify: Installation) -> None:
    notify.add("hw-1")
    with notify.daemon() as daemon, closing(sqlite3.connect(notify.store, isolation_level=None)) as shell:
        notify.settle(daemon)
        shell.execute("BEGIN IMMEDIATE")
        notify.change("hw-1", status="SEEN")
        daemon.wait_for_event("cannot be used: database is locked")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(40) == 0  # systemd's TimeoutStopSec


def test_a_second_signal_ends_it_at_once_and_loses_nothing(notify: Installation) -> None:
    notify.add("hw-1")
    notify.hellowork.will({"kind": "hang", "seconds": 60, "application_id": "hw-1"})
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the call")
        daemon.send_signal(signal.SIGINT)
        daemon.wait_for_event("stopping")
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait() == 128 + signal.SIGINT
    with notify.daemon() as daemon:
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]
    first, second = notify.hellowork.calls_for("hw-1")
    assert first.idempotency_key == second.idempotency_key


def test_an_entry_waits_no_longer_than_until_its_row_is_back(notify: Installation) -> None:
    notify.configure_watch(deletion_grace="1m")
    notify.add("hw-1")
    notify.hellowork.will({"kind": "status", "status": 503, "times": None})
    with notify.daemon(ready=False) as daemon:
        daemon.wait_for_event("watching")
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the call")
        daemon.kill()
    notify.delete("hw-1")
    notify.hellowork.will_work()
    with notify.daemon() as daemon:
        daemon.wait_for_event("swept")
        assert notify.hellowork.told("hw-1") == []
        notify.add("hw-1", "SEEN")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SEEN", JOB)], "the call", within=20)

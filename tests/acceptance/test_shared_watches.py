"""Several daemons on one store capture the watches together: a fair share each, and all of them whoever dies."""

import json
import os
from collections import Counter
from http import HTTPStatus

import psutil
import pytest
from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation

WATCHES = [f"part_{number}" for number in range(6)]
APPLICATIONS = [f"hw-{number}-{application}" for number in range(len(WATCHES)) for application in range(3)]

pytestmark = pytest.mark.timeout(600)  # several daemons, and leases that must lapse

TAKEN_OVER = 60
"""Seconds; a lease is the longest call and ten, here thirteen, and five after it the watches have moved, given time."""


@pytest.fixture
def shared(notify: Installation) -> Installation:
    """Six watches on a shared store, each of its own rows of one table."""
    watch = notify.document["watches"].pop("applications")
    watches = {name: {**watch, "where": f"t.hellowork_id LIKE 'hw-{number}-%'"} for number, name in enumerate(WATCHES)}
    notify.configure(watches=watches, hellowork={"timeout": "1s"})
    notify.install()
    notify.share_store()
    for application in APPLICATIONS:
        notify.add(application)
    return notify


def captors(installation: Installation) -> dict[str, int | None]:
    """Which process captures each watch."""
    report = json.loads(installation.run("status", "--json").stdout)
    return {
        watch["watch"]: watch["captured_by"] and watch["captured_by"]["process"]
        for watch in report["watches"]
        if watch["configured"]
    }


def shares(installation: Installation) -> dict[int | None, int]:
    rows = installation.ats.execute(
        "SELECT d.process FROM cdc_sync.watch w LEFT JOIN cdc_sync.daemon d ON d.id = w.leased_by"
    )
    return dict(Counter(process for (process,) in rows.fetchall()))


def share_out(installation: Installation, *daemons: DaemonProcess, within: float = 150) -> None:
    """Wait until the daemons have equal shares, and all captures run.

    On a busy host one may not take a watch in time; it is then given nothing for a minute.
    """
    fair = {daemon.pid: len(WATCHES) // len(daemons) for daemon in daemons}
    daemons[0].wait_until(lambda: shares(installation) == fair, f"shares {fair}, not {shares(installation)}", within)
    daemons[0].wait_until(lambda: {each.readiness()[0] for each in daemons} == {HTTPStatus.OK}, "readiness", within)


def change_all(installation: Installation, status: str) -> None:
    for application in APPLICATIONS:
        installation.change(application, status=status)


def all_told(installation: Installation, *statuses: str) -> bool:
    """Whether HelloWork was told each of these of every application, in order and nothing else."""
    wanted = [(status, JOB) for status in statuses]
    return all(installation.hellowork.told(application) == wanted for application in APPLICATIONS)


def test_the_watches_are_shared_out_and_follow_the_living(shared: Installation) -> None:
    second, third = shared.another("second"), shared.another("third")
    with shared.daemon() as first, second.daemon(ready=False) as other:
        share_out(shared, first, other)
        assert Counter(captors(shared).values()) == {first.pid: 3, other.pid: 3}
        assert f"{first.pid} on {os.uname().nodename}" in shared.run("status").stdout
        change_all(shared, "SEEN")
        first.wait_until(lambda: all_told(shared, "SEEN"), "all calls of the first change")

        first.kill()
        change_all(shared, "INVITED")
        other.wait_until(lambda: shares(shared) == {other.pid: 6}, "the survivor to have all", TAKEN_OVER)
        other.wait_until(lambda: all_told(shared, "SEEN", "INVITED"), "all calls of the second change")

        with third.daemon(ready=False) as joined:
            share_out(shared, other, joined)
            change_all(shared, "HIRED")
            other.wait_until(lambda: all_told(shared, "SEEN", "INVITED", "HIRED"), "all calls of the third change")
            assert joined.stop() == 0
            other.wait_until(lambda: shares(shared) == {other.pid: 6}, "it to have all again", 10)
        change_all(shared, "REJECTED")
        other.wait_until(lambda: all_told(shared, "SEEN", "INVITED", "HIRED", "REJECTED"), "all calls of the last one")
        shared.quiet(other)
        assert other.stop() == 0


def test_a_daemon_that_is_stopped_loses_its_watches_soon_after_its_lease(shared: Installation) -> None:
    second = shared.another("second")
    with shared.daemon() as first, second.daemon(ready=False) as other:
        share_out(shared, first, other)
        psutil.Process(first.pid).suspend()
        other.wait_until(lambda: shares(shared) == {other.pid: 6}, "the other to have all", TAKEN_OVER)
        change_all(shared, "SEEN")
        other.wait_until(lambda: all_told(shared, "SEEN"), "all calls")
        psutil.Process(first.pid).resume()
        share_out(shared, first, other)
        change_all(shared, "HIRED")
        other.wait_until(lambda: all_told(shared, "SEEN", "HIRED"), "all calls of the second change")


def test_what_one_daemon_does_not_have_the_other_captures_beyond_its_share(shared: Installation) -> None:
    second = shared.another("second")
    second.document = {**second.document, "watches": {WATCHES[0]: second.document["watches"][WATCHES[0]]}}
    second.configure()
    with shared.daemon() as first, second.daemon(ready=False) as other:
        first.wait_until(lambda: shares(shared) == {first.pid: 5, other.pid: 1}, "what it can")
        other.stop()
        first.wait_until(lambda: shares(shared) == {first.pid: 6}, "all")

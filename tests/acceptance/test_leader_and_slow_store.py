"""A store that answers after 20 seconds: the lease ends before a renewal is known. No call begins, nobody dies."""

import time
from collections.abc import Iterator

import pytest
from support.installation import Installation
from support.numbered_work import NumberedWork, older_after_newer, overlaps
from support.slow_path import SlowPath, slow_path_to

pytestmark = pytest.mark.timeout(240)

LATE = 20.0
LEASE = 13.0
"""Seconds, with `hellowork.timeout` of one: twice that, one for bytes on their way, and ten."""

APPLICATIONS = 8


@pytest.fixture
def path(notify: Installation) -> Iterator[SlowPath]:
    """The way of all daemons to the store."""
    notify.share_store()
    with slow_path_to(notify.variables["ATS_DSN"]) as made:
        notify.variables["STATE_DSN"] = made.dsn
        notify.configure(state={"dsn": "${STATE_DSN}"}, hellowork={"timeout": "1s"})
        yield made


def test_no_call_begins_without_a_lease_and_no_daemon_ends(notify: Installation, path: SlowPath) -> None:
    work = NumberedWork(notify, APPLICATIONS)
    with notify.daemon() as leader, notify.another("second").daemon(ready=False) as standby:
        standby.wait_until_standby()
        with work.going_on():
            leader.wait_until(lambda: len(notify.hellowork.calls) > 10, "calls")
            path.seconds, slow_since = LATE, time.monotonic()
            leader.wait_for_event("lost the lead", within=LEASE + 5)
            seen = len(notify.hellowork.calls)
            leader.wait_until_not_ready("")
            # Long enough for answers to what was asked since.
            leader.wait_until(
                lambda: time.monotonic() > slow_since + 2 * LATE, "two of its answers", within=2 * LATE + 1
            )
            assert len(notify.hellowork.calls) == seen
            assert leader.is_running
            assert standby.is_running
        path.seconds = 0
        leader.wait_until(lambda: work.is_known_to(notify.hellowork), "every change")
        assert standby.is_running
        leader.wait_until(lambda: all(each.readiness()[0] == 200 for each in (leader, standby)), "readiness")
        assert leader.stop() == standby.stop() == 0
    assert older_after_newer(notify.hellowork.calls) == []
    assert overlaps(notify.hellowork.calls) == []

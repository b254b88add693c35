"""A wall clock that is set: no wait begins, ends or lasts longer for it. `make torture-cluster` has several."""

from typing import Any

import pytest
from support.installation import Installation
from support.wall_clock import SettableClock, settable_clock

HOURS = 3600


@pytest.fixture
def clock(notify: Installation) -> SettableClock:
    """The wall clock of whatever the installation runs."""
    made = settable_clock()
    notify.variables |= made.variables
    return made


def is_open(report: dict[str, Any]) -> bool:
    return [endpoint["mode"] for endpoint in report["endpoints"]] == ["open"]


def test_a_clock_that_is_set_while_the_circuit_is_open_silences_nobody(
    notify: Installation, clock: SettableClock
) -> None:
    notify.add("hw-1")
    notify.configure(hellowork={"retry": {"first": "1s", "max": "1s"}})
    with notify.daemon() as daemon:
        for seconds in (-2 * HOURS, 24 * 365 * HOURS):
            notify.hellowork.will({"kind": "status", "status": 503, "times": None})
            notify.change("hw-1", status=f"{seconds}")
            daemon.wait_for_report(is_open, "the open circuit")
            clock.set(seconds)
            tried = len(notify.hellowork.calls_for("hw-1"))
            daemon.wait_until(lambda: len(notify.hellowork.calls_for("hw-1")) > tried, "the next probe")  # noqa: B023
            notify.hellowork.will_work()
            notify.settle(daemon)
        assert [status for status, _ in notify.hellowork.told("hw-1")] == ["-7200", "31536000"]

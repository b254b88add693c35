"""Wall clocks that are set, and hosts whose clocks differ: no wait begins, ends or lasts longer for it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from support.installation import Installation
from support.wall_clock import SettableClock, settable_clock

HOURS = 3600

BACK_AND_FORTH = [-2 * HOURS, 24 * 365 * HOURS]


@pytest.fixture
def clock(notify: Installation) -> SettableClock:
    """The wall clock of whatever the installation runs."""
    made = settable_clock()
    notify.variables |= made.variables
    return made


def endpoint_is(mode: str) -> Callable[[dict[str, object]], bool]:
    return lambda report: [endpoint["mode"] for endpoint in report["endpoints"]] == [mode]  # type: ignore[attr-defined]


class TestOneDaemon:
    @pytest.mark.parametrize("seconds", BACK_AND_FORTH)
    def test_a_clock_that_is_set_while_the_circuit_is_open_silences_nobody(
        self, notify: Installation, clock: SettableClock, seconds: int
    ) -> None:
        notify.add("hw-1")
        notify.configure(hellowork={"retry": {"first": "1s", "max": "3s"}})
        with notify.daemon() as daemon:
            notify.hellowork.will({"kind": "status", "status": 503, "times": None})
            notify.change("hw-1", status="SEEN")
            daemon.wait_for_report(endpoint_is("open"), "the open circuit")
            clock.set(seconds)
            tried = len(notify.hellowork.calls_for("hw-1"))
            daemon.wait_until(lambda: len(notify.hellowork.calls_for("hw-1")) > tried, "the next probe")
            notify.hellowork.will_work()
            daemon.wait_until(lambda: notify.hellowork.told("hw-1"), "the call")
            notify.settle(daemon)
            assert daemon.stop() == 0

    def test_a_due_time_that_only_a_wrong_clock_can_have_set_is_none(self, notify: Installation) -> None:
        notify.add("hw-1")
        notify.configure(hellowork={"retry": {"first": "1s", "max": "3s"}})
        with notify.daemon() as daemon:
            notify.hellowork.will({"kind": "status", "status": 503, "times": None})
            notify.change("hw-1", status="SEEN")
            daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the first call")
            assert daemon.stop() == 0
        with closing(sqlite3.connect(notify.store)) as store, store:
            assert store.execute("UPDATE outbox SET due_at = due_at + 31536000000").rowcount == 1
        notify.hellowork.will_work()
        with notify.daemon() as daemon:
            daemon.wait_until(lambda: notify.hellowork.told("hw-1"), "the call")

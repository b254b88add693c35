"""Wall clocks that are set, and hosts whose clocks differ: no wait begins, ends or lasts longer for it."""

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from support.installation import Installation
from support.wall_clock import SettableClock, settable_clock

MINUTES, HOURS = 60, 3600

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

    def test_a_restart_with_a_clock_that_was_set_back_goes_on_where_it_was(
        self, notify: Installation, clock: SettableClock
    ) -> None:
        notify.add("hw-1")
        notify.configure(hellowork={"retry": {"first": "2s", "max": "4s"}})
        with notify.daemon() as daemon:
            notify.hellowork.will({"kind": "status", "status": 503, "times": None})
            notify.change("hw-1", status="SEEN")
            daemon.wait_for_report(endpoint_is("open"), "the open circuit")
            daemon.kill()
        clock.set(-20 * MINUTES)
        notify.hellowork.will_work()
        with notify.daemon() as daemon:
            daemon.wait_until(lambda: notify.hellowork.told("hw-1"), "the call")
            assert daemon.stop() == 0

    def test_one_404_before_and_one_after_a_clock_is_set_forward_give_nothing_up(
        self, notify: Installation, clock: SettableClock
    ) -> None:
        notify.add("hw-1")
        with notify.daemon() as daemon:
            notify.hellowork.will({"kind": "status", "status": 404, "times": None})
            notify.change("hw-1", status="SEEN")
            daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the first 404")
            clock.set(HOURS)
            tried = len(notify.hellowork.calls_for("hw-1"))
            daemon.wait_until(lambda: len(notify.hellowork.calls_for("hw-1")) > tried + 2, "more tries")
            daemon.kill()
        clock.set(3 * HOURS)
        with notify.daemon() as daemon:
            tried = len(notify.hellowork.calls_for("hw-1"))
            daemon.wait_until(lambda: len(notify.hellowork.calls_for("hw-1")) > tried + 2, "more tries")
            assert not daemon.events_named("given up")
            notify.hellowork.will_work()
            daemon.wait_until(lambda: notify.hellowork.told("hw-1"), "the call")
            assert daemon.stop() == 0

    def test_a_deletion_is_confirmed_in_its_time_by_a_clock_that_is_set_back(
        self, notify: Installation, clock: SettableClock
    ) -> None:
        notify.add("hw-1")
        notify.configure_watch(deletion_grace="5s")
        with notify.daemon() as daemon:
            notify.delete("hw-1")
            daemon.wait_for_report(lambda report: report["watches"][0]["suspected_deletions"], "the suspicion")
            clock.set(-50)
            daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the deletion", within=40)
            assert daemon.stop() == 0

    def test_people_read_the_clock_as_it_is_now(self, notify: Installation, clock: SettableClock) -> None:
        notify.add("hw-1")
        with notify.daemon() as daemon:
            clock.set(-2 * HOURS)
            said = daemon.wait_for_event("clock was set")
            assert -7205 < said["ahead_seconds"] < -7195
            notify.change("hw-1", status="SEEN")
            notify.settle(daemon)
            assert notify.run("resend", "hw-1", "--yes").code == 0
            daemon.wait_until(lambda: len(notify.hellowork.told("hw-1")) == 2, "the call")
            assert daemon.stop() == 0
        two_hours_ago = datetime.fromtimestamp(time.time() - 2 * HOURS, UTC)
        told = notify.run("explain", "hw-1").stdout
        assert told.count(two_hours_ago.strftime("%Y-%m-%d")) >= 5
        assert "acknowledged" in told
        # The request has the ATS's date.
        ours = "\n".join(line for line in told.splitlines() if "eventDate" not in line)
        assert datetime.now(UTC).strftime("T%H:") not in ours


@pytest.fixture
def shared(notify: Installation) -> Installation:
    notify.share_store()
    notify.configure(hellowork={"timeout": "2s"})
    return notify


def living_by(of: Installation, seconds: int) -> SettableClock:
    """Let what an installation runs live by another clock than everybody else."""
    clock = settable_clock(seconds)
    of.variables = {**of.variables, **clock.variables}
    return clock


class TestSeveralDaemons:
    @pytest.mark.parametrize("seconds", [10 * MINUTES, -10 * MINUTES])
    def test_what_a_daemon_with_another_clock_queued_is_sent_at_once_by_the_next(
        self, shared: Installation, seconds: int
    ) -> None:
        shared.add_many("hw-", 60)
        second = shared.another("second")
        living_by(second, seconds)
        with second.daemon() as skewed:
            assert abs(skewed.wait_for_event("clocks differ")["ahead_seconds"] - seconds) < 5
            skewed.send_signal(signal.SIGTERM)  # in order, so that no claim has to lapse
            shared.hellowork.will({"kind": "status", "status": 503, "times": None})
            assert skewed.wait() == 0
        with second.daemon() as skewed:
            shared.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE hellowork_id LIKE 'hw-%'")
            skewed.wait_for_report(lambda report: report["watches"][0]["pending"] >= 50, "the queue")
            skewed.kill()
        shared.hellowork.will_work()
        with shared.daemon() as daemon:
            daemon.wait_until(
                lambda: all(shared.hellowork.told(f"hw-{number}") for number in range(1, 61)), "every call"
            )
            assert not daemon.events_named("clocks differ")
            assert daemon.stop() == 0

    def test_a_clock_that_differs_while_the_history_is_pruned_is_warned_of_once(self, shared: Installation) -> None:
        with shared.daemon() as daemon:
            shared.settle(daemon)
            assert daemon.stop() == 0
        living_by(shared, 10 * MINUTES)
        with psycopg.connect(shared.dsn) as slow:
            slow.execute("LOCK TABLE cdc_sync.history IN SHARE MODE")
            with shared.daemon() as daemon:
                daemon.wait_for_event("clocks differ")
                daemon.wait_for_event("watching")
                slow.rollback()
                shared.settle(daemon)
                warnings = [event["event"] for event in daemon.events if event["level"] == "warning"]
                assert daemon.stop() == 0
        assert [warning for warning in warnings if "clocks differ" not in warning] == []

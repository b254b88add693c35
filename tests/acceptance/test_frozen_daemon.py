"""A leader that is frozen (SIGSTOP, `docker pause`) in the middle of a transaction, and what others may do about it.

`test_leader_on_hosts.py` has how a standby takes over from it.
"""

import re
import signal
from collections.abc import Iterator

import pytest
from support.daemon_process import DaemonProcess
from support.installation import Installation, a_role
from support.midway import Midway, midway_to

pytestmark = pytest.mark.timeout(300)  # leases that must lapse

TAKEN_OVER = 40.0
"""Seconds. A lease is twice `hellowork.timeout` and eleven: here thirteen. The rest is for a busy machine."""


@pytest.fixture
def shared(notify: Installation) -> Installation:
    """A shared store, and leases that lapse soon."""
    notify.share_store()
    notify.variables["STATE_DSN"] = notify.variables["ATS_DSN"]
    notify.configure(state={"dsn": "${STATE_DSN}"}, hellowork={"timeout": "1s"})
    notify.add_many("hw-", 2)
    return notify


@pytest.fixture
def foreign(shared: Installation) -> Iterator[Installation]:
    """Another daemon, which logs in as another role."""
    with a_role(shared.dsn) as role:
        another = shared.another("foreign")
        another.log_in_as(role)
        yield another


@pytest.fixture
def midway(shared: Installation) -> Iterator[Midway]:
    """The way to the store of the daemon that is frozen."""
    with midway_to(shared.variables["STATE_DSN"]) as midway:
        yield midway


def by_way_of(midway: Midway, installation: Installation) -> Installation:
    """Another daemon, which reaches the store by this way."""
    another = installation.another("midway")
    another.variables = {**installation.variables, "STATE_DSN": midway.dsn}
    return another


def go_on(midway: Midway, daemon: DaemonProcess) -> None:
    daemon.send_signal(signal.SIGCONT)
    midway.let_go()


def received(installation: Installation, application: str) -> list[str]:
    """What HelloWork received of an application, without repetitions."""
    statuses = [status for status, _ in installation.hellowork.told(application)]
    return [status for number, status in enumerate(statuses) if statuses[number - 1 : number] != [status]]


def test_a_daemon_that_is_started_afterwards_goes_on(shared: Installation, midway: Midway) -> None:
    with by_way_of(midway, shared).daemon() as frozen:
        midway.hold("SEEN")
        shared.change("hw-1", status="SEEN")
        midway.wait_until_held()
        frozen.suspend()

        with shared.daemon(ready=False) as other:
            other.wait_until(lambda: received(shared, "hw-1") == ["SEEN"], "the call of what was open", TAKEN_OVER)
            other.wait_until_ready()
            shared.change("hw-1", status="INVITED")
            other.wait_until(lambda: received(shared, "hw-1") == ["SEEN", "INVITED"], "a newer state")
            go_on(midway, frozen)
            frozen.wait_until_ended_or_standby()
            shared.settle(other)
    assert received(shared, "hw-1") == ["SEEN", "INVITED"]


def test_one_that_may_not_take_over_gives_the_reason_and_the_remedy(
    shared: Installation, foreign: Installation, midway: Midway
) -> None:
    with by_way_of(midway, shared).daemon() as frozen, foreign.daemon(ready=False) as other:
        other.wait_until_standby()
        midway.hold("SEEN")
        shared.change("hw-1", status="SEEN")
        midway.wait_until_held()
        frozen.suspend()

        reason = other.wait_until_not_ready("cannot take over")
        assert f"process {frozen.pid} on " in reason
        assert shared.role in reason
        assert other.wait_for_event("cannot take over")["level"] in {"warning", "error"}
        other.wait_for_report(lambda report: "cannot take over" in str(report["conditions"]), "the condition")
        other.wait_for_event("the event loop turns", len(other.events_named("the event loop turns")) + 2)
        assert len(other.events_named("cannot take over")) == 1

        follow_remedy(shared, reason)  # at the store
        follow_remedy(shared, other.wait_until_not_ready("another role holds"))  # at the ATS's database
        other.wait_until(lambda: received(shared, "hw-1") == ["SEEN"], "the call of what was open")
        other.wait_until_ready()
        shared.change("hw-1", status="INVITED")
        other.wait_until(lambda: received(shared, "hw-1") == ["SEEN", "INVITED"], "a newer state")
        go_on(midway, frozen)
        frozen.wait_until_ended_or_standby()
        assert len(other.events_named("cannot take over")) == 1
    assert received(shared, "hw-1") == ["SEEN", "INVITED"]


def test_one_that_may_not_take_over_is_ready_again_when_the_other_goes_on(
    shared: Installation, foreign: Installation, midway: Midway
) -> None:
    with by_way_of(midway, shared).daemon() as frozen, foreign.daemon(ready=False) as other:
        other.wait_until_standby()
        midway.hold("SEEN")
        shared.change("hw-1", status="SEEN")
        midway.wait_until_held()
        frozen.suspend()
        other.wait_until_not_ready("cannot take over")

        go_on(midway, frozen)

        frozen.wait_until_ended_or_standby()
        other.wait_until_ready()
        other.wait_until(lambda: received(shared, "hw-1") == ["SEEN"], "the call of what was open")
        shared.change("hw-1", status="INVITED")
        shared.settle(other)
    assert received(shared, "hw-1") == ["SEEN", "INVITED"]


def follow_remedy(installation: Installation, reason: str) -> None:
    """Do as a superuser what a reason names."""
    statements = re.findall(r"SELECT (?:pg_catalog\.)?pg_terminate_backend\([^;]+", reason)
    assert statements
    for statement in statements:
        installation.ats.execute(statement)

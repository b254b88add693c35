"""Due times run on a clock that nobody sets; people read another one."""

import time as real

import pytest

from cdc_sync import wall_clock
from cdc_sync.store import clock as module
from cdc_sync.store.clock import Clock

NOW = 1_790_000_000_000
HOUR = 3_600_000


class Machine:
    """A machine's two clocks, in place of the module `time`."""

    CLOCK_BOOTTIME = CLOCK_MONOTONIC = real.CLOCK_MONOTONIC

    def __init__(self) -> None:
        self.up = 1_000_000
        self.wall = NOW

    def clock_gettime_ns(self, _: int) -> int:
        return self.up * 1_000_000

    def time_ns(self) -> int:
        return self.wall * 1_000_000

    def pass_by(self, milliseconds: int) -> None:
        self.up += milliseconds
        self.wall += milliseconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(module, "time", machine)
    monkeypatch.setattr(wall_clock, "time", machine)
    return machine


def test_a_wall_clock_that_is_set_moves_what_people_read_and_nothing_else(machine: Machine) -> None:
    clock = Clock(NOW)
    machine.wall -= 2 * HOUR
    machine.pass_by(500)

    assert clock() == NOW + 500
    assert clock.for_people() == NOW + 500 - 2 * HOUR
    assert clock.for_people(NOW) == NOW - 2 * HOUR
    assert clock.skew == -2 * HOUR


def test_small_differences_are_not_worth_a_shift(machine: Machine) -> None:
    clock = Clock(NOW)
    machine.wall += 1_500

    assert clock.shift == 0


@pytest.mark.parametrize("ahead", [-10 * 60_000, 10 * 60_000])
@pytest.mark.usefixtures("machine")
def test_what_a_person_asks_for_is_due_at_once_whatever_clock_the_person_has(ahead: int) -> None:
    clock = Clock(NOW, server=NOW)

    assert clock.due(NOW + ahead) <= clock()


def test_a_slow_answer_is_no_skew(machine: Machine) -> None:
    clock = Clock(NOW, server=NOW)
    before = clock()
    machine.pass_by(5_000)

    clock.compare(NOW + 10, before)

    assert clock.skew == 0


@pytest.mark.parametrize("by", [-2 * HOUR, HOUR])
def test_a_server_s_clock_that_is_set_moves_what_people_read_and_nothing_else(machine: Machine, by: int) -> None:
    clock = Clock(NOW, server=NOW)

    clock.compare(NOW + by, clock())

    assert clock() == NOW
    assert clock.for_people() == NOW + by
    assert clock.skew == -by


def test_a_store_whose_newest_event_is_later_than_its_server_s_clock_goes_on_from_there(machine: Machine) -> None:
    clock = Clock(NOW + HOUR, server=NOW)
    machine.wall += 600_000

    assert clock() == NOW + HOUR
    assert clock.for_people() == NOW
    assert clock.skew == 600_000

"""The clock that decides: it follows the store's, never goes back, and does not take our lateness for the store's."""

import pytest

from cdc_sync.store import clock as module
from cdc_sync.store.clock import TOLERATED, Clock

HOUR = 3_600_000
NOW = 1_700_000_000_000


class Machine:
    """A machine's two clocks."""

    def __init__(self) -> None:
        self.up = 1_000
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
    return machine


def test_a_wall_clock_that_is_set_moves_what_people_read_and_nothing_else(machine: Machine) -> None:
    clock = Clock(NOW - machine.up)
    machine.wall -= 2 * HOUR
    machine.pass_by(500)

    assert clock() == NOW + 500
    assert clock.for_people() == NOW + 500 - 2 * HOUR
    assert clock.for_people(NOW) == NOW - 2 * HOUR
    assert clock.skew == -2 * HOUR


def test_small_differences_are_not_worth_a_shift(machine: Machine) -> None:
    clock = Clock(NOW - machine.up)
    machine.wall += 1_500

    assert clock.shift == 0


@pytest.mark.parametrize("ahead", [-10 * 60_000, 10 * 60_000])
def test_what_a_person_asks_for_is_due_at_once_whatever_clock_the_person_has(machine: Machine, ahead: int) -> None:
    clock = Clock(NOW - machine.up, ahead=0)

    assert clock.due(NOW + ahead) <= clock()


def test_a_slow_answer_is_no_skew(machine: Machine) -> None:
    clock = Clock(NOW - machine.up, ahead=0)
    before = machine.up
    machine.pass_by(5_000)

    assert clock.compare(NOW + 10, 0, before, machine.up) == 0
    assert clock() == NOW + 5_000


def test_a_store_that_is_further_is_followed(machine: Machine) -> None:
    # As after a pause of our virtual machine.
    clock = Clock(NOW - machine.up, ahead=0)

    assert clock.compare(NOW + HOUR, 0, machine.up, machine.up) == 0
    assert clock() == NOW + HOUR


def test_a_store_that_is_a_little_behind_is_followed_without_going_back(machine: Machine) -> None:
    clock = Clock(NOW - machine.up, ahead=0)

    assert clock.compare(NOW - TOLERATED, 0, machine.up, machine.up) == 0
    assert clock() == NOW
    machine.pass_by(TOLERATED + 7)
    assert clock() == NOW + 7


def test_a_store_that_went_back_is_made_up_for_by_the_offset(machine: Machine) -> None:
    clock = Clock(NOW - machine.up, ahead=0)

    missing = clock.compare(NOW - 2 * HOUR, 0, machine.up, machine.up)

    assert missing == 2 * HOUR
    assert clock.compare(NOW - 2 * HOUR, missing, machine.up, machine.up) == 0
    assert clock() == NOW
    assert clock.for_people() == NOW - 2 * HOUR, "people read the store's clock"


def test_skew_is_against_the_store_s_clock_without_the_offset(machine: Machine) -> None:
    clock = Clock(NOW + HOUR - machine.up, ahead=HOUR)
    machine.wall += 600_000

    assert clock.skew == 600_000

"""How often somebody may try tokens."""

import pytest

from cdc_sync.admin.access import FREE, Guesses

ONE, ANOTHER = "192.0.2.1", "192.0.2.2"


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def guesses(time: Time) -> Guesses:
    return Guesses(time)


def guess(guesses: Guesses, peer: str, times: int) -> None:
    """Bring so many wrong tokens, whose turns are waited for by nobody."""
    for _ in range(times):
        guesses.wrong(peer)


def turns(guesses: Guesses, peer: str, times: int) -> list[float | None]:
    """Ask for so many turns at once; None where there was none."""
    return [guesses.wait(peer) for _ in range(times)]


def test_up_to_ten_wrong_tokens_nobody_waits(guesses: Guesses) -> None:
    guess(guesses, ONE, FREE - 1)

    assert turns(guesses, ONE, 100) == [0.0] * 100


def test_then_turns_are_a_second_apart_and_nobody_waits_for_longer_than_ten(guesses: Guesses) -> None:
    guess(guesses, ONE, FREE)

    assert turns(guesses, ONE, 13) == [float(second) for second in range(11)] + [None, None]


def test_a_turn_that_is_over_is_free_for_the_next(guesses: Guesses, time: Time) -> None:
    guess(guesses, ONE, FREE)
    turns(guesses, ONE, 20)
    time.now += 1

    assert turns(guesses, ONE, 2) == [10.0, None]


def test_all_addresses_together_have_four_turns_a_second(guesses: Guesses) -> None:
    for number in range(FREE):
        guesses.wrong(f"192.0.2.{number}")

    assert turns(guesses, "198.51.100.1", 2) == [0.0, 0.25]
    assert turns(guesses, "198.51.100.2", 1) == [0.5]


def test_an_address_that_brought_the_right_token_lately_waits_for_no_other(guesses: Guesses, time: Time) -> None:
    guesses.right(ANOTHER)
    guess(guesses, ONE, 1_000)
    turns(guesses, "198.51.100.1", 100)
    assert turns(guesses, ANOTHER, 3) == [0.0] * 3

    time.now += 600
    guess(guesses, ONE, FREE)
    assert turns(guesses, ANOTHER, 2) == [0.0, 0.25]


def test_the_right_token_ends_it_for_its_address(guesses: Guesses) -> None:
    guess(guesses, ONE, 1_000)
    assert turns(guesses, ONE, 1) == [0.0]
    guesses.right(ONE)

    assert turns(guesses, ONE, 3) == [0.0] * 3


def test_it_is_forgotten_after_ten_quiet_minutes(guesses: Guesses, time: Time) -> None:
    guess(guesses, ONE, 1_000)
    turns(guesses, ONE, 100)
    time.now += 600

    assert turns(guesses, ONE, 3) == [0.0] * 3
    guess(guesses, ONE, FREE - 1)
    assert turns(guesses, ONE, 3) == [0.0] * 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth0"),
        ("", ""),
    ],
)
def test_what_belongs_to_one_neighbour_is_one_address(guesses: Guesses, first: str, second: str) -> None:
    guesses.right(second)  # so that the limit of all together does not hide the one of the address
    guess(guesses, first, FREE)

    assert turns(guesses, second, 2) == [0.0, 1.0]


def test_a_connection_that_is_gone_has_no_address_and_is_limited_too(guesses: Guesses) -> None:
    for _ in range(FREE):
        guesses.wrong(None)

    assert guesses.wait(None) == 0.0
    assert guesses.wait(None) == 1.0


def test_neighbours_are_not_kept_without_end(guesses: Guesses) -> None:
    for number in range(5_000):
        guesses.wrong(f"2001:db8:{number:x}::1")
        guesses.right(f"2001:db9:{number:x}::1")

    assert len(guesses._peers) == len(guesses._right) == 1_000

"""Who captures what, where daemons share a store: fair, sticky, and nobody waits for ever."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.shares import Plan, plan

WATCHES = [f"w{number:02}" for number in range(24)]
DAEMONS = st.integers(1, 5)

Table = dict[int, set[str]]
"""Watches by daemon."""


@st.composite
def tables(draw: st.DrawFn, *, alike: bool) -> tuple[Table, Table, set[str]]:
    """What daemons hold, what they wait for, and what is free; `alike`: each can capture whatever it does not hold."""
    held: Table = {number: set() for number in range(1, draw(DAEMONS) + 1)}
    free = set[str]()
    for watch in WATCHES[: draw(st.integers(0, len(WATCHES)))]:
        holder = draw(st.sampled_from([None, *held]))
        (free if holder is None else held[holder]).add(watch)
    known = free.union(*held.values())
    able = {
        number: known if alike else {each for each in sorted(known) if draw(st.booleans()) or each in held[number]}
        for number in held
    }
    return held, {number: able[number] - held[number] for number in held}, free


def numbers(held: Mapping[int, set[str]]) -> list[int]:
    return [len(watches) for watches in held.values()]


def carried_out(decided: Plan, held: Table, waiting: Table, free: set[str]) -> tuple[Table, Table, set[str]]:
    """The table after everybody has done what was decided."""
    goes = {**decided.takers, **decided.moves}
    after = {
        number: {each for each in watches if each not in decided.moves}
        | {watch for watch, taker in goes.items() if taker == number}
        for number, watches in held.items()
    }
    return after, {number: held[number] | waiting[number] for number in held}, free - decided.takers.keys()


@given(tables(alike=False))
def test_whatever_somebody_can_capture_has_a_taker_and_only_such_a_one(table: tuple[Table, Table, set[str]]) -> None:
    held, waiting, free = table

    decided = plan(held, waiting, free)

    assert decided.takers.keys() == {watch for watch in free if any(watch in each for each in waiting.values())}
    for watch, taker in {**decided.takers, **decided.moves}.items():
        assert watch in waiting[taker]
    assert decided.moves.keys() <= set[str]().union(*held.values())


@given(tables(alike=True))
def test_shares_of_daemons_that_are_alike_differ_by_one_at_most(table: tuple[Table, Table, set[str]]) -> None:
    held, waiting, free = table

    after, _, left = carried_out(plan(held, waiting, free), held, waiting, free)

    assert not left
    assert max(numbers(after)) - min(numbers(after)) <= 1


@given(tables(alike=True))
def test_the_fewest_watches_move(table: tuple[Table, Table, set[str]]) -> None:
    held, waiting, free = table
    filled = {number: len(each) for number, each in held.items()}
    decided = plan(held, waiting, free)
    for taker in decided.takers.values():
        filled[taker] += 1
    share, over = divmod(sum(filled.values()), len(held))
    # Those with the most keep one more than the others.
    fair = [share + (place < over) for place in range(len(held))]

    fewest = sum(max(has - may, 0) for has, may in zip(sorted(filled.values(), reverse=True), fair, strict=True))

    assert len(decided.moves) == fewest


@given(tables(alike=False))
def test_what_was_decided_once_is_not_decided_again(table: tuple[Table, Table, set[str]]) -> None:
    held, waiting, free = table
    for _ in range(len(WATCHES)):
        decided = plan(held, waiting, free)
        if not decided.takers and not decided.moves:
            break
        before = sum(number**2 for number in numbers(held))
        was_full = not decided.takers
        after, _, free = carried_out(decided, held, waiting, free)
        waiting = {number: (waiting[number] | held[number]) - after[number] for number in held}
        held = after
        assert not was_full or sum(number**2 for number in numbers(held)) < before
    assert plan(held, waiting, free).moves == {}


@given(tables(alike=False))
def test_all_daemons_decide_the_same(table: tuple[Table, Table, set[str]]) -> None:
    held, waiting, free = table
    backwards = dict(reversed(held.items())), dict(reversed(waiting.items()))

    assert plan(held, waiting, free) == plan(*backwards, sorted(free, reverse=True))


@given(tables(alike=True), st.sets(st.sampled_from(WATCHES)))
def test_what_is_fixed_stays(table: tuple[Table, Table, set[str]], fixed: set[str]) -> None:
    held, waiting, free = table

    assert not plan(held, waiting, free, fixed).moves.keys() & fixed


def test_one_that_joins_gets_its_share_and_nobody_else_gives_any() -> None:
    held: Table = {1: {"a", "b", "c"}, 2: {"d", "e"}, 3: set()}
    waiting = {number: set("abcde") - watches for number, watches in held.items()}

    assert plan(held, waiting, set()).moves == {"a": 3}


def test_two_that_join_get_different_watches() -> None:
    held: Table = {1: set("abcd"), 2: set(), 3: set()}

    assert plan(held, {2: set("abcd"), 3: set("abcd")}, set()).moves == {"a": 2, "b": 3}


def test_a_difference_of_one_moves_nothing() -> None:
    assert plan({1: {"a", "b"}, 2: {"c"}}, {2: {"a", "b"}}, set()).moves == {}


def test_a_daemon_takes_more_than_its_share_of_what_nobody_else_can_capture() -> None:
    decided = plan({1: {"a", "b"}, 2: set()}, {1: {"c"}}, {"c"})

    assert decided == Plan({"c": 1}, {})


def test_what_few_can_capture_is_given_first() -> None:
    decided = plan({1: set(), 2: set()}, {1: {"a", "b"}, 2: {"a"}}, {"a", "b"})

    assert decided.takers == {"a": 2, "b": 1}

"""The fuse: what it believes, what blows it, and what a clock can do to it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sync.core.diff import Fuse, FusePolicy, blow, count, has_counted

NOW = 1_700_000_000_000
POLICY = FusePolicy(max_changes=3, max_deletions=1, window=1_000)


def after(*entries: tuple[int, bool], policy: FusePolicy = POLICY) -> list[Fuse]:
    """The fuse after each of the entries, each (when, whether it is a deletion)."""
    fuse, states = Fuse(), []
    for at, deletion in entries:
        fuse = count(fuse, policy, NOW + at, deletion=deletion)
        states.append(fuse)
    return states


def test_it_is_the_first_entry_beyond_the_limit_that_blows_it() -> None:
    states = after((0, False), (1, False), (2, False), (3, False))

    assert [state.blown_at for state in states] == [None, None, None, NOW + 3]
    assert states[-1].reason == "more than 3 changes at once"


def test_deletions_have_their_own_lower_limit() -> None:
    states = after((0, False), (1, True), (2, True))

    assert [state.blown_at for state in states] == [None, None, NOW + 2]
    assert states[-1].reason == "more than 1 deletions at once"


def test_deletions_are_changes_too() -> None:
    generous = replace(POLICY, max_deletions=100)

    assert after(*[(0, True)] * 4, policy=generous)[-1].reason == "more than 3 changes at once"


def test_a_limit_of_nothing_holds_everything() -> None:
    assert after((0, False), policy=replace(POLICY, max_changes=0))[0].blown_at == NOW
    assert after((0, True), policy=replace(POLICY, max_deletions=0))[0].blown_at == NOW


@pytest.mark.parametrize(
    ("at", "changes"),
    [(0, 2), (999, 2), (1_000, 1), (10**12, 1), (-1, 1), (-(10**12), 1)],
    ids=["at once", "last moment", "next window", "years later", "clock set back", "clock set back by years"],
)
def test_a_window_ends_with_its_time_or_when_the_clock_was_set_back(at: int, changes: int) -> None:
    first, second = after((0, True), (at, False))

    assert second.changes == changes
    assert second.deletions == (1 if changes == 2 else 0)
    assert second.window_start == (first.window_start if changes == 2 else NOW + at)


def test_a_steady_trickle_never_blows_it() -> None:
    assert after(*((at, False) for at in range(0, 100_000, 334)))[-1].blown_at is None


def test_it_can_be_blown_for_another_reason_and_tells_the_first() -> None:
    blown = blow(Fuse(window_start=NOW, changes=1), NOW + 5, "the map has changed")

    assert blown == Fuse(window_start=NOW, changes=1, blown_at=NOW + 5, reason="the map has changed")
    assert blow(blown, NOW + 9, "something else") == blown


@given(st.lists(st.tuples(st.integers(-(10**13), 10**13), st.booleans()), max_size=20))
def test_a_blown_fuse_stays_as_it_is_whatever_time_it_is(entries: list[tuple[int, bool]]) -> None:
    blown = Fuse(window_start=NOW, changes=4, deletions=0, blown_at=NOW, reason="more than 3 changes at once")
    fuse = blown

    for at, deletion in entries:
        fuse = count(fuse, POLICY, NOW + at, deletion=deletion)

    assert fuse == blown


@given(
    entries=st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60),
    policy=st.builds(FusePolicy, st.integers(0, 10), st.integers(0, 5), st.integers(1, 1_000)),
)
def test_what_passes_within_any_window_is_bounded(entries: list[tuple[int, bool]], policy: FusePolicy) -> None:
    fuse, at, passed = Fuse(), NOW, []
    for wait, deletion in entries:
        at += wait
        fuse = count(fuse, policy, at, deletion=deletion)
        if fuse.blown_at is None:
            passed.append((at, deletion))

    # Windows stand side by side, so any stretch of that length touches two at most.
    for start, _ in passed:
        within = [deletion for when, deletion in passed if start <= when < start + policy.window]
        assert len(within) <= 2 * policy.max_changes
        assert sum(within) <= 2 * policy.max_deletions


@pytest.mark.parametrize(
    ("queued", "now", "counted"),
    [(0, 999, True), (500, 999, True), (-1, 999, False), (500, 1_000, False), (500, -1, False)],
    ids=["with the first", "within", "before it", "when it is over", "clock set back"],
)
def test_an_entry_was_counted_if_it_was_queued_in_the_window_that_is_open(
    queued: int, now: int, *, counted: bool
) -> None:
    fuse = count(Fuse(), POLICY, NOW, deletion=False)

    assert has_counted(fuse, POLICY, NOW + now, NOW + queued) is counted

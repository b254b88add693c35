"""The fuse: what it believes, what blows it, and what a clock can do to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import NOW, a_content, a_known_entry

from cdc_sync.core.fuse import Fuse, blow, count, has_counted
from cdc_sync.core.outbox import Entry
from cdc_sync.core.rows import FusePolicy

POLICY = FusePolicy(max_changes=3, max_deletions=1, window=1_000)


def counted(*entries: tuple[int, bool], policy: FusePolicy = POLICY) -> list[tuple[Fuse, str | None]]:
    """The fuse after each of the entries, each (when, whether it is a deletion); and why the entry is held."""
    fuse, states = Fuse(), []
    for at, deletion in entries:
        fuse, reason = count(fuse, policy, NOW + at, deletion=deletion)
        states.append((fuse, reason))
    return states


def held(*entries: tuple[int, bool], policy: FusePolicy = POLICY) -> list[bool]:
    return [reason is not None for _, reason in counted(*entries, policy=policy)]


def test_it_is_the_first_entry_beyond_the_limit_that_is_held() -> None:
    states = counted((0, False), (1, False), (2, False), (3, False))

    assert [reason for _, reason in states] == [None, None, None, "more than 3 changes at once (fuse.max_changes)"]
    assert [fuse.blown_at for fuse, _ in states] == [None, None, None, NOW + 3]
    assert states[-1][0].reason == "more than 3 changes at once (fuse.max_changes)"


def test_deletions_are_changes_too() -> None:
    generous = POLICY._replace(max_deletions=100)

    assert counted(*[(0, True)] * 4, policy=generous)[-1][1] == "more than 3 changes at once (fuse.max_changes)"


def test_a_blown_deletions_fuse_holds_deletions_and_nothing_else() -> None:
    assert held((0, True), (0, True), (0, True), (0, False), (0, False), (0, True)) == [
        False, True, True, False, False, True,
    ]  # fmt: skip


def test_an_ordinary_change_goes_on_once_a_mass_change_is_over() -> None:
    burst = [(0, False)] * 10

    assert held(*burst, (332, False), (1_000, False)) == [False] * 3 + [True] * 8 + [False]


def test_nothing_of_a_mass_change_that_goes_on_is_let_through() -> None:
    steady = held(*((at, False) for at in range(0, 100_000, 100)))

    assert steady == sorted(steady), "once it holds an entry, it holds each that follows within what one takes to drain"
    assert steady.count(False) < 6


@pytest.mark.parametrize(
    ("at", "changes"),
    [(0, 3), (500, 1.5), (999, 1), (1_000, 1), (10**12, 1), (-1, 1), (-(10**12), 1)],
    ids=["at once", "half a window", "last moment", "a window", "years later", "clock set back", "set back by years"],
)
def test_it_drains_over_the_window_or_when_the_clock_was_set_back(at: int, changes: float) -> None:
    *_, (fuse, _) = counted((0, True), (0, False), (at, False))

    assert fuse.changes == pytest.approx(changes, abs=0.01)
    assert fuse.at == NOW + at


def test_it_can_be_blown_for_another_reason_and_names_the_first() -> None:
    blown = blow(Fuse(at=NOW, changes=1), NOW + 5, "the map has changed")

    assert blown == Fuse(at=NOW, changes=1, blown_at=NOW + 5, reason="the map has changed")
    assert blow(blown, NOW + 9, "something else") == blown


@given(
    entries=st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60),
    policy=st.builds(FusePolicy, st.integers(0, 10), st.integers(0, 5), st.integers(1, 1_000)),
)
def test_what_passes_within_any_stretch_is_bounded(entries: list[tuple[int, bool]], policy: FusePolicy) -> None:
    fuse, at, passed = Fuse(), NOW, []
    for wait, deletion in entries:
        at += wait
        fuse, reason = count(fuse, policy, at, deletion=deletion)
        if reason is None:
            passed.append((at, deletion))

    # What a stretch begins with, and what drains meanwhile.
    for start, _ in passed:
        for end in (at for at, _ in passed if at >= start):
            share = 1 + (end - start) / policy.window
            within = [deletion for when, deletion in passed if start <= when <= end]
            assert len(within) <= policy.max_changes * share + 1e-6
            assert sum(within) <= policy.max_deletions * share + 1e-6


@pytest.mark.parametrize(
    ("queued", "now", "is_counted"),
    [(0, 999, True), (500, 999, True), (500, 1_500, False), (500, -1, False)],
    ids=["long ago", "within", "when it is over", "clock set back"],
)
def test_an_entry_was_counted_if_it_was_enqueued_within_the_last_window(
    queued: int, now: int, *, is_counted: bool
) -> None:
    entry = a_known_entry(a_content(), queued_at=NOW + queued)

    assert has_counted(Fuse(), POLICY, NOW + now, entry) is is_counted


@pytest.mark.parametrize(
    "entry", [None, a_known_entry(a_content(), state="held"), a_known_entry(a_content(), state="dead")]
)
def test_what_is_not_pending_was_not_counted(entry: Entry | None) -> None:
    assert not has_counted(Fuse(), POLICY, NOW, entry)


def test_what_a_person_released_was_not_counted() -> None:
    fuse, content = Fuse(decided_at=NOW), a_content()

    assert not has_counted(fuse, POLICY, NOW + 10, a_known_entry(content, queued_at=NOW - 1))
    assert has_counted(fuse, POLICY, NOW + 10, a_known_entry(content, queued_at=NOW))

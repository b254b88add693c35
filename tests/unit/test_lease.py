"""How long a leader of a shared store may lead, and when a standby knows that its calls have ended."""

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cdc_sync.store.clock import uptime
from cdc_sync.store.lead import Leader
from cdc_sync.store.postgres import leading
from cdc_sync.store.postgres.leading import Lease, _Watching

LONGEST_CALL = 20.0
LENGTH = LONGEST_CALL + 10.0

OURS = Leader.here("")
THEIRS = replace(Leader.here(""), process=7, place="another-boot pid:[1] 1", lease=LENGTH)


def now() -> float:
    return uptime() / 1000


@pytest.fixture
def lease() -> Iterator[Lease]:
    """A lease that was not renewed yet."""
    found = Lease(LONGEST_CALL)
    yield found
    found.end()


class TestLease:
    def test_no_call_begins_before_the_first_renewal(self, lease: Lease) -> None:
        assert not lease.outlasts_a_call()
        assert lease.left == -math.inf

    def test_it_is_counted_from_before_the_renewal_was_sent(self, lease: Lease) -> None:
        lease.renewed(now() - 2.0, LENGTH)

        assert LENGTH - 3.0 - 2.0 - 1.0 < lease.left <= LENGTH - 3.0 - 2.0, "a margin is kept for its end"
        assert lease.outlasts_a_call()

    def test_no_call_begins_that_may_outlast_it(self, lease: Lease) -> None:
        lease.renewed(now() - (LENGTH - 3.0 - LONGEST_CALL) - 0.1, LENGTH)

        assert lease.left > 0
        assert not lease.outlasts_a_call()

    def test_the_process_ends_with_it(self, lease: Lease) -> None:
        lease.renewed(now() - 5.0, LENGTH)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert LENGTH - 5.0 - 1.0 < left <= LENGTH - 5.0
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL, "the kernel ends it: no code of ours has to run"

        lease.end()

        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert not lease.outlasts_a_call()

    def test_a_longer_call_needs_a_longer_lease_from_the_next_renewal_on(self, lease: Lease) -> None:
        lease.renewed(now(), lease.length)
        lease.expect(LONGEST_CALL + 30.0)
        assert lease.length == LENGTH + 30.0
        assert not lease.outlasts_a_call()

        lease.renewed(now(), lease.length)
        assert lease.outlasts_a_call()


class Watched:
    """A row as a standby watches it, by a clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(leading, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.watching = _Watching(LENGTH)

    def has_ended_after(self, seconds: float, row: Leader | None, every: float = 1.0) -> bool:
        """Whether its calls have surely ended when the row was looked at for so long."""
        ends_at = self.now + seconds
        self.watching.see(row, 7)
        while self.now < ends_at:
            self.now = min(self.now + every, ends_at)
            self.watching.see(row, 7)
        return self.watching.has_ended


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


class TestWatching:
    def test_each_renewal_restarts_the_count(self, watched: Watched) -> None:
        assert not watched.has_ended_after(LENGTH - 0.1, THEIRS)
        renewed = replace(THEIRS, beat=1)

        assert not watched.has_ended_after(LENGTH - 0.1, renewed)
        assert watched.has_ended_after(0.1, renewed)

    def test_another_leader_restarts_the_count(self, watched: Watched) -> None:
        watched.has_ended_after(LENGTH, THEIRS)

        assert not watched.has_ended_after(0.0, replace(THEIRS, holder="another"))

    def test_a_standby_that_was_stopped_counts_from_its_next_look(self, watched: Watched) -> None:
        """What was renewed meanwhile, and was cut off since, looks like a row that never changed."""
        assert not watched.has_ended_after(LENGTH - 1.0, THEIRS)
        watched.now += LENGTH

        assert not watched.has_ended_after(LENGTH - 0.1, THEIRS)
        assert watched.has_ended_after(0.1, THEIRS)

    @pytest.mark.parametrize(
        "row",
        [None, replace(THEIRS, stopped=True), replace(OURS, lease=LENGTH), replace(OURS, holder="gone", process=2**22)],
        ids=["nobody has led", "ended in order", "this process", "a process of this host that is gone"],
    )
    def test_nobody_is_waited_for_whose_calls_have_surely_ended(self, watched: Watched, row: Leader | None) -> None:
        watched.watching.see(row, None)

        assert watched.watching.has_ended

    def test_the_end_of_its_session_does_not_restart_the_count_of_a_leaders_calls(self, watched: Watched) -> None:
        assert not watched.has_ended_after(LENGTH - 1.0, THEIRS)
        watched.watching.see(THEIRS, None)
        watched.now += 1.0

        assert watched.watching.has_ended

    @pytest.mark.parametrize("row", [None, replace(THEIRS, stopped=True)], ids=["no row", "a former leader's row"])
    def test_who_holds_the_lock_without_a_row_is_silent_after_a_lease(
        self, watched: Watched, row: Leader | None
    ) -> None:
        watched.watching.see(row, 8)
        watched.has_ended_after(LENGTH - 0.1, row)
        assert watched.watching.both_unchanged_for < watched.watching.lease
        watched.has_ended_after(0.1, row)

        assert watched.watching.both_unchanged_for >= watched.watching.lease

"""The fence against a model of the server: whatever transactions do between and during polls, no row slips through.

The server is `support.transactions`; what the real poll makes of the fence is in `tests/unit/test_poll_orders.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.transactions import ServerModel

from cdc_sync.core.watermark import REMEMBERED, Fence, SnapshotReading, advanced


@dataclass
class Poll:
    """The design's poll: read from the watermark on, then move the watermark to the fence minus `lookback`."""

    server: ServerModel
    lookback: int
    fence: Fence = field(default_factory=Fence)
    watermark: int | None = None
    seen: set[int] = field(default_factory=set)
    instant: int = 0
    xmax: int = 0

    def read_clock(self) -> None:
        self.instant = self.server.clock

    def read_horizon(self) -> None:
        self.xmax = self.server.next_id

    def read_rows(self) -> None:
        """In one snapshot: its xmin, and the rows that it shows."""
        self.seen |= {row for row in self.server.committed if self.watermark is None or self.finds(row)}
        self.fence = advanced(self.fence, SnapshotReading(self.instant, self.server.xmin(), self.xmax))
        if self.fence.instant is not None:
            self.watermark = self.fence.instant - self.lookback

    def finds(self, row: int) -> bool:
        return self.watermark is None or self.server.stamps[row] >= self.watermark

    def whole(self) -> None:
        self.read_clock()
        self.read_horizon()
        self.read_rows()

    @property
    def missed(self) -> set[int]:
        return self.server.committed - self.seen


def test_a_transaction_holds_the_fence_until_it_has_ended() -> None:
    fence = advanced(Fence(), SnapshotReading(instant=10, xmin=4, xmax=5))
    fence = advanced(fence, SnapshotReading(instant=20, xmin=4, xmax=6))
    assert fence.instant is None
    assert advanced(fence, SnapshotReading(instant=30, xmin=5, xmax=7)).instant == 10


@pytest.mark.exhaustive
def test_a_transaction_that_is_open_for_long_costs_bounded_memory_and_little_reading_afterwards() -> None:
    server = ServerModel(clock=0)
    poll = Poll(server, lookback=0)
    begun: dict[str, int] = {}
    server.write("first", stamp=0)
    for number in range(5 * REMEMBERED):
        server.clock += 1
        begun[f"{number}"] = server.clock
        server.write(f"{number}", stamp=server.clock)
        poll.whole()
        assert len(poll.fence.readings) <= REMEMBERED
    server.end("first")

    for name, oldest in begun.items():
        poll.whole()
        if poll.fence.instant is not None:
            needed, read_again = server.clock - oldest, server.clock - poll.fence.instant
            assert needed <= read_again <= 3 * needed + 1
        server.end(name)
    poll.whole()

    assert not poll.missed
    assert poll.fence == Fence((), server.clock)


NAMES = st.sampled_from("abcd")


class Interleaving(RuleBasedStateMachine):
    """Transactions of every kind against polls whose steps they may come between."""

    lookback = 50

    def __init__(self) -> None:
        super().__init__()
        self.server = ServerModel()
        self.poll = Poll(self.server, self.lookback)
        self.steps = self.poll_forever()

    def poll_forever(self) -> Iterator[str]:
        while True:
            self.poll.read_clock()
            yield "clock"
            self.poll.read_horizon()
            yield "horizon"
            self.poll.read_rows()
            self.check()
            yield "rows"

    def check(self) -> None:
        assert not self.poll.missed

    @rule()
    def next_step_of_the_poll(self) -> None:
        next(self.steps)

    @rule()
    def whole_poll(self) -> None:
        while next(self.steps) != "clock":
            pass
        while next(self.steps) != "rows":
            pass

    @rule(ticks=st.integers(1, 200))
    def tick(self, ticks: int) -> None:
        self.server.clock += ticks

    @rule(name=NAMES, behind=st.integers(0, lookback))
    def write(self, name: str, behind: int) -> None:
        """The stamp is the start of the transaction, or an application server's clock, behind its first write."""
        self.server.write(name, stamp=self.server.clock - behind)

    @rule(name=NAMES, commit=st.booleans())
    def end(self, name: str, *, commit: bool) -> None:
        self.server.end(name, commit=commit)

    def teardown(self) -> None:
        for name in "abcd":
            self.server.end(name)
        for _ in range(3):
            self.whole_poll()
        assert not self.poll.missed
        assert self.poll.fence == Fence((), self.server.clock)


class ClockSet(Interleaving):
    """The server's clock is set, back or forward, at most once between two of its readings.

    A row that is written after the clock went back and before the next reading may carry any time since, so `lookback`
    has to cover the time between two polls as well. And a poll that has not noticed yet reads from too late a
    watermark: it is the one after the next reading of the clock that finds the row.
    """

    between_polls = 20
    unread = 0
    was_set = False

    def __init__(self) -> None:
        super().__init__()
        self.committed_at_polls: list[set[int]] = [set(), set()]

    def poll_forever(self) -> Iterator[str]:
        for step in super().poll_forever():
            if step == "clock":
                self.unread, self.was_set = 0, False
            yield step

    def check(self) -> None:
        self.committed_at_polls.append(set(self.server.committed))
        assert self.committed_at_polls.pop(0) <= self.poll.seen

    @rule(ticks=st.integers(1, between_polls))
    def tick(self, ticks: int) -> None:
        while self.unread + ticks > self.between_polls:
            next(self.steps)
        self.unread += ticks
        self.server.clock += ticks

    @rule(name=NAMES, behind=st.integers(0, Interleaving.lookback - between_polls))
    def write(self, name: str, behind: int) -> None:
        self.server.write(name, stamp=self.server.clock - behind)

    @precondition(lambda self: not self.was_set)
    @rule(by=st.integers(-1_000, 1_000))
    def set_clock(self, by: int) -> None:
        self.was_set = True
        self.server.clock += by


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(
    max_examples=settings().max_examples * 3 // 2,
    stateful_step_count=settings().stateful_step_count * 4 // 5,
    deadline=None,
)
TestClockSet = ClockSet.TestCase
TestClockSet.settings = settings(
    max_examples=3 * settings().max_examples, stateful_step_count=settings().stateful_step_count * 4 // 5, deadline=None
)


def test_a_reading_that_takes_the_place_of_the_last_one_leaves_the_earlier_ones() -> None:
    fence = advanced(Fence(), SnapshotReading(instant=100, xmin=10, xmax=11))
    for instant in (200, 300):
        fence = advanced(fence, SnapshotReading(instant, xmin=10, xmax=12))

    assert [reading.instant for reading in fence.readings] == [100, 300]


def test_during_a_long_transaction_a_bounded_number_of_readings_is_kept() -> None:
    fence = Fence()
    for number in range(REMEMBERED + 1):
        fence = advanced(fence, SnapshotReading(number, 3, 4 + number))

    assert 0 < len(fence.readings) <= REMEMBERED

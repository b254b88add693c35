"""The fence against a model of the server: whatever transactions do between and during polls, no row slips through.

The server is `support.transactions`; what the real poll makes of the fence is in `tests/unit/test_poll_orders.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.transactions import Event, ServerModel, interleavings

from cdc_sync.core.watermark import REMEMBERED, Fence, SnapshotReading, look

HorizonOf = Literal["every id handed out", "the snapshot's xmax"]


@dataclass
class Poll:
    """The design's poll: read from the watermark on, then move the watermark to the fence minus `lookback`."""

    server: ServerModel
    lookback: int
    horizon_of: HorizonOf = "every id handed out"
    fence: Fence = field(default_factory=Fence)
    watermark: int | None = None
    seen: set[int] = field(default_factory=set)
    instant: int = 0
    xmax: int = 0

    def read_clock(self) -> None:
        self.instant = self.server.clock

    def read_horizon(self) -> None:
        self.xmax = self.server.next_id if self.horizon_of == "every id handed out" else self.server.xmax()

    def read_rows(self) -> None:
        """In one snapshot: its xmin, and the rows that it shows."""
        self.seen |= {row for row in self.server.committed if self.watermark is None or self.finds(row)}
        self.fence = look(self.fence, SnapshotReading(self.instant, self.server.xmin(), self.xmax))
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


LOOKBACK = 3


def transaction(name: str, end: str) -> tuple[Event, ...]:
    return (("begin", name), ("write", name), (end, name))


def play(events: tuple[Event, ...], horizon_of: HorizonOf = "every id handed out") -> Poll | None:
    """One tick per event; None if a first write came later after its transaction's start than `lookback` covers."""
    server = ServerModel()
    poll = Poll(server, LOOKBACK, horizon_of)
    starts: dict[str, int] = {}
    for what, name in events:
        server.clock += 1
        match what:
            case "begin":
                starts[name] = server.clock
            case "write":
                if server.clock - starts[name] > LOOKBACK and name not in server.writing:
                    return None
                server.write(name, stamp=starts[name])
            case "poll":
                poll.whole()
                assert not poll.missed, events
            case _:
                server.end(name, commit=what == "commit")
    server.clock += 1
    poll.whole()
    assert poll.fence.instant == server.clock, events
    return poll


POLLS = (("poll", ""),) * 3


@pytest.mark.parametrize("end", ["commit", "roll back"])
@pytest.mark.parametrize("writes", [1, 2])
def test_every_interleaving_of_two_transactions_and_three_polls(end: str, writes: int) -> None:
    one, other = transaction("one", "commit"), transaction("other", end)
    threads = ((*one[:1], *one[1:2] * writes, *one[2:]), other, POLLS)

    played = [play(events) for events in interleavings(threads)]

    finished = [poll for poll in played if poll]
    assert len(played) == {1: 1_680, 2: 4_200}[writes]
    assert len(finished) > len(played) // 4
    assert not [poll for poll in finished if poll.missed]


@pytest.mark.exhaustive
def test_every_interleaving_of_three_transactions_and_two_polls() -> None:
    threads = (*(transaction(name, "commit") for name in ("one", "other", "third")), POLLS[:2])
    ordered = (events for events in interleavings(threads) if begins_in_order(events))

    finished = [poll for poll in map(play, ordered) if poll]

    assert len(finished) > 1_000
    assert not [poll for poll in finished if poll.missed]


def begins_in_order(events: tuple[Event, ...]) -> bool:
    """Three alike transactions are one case, whatever their names."""
    return [name for what, name in events if what == "begin"] == ["one", "other", "third"]


def test_a_snapshots_own_xmax_would_let_a_row_slip() -> None:
    # Why the horizon is not simply the snapshot's xmax: a transaction that is still writing may be at or above it.
    server = ServerModel()
    poll = Poll(server, lookback=0, horizon_of="the snapshot's xmax")
    server.write("slow", stamp=server.clock)
    server.clock += 100
    poll.whole()
    server.end("slow")

    poll.whole()

    assert poll.missed == {0}


def test_without_writers_the_fence_is_the_last_look_and_nothing_is_remembered() -> None:
    assert look(Fence(), SnapshotReading(instant=100, xmin=10, xmax=10)) == Fence((), 100)


def test_there_is_no_fence_until_what_was_open_at_the_first_look_has_ended() -> None:
    first = look(Fence(), SnapshotReading(instant=100, xmin=10, xmax=11))
    second = look(first, SnapshotReading(instant=200, xmin=10, xmax=12))
    third = look(second, SnapshotReading(instant=300, xmin=11, xmax=13))

    assert [fence.instant for fence in (first, second, third)] == [None, None, 100]
    assert [reading.instant for reading in third.readings] == [200, 300]


def test_while_nobody_begins_to_write_one_reading_is_remembered_the_latest() -> None:
    fence = Fence()
    for instant in range(100, 200):
        fence = look(fence, SnapshotReading(instant, xmin=10, xmax=11))

    assert fence == Fence((SnapshotReading(199, 10, 11),), None)


def test_a_reading_that_takes_the_place_of_the_last_one_leaves_the_earlier_ones() -> None:
    fence = look(Fence(), SnapshotReading(instant=100, xmin=10, xmax=11))
    for instant in (200, 300):
        fence = look(fence, SnapshotReading(instant, xmin=10, xmax=12))

    assert [reading.instant for reading in fence.readings] == [100, 300]


def test_a_fence_behind_which_somebody_writes_stays_where_it_was() -> None:
    fence = look(Fence(instant=50), SnapshotReading(instant=100, xmin=10, xmax=11))

    assert fence.instant == 50


def test_a_clock_that_was_set_back_takes_the_fence_along() -> None:
    assert look(Fence(instant=500), SnapshotReading(instant=100, xmin=10, xmax=11)).instant == 100


def test_a_clock_that_was_set_back_and_forth_while_somebody_wrote_does_not_hide_the_row() -> None:
    server = ServerModel(clock=1_000)
    poll = Poll(server, lookback=10)
    server.write("slow", stamp=1_000)
    poll.whole()
    server.clock = 500
    server.write("mistimed", stamp=500)
    poll.whole()
    server.clock = 2_000
    poll.whole()
    server.end("slow")
    poll.whole()
    server.end("mistimed")

    poll.whole()

    assert not poll.missed


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


def test_during_a_long_transaction_a_bounded_number_of_readings_is_kept() -> None:
    fence = Fence()
    for number in range(REMEMBERED + 1):
        fence = look(fence, SnapshotReading(number, 3, 4 + number))

    assert 0 < len(fence.readings) <= REMEMBERED


@given(
    st.lists(
        st.builds(
            lambda instant, xmin, open_ids: SnapshotReading(instant, xmin, xmin + open_ids),
            st.integers(0, 1_000),
            st.integers(3, 50),
            st.integers(0, 5),
        )
    )
)
def test_no_sequence_of_readings_puts_the_fence_beyond_the_latest(readings: list[SnapshotReading]) -> None:
    fence = Fence()
    for reading in readings:
        fence = look(fence, reading)
        assert fence.instant is None or fence.instant <= reading.instant
        assert all(known.xmax > reading.xmin for known in fence.readings)
        instants = [known.instant for known in fence.readings]
        assert instants == sorted(instants)


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

"""Whether a server shows all that was seen at another one."""

import json

import pytest

from cdc_sync.ats.connection import LOST_IN_A_CRASH, ReplicaGuard, ReplicaPosition, behind
from cdc_sync.ats.errors import SourceError

PRIMARY = ReplicaPosition(
    "1 10.0.0.1/32 5432", in_recovery=False, xmin=100, xmax=110, open=frozenset({100, 105}), timeline=7
)
REPLICA = ReplicaPosition("2 10.0.0.2/32 5432", in_recovery=True, xmin=110, xmax=110)


def text(address: str | None = "10.0.0.1/32", port: int | None = 5432, snapshot: str = "100:110:100,105") -> str:
    return json.dumps([1, address, port, False, snapshot, 7])


def test_it_is_read_as_the_server_writes_it() -> None:
    assert ReplicaPosition.from_text(text()) == PRIMARY


def test_a_unix_socket_has_no_address_and_a_snapshot_may_list_nothing() -> None:
    found = ReplicaPosition.from_text(text(None, None, "7:7:"))
    assert (found.server, found.open) == ("1 socket", frozenset())


def test_the_same_server_is_never_behind() -> None:
    assert behind(PRIMARY, PRIMARY._replace(xmin=1, xmax=2)) is None


class TestAReplica:
    def test_is_read_once_its_xmin_has_reached_the_xmax_that_was_read(self) -> None:
        assert behind(PRIMARY, REPLICA) is None

    def test_is_behind_while_its_xmax_is_lower(self) -> None:
        assert behind(PRIMARY, REPLICA._replace(xmin=109, xmax=109)) == 0

    @pytest.mark.parametrize("xmax", [110, 200])
    def test_may_have_any_transaction_open_from_its_xmin_on(self, xmax: int) -> None:
        assert behind(PRIMARY, REPLICA._replace(xmin=109, xmax=xmax)) == 109

    def test_may_have_those_open_that_were_open_where_it_was_read(self) -> None:
        read = PRIMARY._replace(xmax=102, open=frozenset({100, 101}))
        assert behind(read, REPLICA._replace(xmin=100, xmax=120)) is None
        assert behind(read._replace(open=frozenset({100})), REPLICA._replace(xmin=100, xmax=120)) == 100


class TestAPrimary:
    """Its snapshots tell exactly which transactions are open."""

    OTHER = PRIMARY._replace(server="3 10.0.0.3/32 5432")

    def test_with_the_same_ones_open_is_read(self) -> None:
        assert behind(PRIMARY, self.OTHER) is None

    def test_with_one_open_whose_outcome_may_have_been_seen_is_behind(self) -> None:
        assert behind(REPLICA, self.OTHER) == 100
        assert behind(PRIMARY, self.OTHER._replace(open=frozenset({103, 104}))) == 103

    def test_with_younger_ones_open_is_read(self) -> None:
        assert behind(PRIMARY, self.OTHER._replace(xmax=115, open=frozenset({110, 112}))) is None

    def test_may_have_lost_its_last_moments_in_a_crash_and_no_more(self) -> None:
        idle = self.OTHER._replace(xmin=110, open=frozenset())
        assert behind(REPLICA._replace(xmax=110 + LOST_IN_A_CRASH), idle) is None
        assert behind(REPLICA._replace(xmax=111 + LOST_IN_A_CRASH), idle) == 0

    def test_that_a_failover_left_behind_is_not_read_however_far_it_is(self) -> None:
        left = self.OTHER._replace(xmin=900, xmax=900, open=frozenset(), timeline=6)
        assert behind(PRIMARY, left) == 0
        assert behind(PRIMARY, left._replace(timeline=8)) is None


@pytest.mark.parametrize("later", ["100:111:100,105", "105:110:105", "100:110:100"])
def test_of_two_snapshots_of_a_server_the_later_one_is_known(later: str) -> None:
    first, second = (f'[1, null, null, false, "{snapshot}", 7]' for snapshot in ("100:110:100,105", later))
    guard = ReplicaGuard()

    for text, known in ((first, first), (second, second), (first, second), (second, second)):
        guard.advance(text)
        assert guard.text == known


def test_a_position_of_the_store_counts_after_another_server_was_met() -> None:
    """That one may have a transaction open which was read as ended, at the same xmax."""
    guard, stored = ReplicaGuard(), text(snapshot="5001:5001:")
    guard.advance(json.dumps([2, "10.0.0.2/32", 5432, True, "100:5001:", 0]))

    guard.load(stored)

    assert guard.text == stored
    with pytest.raises(SourceError) as refused:
        guard.check(json.dumps([2, "10.0.0.2/32", 5432, True, "100:5001:", 0]))
    assert refused.value.code == "server-may-lag"


def test_a_position_of_the_store_is_left_where_reads_have_passed_it() -> None:
    guard, here = ReplicaGuard(), json.dumps([2, "10.0.0.2/32", 5432, True, "6000:6000:", 0])
    guard.advance(here)

    guard.load(text(snapshot="5001:5001:"))

    assert guard.text == here

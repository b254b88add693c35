"""What the triggers cost those who write nothing: a bulk update must not slow or cancel a standby's sessions.

`make bench-trigger` measures the same with rows and seconds enough for a figure; here are the counts that no machine
changes.
"""

from support.binaries import server_binaries
from trigger_cost.bystanders import measure_bystanders
from trigger_cost.cancelled import measure_cancelled
from trigger_cost.options import QUICK


def test_a_bulk_costs_the_others_two_transaction_ids_and_no_lookups() -> None:
    paid = {each.what: each for each in measure_bystanders(server_binaries(), QUICK, lambda _: None)}

    ids = paid["transaction ids of an update of 2,000 rows"]
    assert ids.bare
    assert ids.watched
    assert ids.watched < ids.bare + 20, "autovacuum takes some too, and a row none"
    assert paid["the same: pg_subtrans lookups"].watched == 0


def test_a_standby_cancels_no_lock_for_the_log() -> None:
    locks, reads = measure_cancelled(server_binaries(), 2, lambda _: None, rows=1_000)

    assert (locks.bare, locks.watched) == (0, 0)
    assert reads.bare == reads.watched

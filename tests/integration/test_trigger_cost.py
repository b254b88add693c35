"""The benchmark of the triggers works; what it measures is not asserted, since that is the machine's."""

import json

from support.binaries import server_binaries
from trigger_cost.bystanders import Paid, measure_bystanders
from trigger_cost.cancelled import measure_cancelled
from trigger_cost.cpu import measure_cpu
from trigger_cost.measuring import Sample, figures_of
from trigger_cost.options import QUICK
from trigger_cost.report import as_json, as_markdown, as_table
from trigger_cost.run import bench
from trigger_cost.workloads import BULK_NAME, WORKLOADS, Variant


def test_the_benchmark_runs_every_workload_on_both_kinds_of_trigger() -> None:
    # It counts what was recorded, and fails if that is not what was done.
    facts, figures = bench(server_binaries(), QUICK, lambda _: None)

    names = [workload.name for workload in WORKLOADS]
    assert {(figure.workload, figure.variant) for figure in figures} == {
        (name, variant) for name in [*names, BULK_NAME] for variant in ("rung", "unrung")
    }
    assert all(figure.ratio > 0 for figure in figures)
    assert facts["fsync"] == facts["synchronous_commit"] == "on"


def test_a_bulk_costs_the_others_two_transaction_ids_and_no_lookups() -> None:
    paid = {each.what: each for each in measure_bystanders(server_binaries(), QUICK, lambda _: None)}

    ids = paid["transaction ids of an update of 2,000 rows"]
    assert ids.bare
    assert ids.watched
    assert ids.watched < ids.bare + 20, "autovacuum takes some too, and a row none"
    assert paid["the same: pg_subtrans lookups"].watched == 0
    reads = paid["standby: reads/s after a bulk, a writer open"]
    assert reads.bare
    assert reads.watched
    assert "0.50" in as_table({}, [], [Paid("reads", 200.0, 100.0)])


def test_a_standby_cancels_no_lock_for_the_log() -> None:
    locks, reads = measure_cancelled(server_binaries(), 2, lambda _: None, rows=1_000)

    assert (locks.bare, locks.watched) == (0, 0)
    assert reads.bare == reads.watched


def test_the_cpu_time_of_each_kind_of_statement_is_measured() -> None:
    measured = measure_cpu(server_binaries(), 1, lambda _: None, rows=1_000)

    assert len(measured) == 3
    assert all(each.bare and each.watched for each in measured)


def test_ratios_are_taken_within_a_round_and_their_median_is_held_against_the_target() -> None:
    rounds: list[dict[Variant, Sample]] = [
        {"bare": Sample(1000, 10), "rung": Sample(500, 30), "unrung": Sample(1000, 11)},
        {"bare": Sample(400, 10), "rung": Sample(100, 20), "unrung": Sample(400, 11)},  # a bad moment of the machine
        {"bare": Sample(1000, 10), "rung": Sample(1000, 40), "unrung": Sample(800, 13)},
    ]

    rung, unrung = figures_of("update", 8, "transaction", rounds, {"rung": 1.5, "unrung": None})

    assert (rung.ratio, rung.least, rung.greatest) == (2, 1, 4)
    assert (rung.bare_rate, rung.added, rung.added_cpu) == (1000, 1000, 20)
    assert rung.missed
    assert (unrung.ratio, unrung.least, unrung.greatest) == (1, 1, 1.25)
    assert not unrung.missed

    table = as_table({"cores": 2}, [rung, unrung])
    assert "≤ 1.5 MISSED" in table
    documented = as_markdown([rung, unrung], []).splitlines()
    assert documented[2] == "| update | 8 | notify | 1,000 | 2.00 | 1.00 … 4.00 | ≤ 1.50, missed | 20 µs |"
    assert documented[3] == "| update | 8 | none | 1,000 | 1.00 | 1.00 … 1.25 |  | 1 µs |"
    assert [line["missed"] for line in json.loads(as_json({}, [rung, unrung]))["figures"]] == [True, False]


def test_a_bulk_update_is_held_against_microseconds_per_row() -> None:
    rounds: list[dict[Variant, Sample]] = [
        {"bare": Sample(200_000, 5), "rung": Sample(50_000, 20), "unrung": Sample(100_000, 9)}
    ]

    rung, unrung = figures_of(BULK_NAME, 1, "row", rounds, {"rung": 12, "unrung": 12})

    assert (round(rung.added, 6), rung.missed) == (15, True)
    assert (round(unrung.added, 6), unrung.missed) == (5, False)
    assert "| ≤ 12 µs more per row: 15.0, missed | 15.0 µs per row |" in as_markdown([rung], [])

"""The benchmark works; what it measures is not asserted, since that is the machine's."""

import pytest
from bench.figures import Figure, at_most, beside, ratio_at_least, ratio_at_most
from bench.options import QUICK
from bench.report import as_json, as_table, in_short
from bench.run import bench
from support.binaries import server_binaries


@pytest.mark.timeout(600)
def test_the_benchmark_measures_everything() -> None:
    # Each measure fails unless everything that was changed has been told.
    facts, figures = bench(server_binaries(), QUICK, lambda _: None)

    assert facts["fsync"] == "on"
    found = {figure.measure: figure for figure in figures}
    assert len(found) == len(figures)
    assert all(figure.value > 0 for figure in figures if "kill -9" not in figure.measure)
    assert all(figure.ratio for figure in figures if figure.bare is not None and figure.rounds)
    (lost,) = (figure.value for name, figure in found.items() if name.endswith(": lost"))
    assert lost == 0


def test_a_row_is_measured_alone_at_the_size_that_its_budget_is_about() -> None:
    _, figures = bench(server_binaries(), QUICK, lambda _: None, only=["poll"])

    assert [figure.measure for figure in figures] == ["poll that finds nothing, 700 rows"]


def test_ratios_are_taken_within_a_round_and_their_median_is_held_against_the_budget() -> None:
    rounds = [(20.0, 10.0), (5.0, 10.0), (400.0, 100.0)]

    slow = beside("slow", "ms", rounds, ratio_at_most(1.9, 1.5))
    fast = beside("fast", "calls/s", rounds, ratio_at_least(1.9, 2.5))

    assert (slow.ratio, slow.value, slow.bare) == (2, 20, 10)
    assert slow.missed
    assert not fast.missed
    assert not fast.reached


def test_a_figure_may_have_no_bare_loop_and_a_budget_of_its_own() -> None:
    kept, missed = (Figure("after the restart", "s", value, budget=at_most(5)) for value in (5.0, 5.1))

    assert (kept.missed, kept.reached, missed.missed) == (False, True, True)
    with pytest.raises(AssertionError, match="no ratio"):
        _ = Figure("", "s", 1.0, budget=ratio_at_most(2, 1)).missed


def test_the_table_marks_what_is_missed() -> None:
    figures = [
        beside("latency", "ms", [(3.0, 1.0)], ratio_at_most(2, 1)),
        Figure("memory", "MB", 1234.5, budget=at_most(2000, 1500)),
        Figure("CPU time", "µs", 12.345),
    ]

    table = as_table({"cores": 2}, figures).splitlines()

    assert table[0] == "cores: 2"
    assert [line.replace(" ", "") for line in table[2:]] == [
        "|measure|unit|bareloop|cdc-sync|ratio|least|goal|",
        table[3],
        "|latency|ms|1|3|3.00|ratio≤2MISSED|ratio≤1|",
        "|memory|MB||1,234||≤2000MB|≤1500MBreached|",
        "|CPUtime|µs||12.35||||",
    ]
    assert in_short(figures[0]) == "  latency: 3 ms, bare loop 1, ratio 3.00, least ratio ≤ 2 MISSED, goal ratio ≤ 1"
    assert in_short(figures[2]) == "  CPU time: 12.35 µs"
    assert as_json({}, figures)["figures"][0]["missed"]  # type: ignore[index] # a list of figures

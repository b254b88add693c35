"""The benchmark works; what it measures is not asserted, since that is the machine's."""

import pytest
from bench.figures import Figure, at_least, beside, most, no_more_than
from bench.options import QUICK
from bench.report import as_json, as_table, in_short
from bench.run import bench
from support.binaries import server_binaries


@pytest.mark.timeout(300)
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


def test_ratios_are_taken_within_a_round_and_their_median_is_held_against_the_target() -> None:
    rounds = [(20.0, 10.0), (5.0, 10.0), (400.0, 100.0)]

    slow, fast = beside("slow", "ms", rounds, most(1.9)), beside("fast", "calls/s", rounds, at_least(1.9))

    assert (slow.ratio, slow.value, slow.bare) == (2, 20, 10)
    assert slow.missed
    assert not fast.missed


def test_a_figure_may_have_no_bare_loop_and_a_target_of_its_own() -> None:
    kept, missed = (Figure("after the restart", "s", value, target=no_more_than(5)) for value in (5.0, 5.1))

    assert (kept.missed, missed.missed) == (False, True)
    with pytest.raises(AssertionError, match="no ratio"):
        _ = Figure("", "s", 1.0, target=most(2)).missed


def test_the_table_marks_what_is_missed() -> None:
    figures = [
        beside("latency", "ms", [(3.0, 1.0)], most(2)),
        Figure("memory", "MB", 1234.5, target=no_more_than(70)),
        Figure("CPU time", "µs", 12.345),
    ]

    table = as_table({"cores": 2}, figures).splitlines()

    assert table[0] == "cores: 2"
    assert [line.replace(" ", "") for line in table[2:]] == [
        "|measure|unit|bareloop|cdc-sync|ratio|target|",
        table[3],
        "|latency|ms|1|3|3.00|ratio≤2MISSED|",
        "|memory|MB||1,234||≤70MBMISSED|",
        "|CPUtime|µs||12.35|||",
    ]
    assert in_short(figures[0]) == "  latency: 3 ms, bare loop 1, ratio 3.00, target ratio ≤ 2 MISSED"
    assert in_short(figures[2]) == "  CPU time: 12.35 µs"
    assert as_json({}, figures)["figures"][0]["missed"]  # type: ignore[index] # a list of figures

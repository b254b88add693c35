"""The trace tool works; what it counts is not asserted, since that is the program's."""

import pytest
from support.binaries import server_binaries
from support.store_backends import BACKENDS
from trace_change.__main__ import path, timetable, traced
from trace_change.reading import STEPS, times


@pytest.mark.parametrize("store", BACKENDS)
def test_a_trace_shows_what_a_change_crosses(store: str) -> None:
    traces = list(traced(server_binaries(), 1, store=store, with_functions=True))

    (trace,) = traces
    files = {file for file, _, _ in trace.functions}
    assert {"core/payload.py", "delivery/client.py", "source/changelog.py"} <= files
    assert any(file.startswith(f"store/{store}/") for file in files)
    assert trace.jobs
    assert any("DELETE FROM cdc_sync.changes" in each.text for each in trace.of("ats", around=False))
    assert any("INSERT INTO" in each.text for each in trace.of("store", around=False))
    assert trace.committed < trace.arrived < trace.rests
    assert f"| {'store jobs':40} | {len(trace.jobs):5} |     4 |    3 |" in list(path(traces))


def test_the_times_of_a_change_add_up_to_its_latency() -> None:
    traces = list(traced(server_binaries(), 5, store="sqlite", with_functions=False))

    assert len(traces) == 5
    for trace in traces:
        found = times(trace)
        assert len(found) == len(STEPS)
        assert min(found) >= 0
        assert sum(found) == pytest.approx((trace.arrived - trace.committed) / 1e6)
    assert len(list(timetable(traces))) == len(STEPS) + 3

"""When the watches of one daemon sweep: not all at once."""

from collections import Counter

from cdc_sync.daemon.watching import phase


def test_sweeps_of_a_thousand_watches_are_spread_over_the_interval() -> None:
    phases = [phase(f"applications@tenant_{number}") for number in range(1000)]

    assert all(0 < each <= 1 for each in phases)
    tenths = Counter(int(each * 10) for each in phases)
    assert max(tenths.values()) < 150

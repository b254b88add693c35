"""The torture, for some seconds in each mode (`make torture` takes longer; `make torture-cluster`: several hosts)."""

from pathlib import Path

import pytest
from torture.options import Mode, Options
from torture.run import torture

SECONDS = 8.0
SEED = 20_240_501


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["notify", "poll"])
def test_the_promises_hold_whatever_fails(mode: Mode, tmp_path: Path) -> None:
    outcome = torture(Options(mode, SECONDS, SEED), tmp_path)

    assert not outcome.complaints, str(outcome)
    # Otherwise nothing was shown.
    assert outcome.figures["calls"]
    assert outcome.figures["faults"]
    assert outcome.figures["daemons' ends"] != [{}]

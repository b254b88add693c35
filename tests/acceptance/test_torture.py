"""The torture, for some seconds in each mode (`make torture` takes longer).

Kill -9 at any moment, a database and a network that fail: nothing is lost, and nothing is told that did not happen.
"""

import pytest
from torture.options import Mode, Options
from torture.run import torture
from torture.verdict import in_order

SECONDS = 8.0
SEED = 20_240_501


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["notify", "poll"])
def test_the_promises_hold_whatever_fails(mode: Mode) -> None:
    outcome = torture(Options(mode, SECONDS, SEED))

    assert not outcome.complaints, f"{in_order(outcome.complaints)}\n{outcome.figures}\n{outcome.tail}"
    # Otherwise nothing was shown.
    assert outcome.figures["calls"]
    assert outcome.figures["daemon's ends"]
    assert outcome.figures["database and network"]

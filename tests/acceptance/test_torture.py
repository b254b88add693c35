"""The torture, for a quarter of a minute in each mode (`make torture` and `make torture-cluster` take longer)."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import machine
from torture.options import Mode, Options
from torture.run import torture

SECONDS = 14.0
SEED = 20_240_501

SHORT = ("--seconds", "17")
"""The plan of this seed has each fault at least once in it, and silences that outlast every timeout."""
MANY = ("--tenants", "20", "--seconds", "12", "--only", "kill", "stop", "weather")
"""Many customers, whose leader is killed or stopped."""
SEED_ON_HOSTS = 20_261_126


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["notify", "poll"])
def test_the_promises_hold_whatever_fails(mode: Mode, tmp_path: Path) -> None:
    outcome = torture(Options(mode, SECONDS, SEED), tmp_path)

    assert not outcome.complaints, str(outcome)
    # Otherwise nothing was shown.
    assert outcome.figures["calls"]
    assert outcome.figures["faults"]
    assert outcome.figures["daemons' ends"] != [{}]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("mode", "more"),
    [("notify", ("--watches", "4", *SHORT)), ("poll", SHORT), ("notify", MANY)],
    ids=["notify", "poll", "tenants"],
)
def test_the_promises_hold_on_several_hosts(mode: Mode, more: Sequence[str]) -> None:
    if reason := machine.missing(clocks=True):
        pytest.skip(f"no machine of several hosts can be made: {reason}")
    arguments = ("--hosts", "--mode", mode, *more, "--seed", str(SEED_ON_HOSTS), "--writers", "3")
    ended = subprocess.run(
        (sys.executable, "-m", "torture", *arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout

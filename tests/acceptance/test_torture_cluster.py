"""The torture of several hosts, shortened (`make torture-cluster` takes longer)."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from torture.options import Mode
from torture_cluster import machine

SHORT = ("--seconds", "17")
"""The plan of this seed has each fault at least once in it, and silences that outlast every timeout."""
MANY = ("--tenants", "20", "--seconds", "12", "--only", "kill", "stop", "weather")
"""Many customers, whose leader is killed or stopped."""
SEED = 20_261_126


@pytest.fixture
def a_machine() -> None:
    if reason := machine.missing(clocks=True):
        pytest.skip(f"no machine of several hosts can be made: {reason}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("mode", "more"),
    [("notify", ("--watches", "4", *SHORT)), ("poll", SHORT), ("notify", MANY)],
    ids=["notify", "poll", "tenants"],
)
def test_the_promises_hold_on_several_hosts(a_machine: None, mode: Mode, more: Sequence[str]) -> None:
    arguments = ("--mode", mode, *more, "--seed", str(SEED))
    ended = subprocess.run(
        (sys.executable, "-m", "torture_cluster", *arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout

"""The command line."""

import argparse
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from command_line import parser_of, say
from torture.options import Options
from torture.verdict import in_order

from torture_cluster import machine
from torture_cluster.options import FAULTS, ClusterOptions
from torture_cluster.run import torture

_INSIDE = "--inside"
_MOST = 8
"""Shown complaints of a kind."""

_WIDEST = 260
"""Shown characters of each: states of the store are long."""

SKIPPED = 77
"""Automake's exit code for what cannot run here."""


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    if given.inside is not None:
        return _inside(given)
    if reason := machine.missing(clocks="clock" in _faults(given)):
        say(f"torture-cluster cannot run here: {reason}")
        return SKIPPED
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="cdc-sync-cluster-") as temporary:
        # The servers run as another user, in a folder of their own below it.
        Path(temporary).chmod(0o1777)
        command = [sys.executable, "-m", __package__, *arguments, "--seed", str(seed), _INSIDE, temporary]
        return machine.enter(command, {**os.environ, "TMPDIR": temporary})


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("torture_cluster")
    parser.add_argument("--mode", choices=("notify", "poll"), default="notify", help="how the daemons capture")
    parser.add_argument("--seconds", type=float, default=120, help="how long things happen (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="repeat the plan of an earlier run")
    parser.add_argument("--writers", type=int, default=3, help="the ATS's sessions at work (%(default)s)")
    parser.add_argument("--watches", type=int, default=1, help="how many share the table (%(default)s)")
    parser.add_argument("--tenants", type=int, default=0, help="schemas of tenants, each with a table, by a template")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=FAULTS, metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--without", nargs="+", choices=FAULTS, default=(), metavar="FAULT", help="leave these out")
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="keep logs and calls there")
    parser.add_argument(_INSIDE, type=Path, default=None, help=argparse.SUPPRESS)
    return parser


def _faults(given: argparse.Namespace) -> frozenset[str]:
    return frozenset(given.only) - frozenset(given.without)


def _inside(given: argparse.Namespace) -> int:
    # The driver logs each transaction that it could not roll back.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    common = Options(given.mode, given.seconds, given.seed, given.writers, "postgres")
    options = ClusterOptions(common, _faults(given), given.watches, given.tenants)
    say(
        f"torture of several hosts: mode {common.mode}, {common.seconds:.0f} s, seed {common.seed}, "
        f"faults: {', '.join(fault for fault in FAULTS if fault in options.faults) or 'none'}"
    )
    with ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        outcome = torture(options, folder, say)
    width = max(map(len, outcome.figures), default=0)
    for name, value in outcome.figures.items():
        say(f"{name:<{width}}  {value}")
    if not outcome.complaints:
        say("HelloWork's last state is the database's.")
        return 0
    say(f"\ncomplaints (seed {common.seed}): {', '.join(f'{kind} {len(c)}' for kind, c in outcome.complaints.items())}")
    for kind, complaints in outcome.complaints.items():
        say(f"{kind}:\n{in_order([complaint[:_WIDEST] for complaint in complaints], _MOST)}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

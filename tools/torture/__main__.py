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
from support import machine

from torture.faults import ON_HOSTS
from torture.options import Options
from torture.run import torture

_INSIDE = "--inside"

SKIPPED = 77
"""Automake's exit code for what cannot run here."""


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    faults = frozenset(given.only)
    if given.hosts and given.inside is None:
        return _enter(arguments, seed, needs_clocks="clock" in faults)
    # The driver logs each transaction that it could not roll back.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    options = Options(
        mode=given.mode,
        seconds=given.seconds,
        seed=seed,
        store="postgres" if given.hosts else given.store,
        hosts=given.hosts,
        faults=faults,
        tenants=given.tenants if given.hosts else 0,
    )
    say(f"torture: {options}")
    with ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdc-sync-torture-")))
        folder.mkdir(parents=True, exist_ok=True)
        outcome = torture(options, folder, say)
    say(str(outcome))
    if not (outcome.figures["calls"] and outcome.figures["faults"]):
        say("nothing was shown: no call, or no fault")
        return 1
    return 1 if outcome.complaints else 0


def _enter(arguments: Sequence[str], seed: int, *, needs_clocks: bool) -> int:
    """Run on a machine of its own."""
    if reason := machine.missing(clocks=needs_clocks):
        say(f"several hosts cannot be made here: {reason}")
        return SKIPPED
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="cdc-sync-hosts-") as temporary:
        # The servers run as another user, in a folder of their own below it.
        Path(temporary).chmod(0o1777)
        command = [sys.executable, "-m", "torture", *arguments, "--seed", str(seed), _INSIDE, temporary]
        return machine.enter(command, {**os.environ, "TMPDIR": temporary})


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("torture")
    parser.add_argument("--mode", choices=("notify", "poll"), default="notify", help="how the daemons capture")
    parser.add_argument("--seconds", type=float, default=120, help="how long things happen (%(default)s)")
    parser.add_argument("--seed", type=int, help="repeat the plan of an earlier run")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the daemons' logs, and a store's file, there")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="state.backend (%(default)s)")
    parser.add_argument("--hosts", action="store_true", help="three daemons on hosts of their own; needs root")
    on_hosts = parser.add_argument_group("with --hosts")
    on_hosts.add_argument("--tenants", type=int, default=0, help="schemas of tenants, each with a table, by a template")
    names = [*ON_HOSTS]
    on_hosts.add_argument("--only", nargs="+", choices=names, default=names, metavar="FAULT", help=", ".join(names))
    parser.add_argument(_INSIDE, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

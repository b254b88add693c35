"""The command line."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from support.binaries import binaries_in, server_binaries

from cdc_sync.demo.postgres import PostgresFailedError, PostgresMissingError
from trigger_cost.bystanders import Paid, measure_bystanders
from trigger_cost.cancelled import measure_cancelled
from trigger_cost.cpu import measure_cpu
from trigger_cost.instructions import ValgrindMissingError, measure_instructions
from trigger_cost.measuring import Figure
from trigger_cost.options import QUICK, Options
from trigger_cost.pgbench import PgbenchError
from trigger_cost.report import as_json, as_markdown, as_table
from trigger_cost.run import bench


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trigger_cost", description="What the triggers cost the ATS.")
    parser.add_argument("--pgbin", metavar="FOLDER", help="the bin folder of the server to measure")
    parser.add_argument("--rounds", type=_positive, default=7, help="runs on each table (%(default)s)")
    parser.add_argument(
        "--seconds", type=_positive, default=3, help="how long one run lasts, and its warm-up before it (%(default)s)"
    )
    parser.add_argument(
        "--no-fsync", action="store_true", help="a disk that costs nothing: the least flattering ratios"
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="the daemon is stopped during each run: what the triggers cost by themselves",
    )
    parser.add_argument(
        "--standby",
        type=_positive,
        metavar="SECONDS",
        help="instead: what a standby cancels, for so long on each table",
    )
    parser.add_argument(
        "--cpu", action="store_true", help="instead: CPU time per statement, which a busy machine changes little"
    )
    parser.add_argument(
        "--instructions", action="store_true", help="instead: instructions per statement, which nothing else changes"
    )
    parser.add_argument("--quick", action="store_true", help="only see that it works: the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="write JSON instead of a table")
    parser.add_argument("--markdown", action="store_true", help="write the tables of docs/for-dbas.md, too")
    given = parser.parse_args()
    options = QUICK if given.quick else _options(given.rounds, given.seconds)
    try:
        binaries = binaries_in(given.pgbin, "--pgbin") if given.pgbin else server_binaries()
        if given.cpu:
            return _write({}, [], measure_cpu(binaries, given.rounds, tell), given)
        if given.instructions:
            return _write({}, [], measure_instructions(binaries, tell), given)
        if given.standby:
            return _write({}, [], measure_cancelled(binaries, given.standby, tell), given)
        facts, figures = bench(binaries, replace(options, fsync=not given.no_fsync, alone=given.alone), tell)
        paid = [] if given.alone else measure_bystanders(binaries, options, tell)
    except (PgbenchError, PostgresMissingError, PostgresFailedError, ValgrindMissingError, ValueError) as error:
        sys.stderr.write(f"trigger_cost: {error}\n")
        return 1
    return _write(facts, figures, paid, given)


def _write(
    facts: Mapping[str, object], figures: Sequence[Figure], paid: Sequence[Paid], given: argparse.Namespace
) -> int:
    sys.stdout.write((as_json if given.json else as_table)(facts, figures, paid) + "\n")
    if given.markdown:
        sys.stdout.write("\n" + as_markdown(figures, paid) + "\n")
    return 0


def tell(line: str) -> None:
    """Report progress on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _options(rounds: int, seconds: int) -> Options:
    length = ("--time", str(seconds))
    return Options(rounds, warm_up=length, length=length)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())

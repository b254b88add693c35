"""The command line, and a version's run."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from command_line import parser_of, say
from support.binaries import BIN_FOLDER
from support.postgres import RUNNING_SERVER

from postgres_matrix.fetching import FetchError, fetch
from postgres_matrix.releases import RELEASES, server_version
from postgres_matrix.suites import SUITES, Suite

_ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = parser_of("postgres_matrix")
    parser.add_argument(
        "majors", nargs="*", type=_major, metavar="MAJOR", default=list(RELEASES), help="10 to 18; all unless given"
    )
    parser.add_argument("--suite", choices=SUITES, default="whole", help="what is run (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that test at once (%(default)s)"
    )
    given = parser.parse_args()
    outcomes = {major: _outcome(major, _arguments(SUITES[given.suite], given.workers)) for major in given.majors}
    say("")
    for major, outcome in outcomes.items():
        say(f"PostgreSQL {server_version(major)}: {outcome or 'passed'}")
    return 1 if any(outcomes.values()) else 0


def _outcome(major: int, arguments: Sequence[str]) -> str:
    """Test one version; returns what went wrong, nothing if all passed."""
    say(f"\n== PostgreSQL {server_version(major)} ==")
    try:
        binaries = fetch(major)
    except FetchError as error:
        return str(error)
    environment = {name: value for name, value in os.environ.items() if name != RUNNING_SERVER}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        check=False,
        cwd=_ROOT,
        env={**environment, BIN_FOLDER: str(binaries)},
    )
    seconds = time.monotonic() - began
    return f"pytest ended with exit code {ended.returncode} after {seconds:.0f} s" if ended.returncode else ""


def _arguments(suite: Suite, workers: int) -> list[str]:
    without = [f"--ignore={path}" for path in suite.without]
    return [*suite.paths, *without, "-q", "--numprocesses", str(workers)]


def _major(text: str) -> int:
    if text not in map(str, RELEASES):
        raise argparse.ArgumentTypeError(
            f"expected a major version from {min(RELEASES)} to {max(RELEASES)}, not {text}"
        )
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

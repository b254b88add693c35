"""The command line."""

import argparse
import os
import sys
from collections.abc import Sequence

from command_line import say

from postgres_matrix.fetching import FetchError, fetch
from postgres_matrix.releases import RELEASES, server_version
from postgres_matrix.report import as_markdown
from postgres_matrix.running import ROOT, Outcome, run
from postgres_matrix.suites import SUITES, Suite

_RECORDS = ROOT / "build" / "postgres-matrix"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m postgres_matrix", description="Run the suites that depend on PostgreSQL, version by version."
    )
    parser.add_argument(
        "majors", nargs="*", type=_major, metavar="MAJOR", default=list(RELEASES), help="10 to 18; all unless given"
    )
    parser.add_argument("--suite", choices=SUITES, default="whole", help="what is run (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that test at once (%(default)s)"
    )
    given = parser.parse_args()
    outcomes: list[Outcome] = []
    try:
        for major in given.majors:
            outcomes.append(_outcome(major, _arguments(SUITES[given.suite], given.workers)))  # noqa: PERF401 - kept so far
    except KeyboardInterrupt:
        say("interrupted: what follows is what was finished before")
    sys.stdout.write(f"\n{as_markdown(outcomes)}\n")
    return 0 if len(outcomes) == len(given.majors) and all(outcome.good for outcome in outcomes) else 1


def _outcome(major: int, arguments: Sequence[str]) -> Outcome:
    version = server_version(major)
    say(f"\n== PostgreSQL {version} ==")
    try:
        binaries = fetch(major)
    except FetchError as error:
        say(str(error))
        return Outcome(version, trouble=str(error))
    return run(version, binaries, arguments, _RECORDS / f"{major}.xml")


def _arguments(suite: Suite, workers: int) -> list[str]:
    return [
        *suite.paths,
        *(f"--ignore={path}" for path in suite.without),
        "-q",
        "--numprocesses",
        str(workers),
    ]


def _major(text: str) -> int:
    if text not in map(str, RELEASES):
        raise argparse.ArgumentTypeError(
            f"expected a major version from {min(RELEASES)} to {max(RELEASES)}, not {text}"
        )
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

"""The command line; see the package's text."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from support.binaries import binaries_in, server_binaries

from bench.options import QUICK, Options
from bench.pgbench import PgbenchError
from bench.report import as_json, as_table
from bench.run import ON_REQUEST, OWN_ROWS, ROWS, bench
from cdc_sync.demo.postgres import PostgresError

RESULTS = Path("bench") / "results.json"


def main() -> int:
    names = (*ROWS, *OWN_ROWS)
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast cdc-sync is, beside bare loops.")
    parser.add_argument("--pgbin", metavar="FOLDER", help="the bin folder of the server to measure with")
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn (%(default)s)")
    parser.add_argument("--slow", type=float, default=20, metavar="MS", help="what a slow endpoint takes (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="only see that it works: the figures mean nothing")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=names, default=(), help=f"some of {', '.join(names)}"
    )
    parser.add_argument("--schemas", type=int, default=1_000, help="customers of the row tenants (%(default)s)")
    parser.epilog = f"Without --only, {' and '.join(ON_REQUEST)} are left out."
    parser.add_argument("--json", metavar="FILE", type=Path, default=RESULTS, help="where to write it (%(default)s)")
    given = parser.parse_args()
    options = (
        QUICK if given.quick else replace(Options(), rounds=given.rounds, slow=given.slow / 1000, tenants=given.schemas)
    )
    try:
        binaries = binaries_in(given.pgbin, "--pgbin") if given.pgbin else server_binaries()
        facts, figures = bench(binaries, options, tell, given.only)
    except (PgbenchError, PostgresError, ValueError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(as_json(facts, figures), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(as_table(facts, figures) + "\n")
    return 0


def tell(line: str) -> None:
    """Report progress on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

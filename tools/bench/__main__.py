"""The command line; see the package's text."""

import argparse
import sys

from command_line import say
from support.binaries import server_binaries

from bench.figures import as_table
from bench.run import ON_REQUEST, OWN_ROWS, ROWS, bench
from bench.site import Options
from cdc_sync.demo.postgres import PostgresError


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int | str:
    names = (*ROWS, *OWN_ROWS)
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast cdc-sync is, beside bare loops.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="only see that it works: the figures mean nothing")
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=names, default=(), help=f"of {', '.join(names)}")
    parser.add_argument("--schemas", type=int, default=1_000, help="customers of the row tenants (%(default)s)")
    parser.epilog = f"Without --only, {' and '.join(ON_REQUEST)} are left out."
    given = parser.parse_args()
    options = Options(rounds=given.rounds, tenants=given.schemas)
    if given.quick:
        options = Options(sizes=(500, 600, 700), rounds=1, single=5, bulk=400, tenants=8, rest=2)
    try:
        facts, figures = bench(server_binaries(), options, _tell, given.only)
    except (PostgresError, ValueError) as error:
        return f"bench: {error}"
    say(as_table(facts, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line."""

import logging
import secrets
import sys
from pathlib import Path

from command_line import parser_of, say

from torture.options import Options
from torture.run import torture
from torture.verdict import in_order


def main() -> int:
    parser = parser_of("torture")
    parser.add_argument("--mode", choices=("notify", "poll"), default="notify", help="how the daemon captures")
    parser.add_argument("--seconds", type=float, default=120, help="how long things happen (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="repeat the plan of an earlier run")
    parser.add_argument("--writers", type=int, default=4, help="the ATS's sessions at work (%(default)s)")
    parser.add_argument(
        "--keep", type=Path, default=None, metavar="FOLDER", help="keep the daemon's log and store there"
    )
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite", help="state.backend (%(default)s)")
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    # The driver logs each transaction that it could not roll back.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    options = Options(given.mode, given.seconds, seed, given.writers, given.store)
    say(f"torture: mode {options.mode}, {options.seconds:.0f} s, seed {options.seed}, {options.writers} writers")
    outcome = torture(options, given.keep)
    width = max(map(len, outcome.figures), default=0)
    for name, value in outcome.figures.items():
        say(f"{name:<{width}}  {value}")
    if not outcome.complaints:
        say("HelloWork's last state is the database's.")
        return 0
    say(f"\nThe end of the daemon's log:\n{outcome.tail}\n\n{len(outcome.complaints)} complaints (seed {seed}):")
    say(in_order(outcome.complaints))
    return 1


if __name__ == "__main__":
    sys.exit(main())

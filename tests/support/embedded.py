"""A program that runs an embedded server, for tests that end it in every way.

It tells on its output where the server is, and again when Ctrl-C hits it; it goes on at each line or at the end of its
input. On the standard library alone: a test runs it with a bare interpreter too.
"""

import json
import signal
import sys

from cdc_sync.demo.postgres import server
from support.binaries import server_binaries


def tell(line: str) -> None:
    """Say it at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the server until told to leave."""
    # The tests may run under nohup, whose children inherit that SIGHUP ends nothing.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with server(server_binaries()) as running:
        tell(json.dumps({"dsn": running.dsn, "pid": running.pid, "folder": str(running.folder)}))
        try:
            sys.stdin.readline()
        except KeyboardInterrupt:
            tell("interrupted")
            sys.stdin.readline()
            raise


if __name__ == "__main__":
    main()

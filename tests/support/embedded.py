"""A program that runs an embedded server, for tests that end it in every way.

It tells on its output where the server is, and goes on until a line or the end of its input.
"""

import json
import os
import signal
import subprocess
import sys

from cdc_sync.demo.postgres import Server, server
from support.binaries import server_binaries

DATA = "CDC_SYNC_TEST_DATA"
"""The environment variable that names a folder of data, to be copied instead of made by initdb, which takes longer."""


def copy_instead_of_initdb(data: str) -> None:
    """Have every server of this process begin with a copy of this data."""

    def copy(own: Server) -> None:
        subprocess.run(["cp", "-a", data, own.folder / "data"], check=True)  # noqa: S607 - wherever it is

    Server.create = copy  # type: ignore[assignment, method-assign] # in this process alone


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    # The tests may run under nohup, whose children inherit that SIGHUP ends nothing.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if DATA in os.environ:
        copy_instead_of_initdb(os.environ[DATA])
    with server(server_binaries()) as running:
        tell(json.dumps({"dsn": running.dsn, "pid": running.pid, "folder": str(running.folder)}))
        sys.stdin.readline()


if __name__ == "__main__":
    main()

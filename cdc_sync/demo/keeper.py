"""The keeper: owns a temporary folder and the processes of an embedded PostgreSQL, and outlives its parent.

A process of its own, started as a script on the standard library alone: it must start fast, from any folder, as any
user. It makes the folder itself, and whatever its parent starts joins its process group before it runs a program, so
there is no instant at which one of them exists and nobody is charged with its end. The end of its standard input
means that its parent is done, or gone, by kill -9 too: then it ends what runs, and removes the folder.

Usage: keeper.py TEMPORARY_FOLDER LIFELINE. It answers with the folder, or with why there is none. The lifeline is a
pipe's descriptor: every process holds the other end, and so do its children; at its end none is left.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import tempfile

_TRIES = 10


def main() -> None:
    """Keep the folder and the processes until the parent's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # who ends the rest must not be ended first
    try:
        folder = tempfile.mkdtemp(prefix="cdc-sync-", dir=sys.argv[1])
    except OSError as error:
        os.write(1, str(error).encode())
        return
    with contextlib.suppress(ConnectionError):  # it may be gone already
        os.write(1, os.fsencode(folder))
        sys.stdin.buffer.read()
    for _ in range(_TRIES):  # the first may come before a process that is just being made has joined the group
        os.killpg(0, signal.SIGQUIT)  # for PostgreSQL an immediate shutdown: the data is of no worth
        if select.select([int(sys.argv[2])], [], [], 1.0)[0]:
            break
    try:
        shutil.rmtree(folder)
    finally:
        os.killpg(0, signal.SIGKILL)  # itself too


if __name__ == "__main__":
    main()

"""The keeper: owns the folder and the processes of an embedded PostgreSQL, and outlives its parent.

On the standard library alone: it starts fast, anywhere, as any user. It makes the folder; its parent's processes join
its process group. When its standard input ends, its parent is done or dead: the keeper ends the processes and removes
the folder.

Usage: keeper.py TEMPORARY_FOLDER LIFELINE. It answers with the folder or the error. The lifeline is a pipe's
descriptor; every process holds the other end, so at its end none is left.
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
    """Keep folder and processes until the parent's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the keeper ends last
    try:
        folder = tempfile.mkdtemp(prefix="cdc-sync-", dir=sys.argv[1])
    except OSError as error:
        os.write(1, str(error).encode())
        return
    with contextlib.suppress(ConnectionError):  # it is gone already
        os.write(1, os.fsencode(folder))
        sys.stdin.buffer.read()
    for _ in range(_TRIES):  # a new process may join the group after the first signal
        os.killpg(0, signal.SIGQUIT)  # an immediate shutdown: the data has no worth
        if select.select([int(sys.argv[2])], [], [], 1.0)[0]:
            break
    try:
        shutil.rmtree(folder)
    finally:
        os.killpg(0, signal.SIGKILL)  # itself too


if __name__ == "__main__":
    main()

"""The guardian: owns the temporary folder of an embedded PostgreSQL, and outlives its parent to leave nothing behind.

A process of its own, started as a script on the standard library alone (it must start fast, from any folder, as any
user). It makes the folder itself, so that there is no instant at which the folder exists and nobody is charged with
its removal. Two pipes tell it what lives:

- its standard input, whose other end only the parent holds: the end of file means that the parent is done, or gone,
  by kill -9 too;
- `lifeline`, whose other end the parent gives to every server process: the end of file means that none is left. It
  needs no process id, so it also knows of a server that the parent started in its very last instant.

Started by root, it gives its rights up for those of the server's user as soon as the folder is ready: it signals a
process whose id it reads from a file, and the server's user can write that file.

Usage: guardian.py LIFELINE TEMPORARY_FOLDER UID GID [TREE...]. It answers one line, `ready FOLDER` or `failed REASON`,
and waits. A TREE is a folder which is copied into the new one, for the server's user to reach it.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

PREFIX = "cdc-sync-"

# A fast shutdown, then an immediate one, then none at all: each with the seconds it is given. The data is of no worth.
_SHUTDOWNS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
_PAUSE = 0.02


def main() -> None:
    """Make the folder, wait for the parent's end, stop the server, remove the folder."""
    lifeline, temporary, uid, gid, *trees = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever is told to stop, this one still has to tidy up
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary))
    except OSError as error:
        _answer(f"failed {error}")
        sys.exit(1)
    try:
        try:
            for tree in trees:
                shutil.copytree(tree, folder / Path(tree).name, symlinks=True)
            _hand_over(folder, int(uid), int(gid))
        except (OSError, shutil.Error) as error:
            _answer(f"failed {error}")
            sys.exit(1)
        _answer(f"ready {folder}")
        sys.stdin.buffer.read()
        _stop(folder / "data" / "postmaster.pid", int(lifeline))
    finally:
        shutil.rmtree(folder)


def _answer(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent is gone already; standard input is about to say so
        os.write(sys.stdout.fileno(), os.fsencode(f"{text}\n"))


def _hand_over(folder: Path, uid: int, gid: int) -> None:
    if os.geteuid() == uid:
        return
    for path in (*folder.rglob("*"), folder):
        os.chown(path, uid, gid, follow_symlinks=False)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _stop(pid_file: Path, lifeline: int) -> None:
    for number, patience in _SHUTDOWNS:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if _ended(lifeline):
                return
            # Again and again: a server that has just been started may not have written its id yet.
            _signal(pid_file, number)
            time.sleep(_PAUSE)


def _ended(lifeline: int) -> bool:
    readable, _, _ = select.select([lifeline], [], [], 0)
    return bool(readable)  # nobody writes into it: all that can be read is its end


def _signal(pid_file: Path, number: signal.Signals) -> None:
    try:
        pid = int(pid_file.read_text().partition("\n")[0])
    except (OSError, ValueError):
        return
    if pid <= 0:
        return  # initdb's own server, which writes its id negated, and ends by itself
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # it has just ended


if __name__ == "__main__":
    main()

"""The keeper: owns a temporary folder and the processes of an embedded PostgreSQL, and outlives its parent.

A process of its own, started as a script on the standard library alone: it must start fast, from any folder, as any
user. It makes the folder itself and is the processes' parent, so there is no instant at which one of them exists and
nobody is charged with its end. The end of its standard input means that its parent is done, or gone, by kill -9 too:
then it ends what runs, and removes the folder.

Usage: keeper.py TEMPORARY_FOLDER. It answers with the folder, or `{"failed": REASON}`; then to each request, one JSON
value a line:

- `{"last": SIGNAL, "log": PATH, …}` starts a process with the arguments of `subprocess.Popen` that follow, its output
  appended to the log, and answers its id, or why it cannot be started. The signal is what ends it at last.
- `PID` answers the process's exit code, or null while it runs.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_PATIENCE = 10.0


def main() -> None:
    """Keep the folder and the processes until the parent's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Who ends the rest must not be ended first. A handler, since SIG_IGN would be the processes' too.
        signal.signal(number, lambda *_: None)
    try:
        folder = Path(tempfile.mkdtemp(prefix="cdc-sync-", dir=sys.argv[1]))
    except OSError as error:
        _answer({"failed": str(error)})
        return
    # Every process holds an end of this pipe, and so do its children: at its end none is left.
    lifeline, held = os.pipe()
    kept: dict[int, tuple[subprocess.Popen[bytes], int]] = {}
    try:
        with contextlib.suppress(ConnectionError):
            _answer(str(folder))
            for line in sys.stdin.buffer:
                match json.loads(line):
                    case int(pid):
                        _answer(kept[pid][0].poll())
                    case request:
                        _answer(_start(kept, request, held))
    finally:
        os.close(held)
        for harder in (False, True):
            for process, last in kept.values():
                process.send_signal(signal.SIGKILL if harder else last)
            if select.select([lifeline], [], [], _PATIENCE)[0]:
                break
        shutil.rmtree(folder)


def _start(kept: dict[int, tuple[subprocess.Popen[bytes], int]], request: dict[str, Any], held: int) -> int | str:
    last, log = request.pop("last"), request.pop("log")
    try:
        with Path(log).open("ab") as output:
            process = subprocess.Popen(stdout=output, stderr=subprocess.STDOUT, pass_fds=(held,), **request)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    kept[process.pid] = process, last
    return process.pid


def _answer(value: object) -> None:
    os.write(sys.stdout.fileno(), json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    main()

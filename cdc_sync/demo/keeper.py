"""The keeper: owns the demo's folder and its daemon, and outlives the demo to leave neither behind.

A process of its own, started as a script on the standard library alone. It makes the folder itself, and is the daemon's
parent, so there is no instant at which one of them exists and nobody is charged with its end. The end of its standard
input means that the demo is done, or gone, by kill -9 too: then the daemon is killed, and the folder removed.

Usage: keeper.py TEMPORARY_FOLDER. It answers with the folder; then to each request, one JSON value a line:

- `["start", ARGUMENTS]` starts the daemon, whose output goes to `daemon.log` in the folder, and answers its process id;
- `["signal", NUMBER]` sends it a signal;
- `["ended"]` answers its exit code, or null while it runs.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PREFIX = "cdc-sync-demo-"
LOG = "daemon.log"


def main() -> None:
    """Keep the folder and the daemon until the demo's end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever is told to stop, this one still has to tidy up. A handler, since SIG_IGN would be the daemon's too.
        signal.signal(number, lambda *_: None)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=sys.argv[1]))
    try:
        _serve(folder)
    finally:
        shutil.rmtree(folder)


def _serve(folder: Path) -> None:
    daemon: subprocess.Popen[bytes] | None = None
    try:
        _answer(str(folder))
        for line in sys.stdin.buffer:
            match json.loads(line):
                case ["start", [*arguments]]:
                    with (folder / LOG).open("ab") as log:
                        daemon = subprocess.Popen(  # noqa: S603 - the demo says what to run
                            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                        )
                    _answer(daemon.pid)
                case ["signal", int(number)] if daemon is not None:
                    daemon.send_signal(number)
                    _answer(None)
                case ["ended"] if daemon is not None:
                    _answer(daemon.poll())
    except BrokenPipeError:
        pass  # the demo is gone
    finally:
        if daemon is not None:
            daemon.kill()
            daemon.wait()


def _answer(value: object) -> None:
    os.write(sys.stdout.fileno(), json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    main()

"""A process that brings an SQLite store up to date, and is killed in the middle of it.

`python -m support.migrating_process PATH statement N`: by kill -9, right before its statement number N.
`python -m support.migrating_process PATH instruction N`: after N times 500 instructions of SQLite's machine.

If it comes to the end before, it prints how many statements, or times 500 instructions, there were.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from cdc_sync.store.sqlite import schema

_TESTS = Path(__file__).parent.parent
_INSTRUCTIONS = 500


def killed_at(path: Path, unit: str, number: int) -> bool:
    """Run one; returns whether it was killed, and not too late."""
    return count(path, unit, number) is None


def count(path: Path, unit: str, number: int = sys.maxsize) -> int | None:
    """Run one that is not to be killed; returns how many there were, or None if it was killed all the same."""
    command = [sys.executable, "-m", __name__, str(path), unit, str(number)]
    environment = {**os.environ, "PYTHONPATH": f"{_TESTS}{os.pathsep}{_TESTS.parent}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def main(path: Path, unit: str, number: int) -> None:
    """See the module's text."""
    seen = 0

    def one(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def watched(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **named)
        connection.set_trace_callback(one)
        return connection

    if unit == "statement":
        sqlite3.connect = watched  # type: ignore[assignment]
        schema.connect(path).close()
    else:
        vars(schema).update(_INSTRUCTIONS=_INSTRUCTIONS, UPGRADING_EVERY=0.0)
        schema.connect(path, upgrading=one).close()
    print(seen)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

"""A process that brings an SQLite store up to date, and is killed in the middle of it.

By kill -9, right before its statement number N; or after N times 500 instructions of SQLite's machine. If it comes to
the end before, it reports how many statements, or times 500 instructions, there were.

It is a fork of `python -m support.migrating_process`: to import the store takes more CPU than the migration.
"""

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from cdc_sync.store.sqlite import schema
from support.modules import running

_INSTRUCTIONS = 500


class Migrate(Protocol):
    """Brings a store up to date."""

    def __call__(self, path: Path, unit: str, number: int = sys.maxsize) -> int | None:
        """Be killed at a number; returns how many there were, or None if it was killed."""


@contextmanager
def migrating_process() -> Iterator[Migrate]:
    """Yield what runs one migration in a process of its own."""
    with running(__name__) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def migrate(path: Path, unit: str, number: int = sys.maxsize) -> int | None:
            asked.write(json.dumps([str(path), unit, number]) + "\n")
            *seen, code = map(int, answers.readline().split())
            if code == -signal.SIGKILL:
                return None
            assert code == 0
            return seen[0]

        yield migrate


def _migrate(path: Path, unit: str, number: int) -> int:
    seen = 0

    def one(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def watched(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **named)
        if unit == "statement":
            connection.set_trace_callback(one)
        else:
            connection.set_progress_handler(one, _INSTRUCTIONS)
        return connection

    sqlite3.connect = watched  # type: ignore[assignment]
    schema.connect(path).close()
    return seen


def main() -> None:
    """For each line of the input, write on one line what a fork counted, unless it was killed, and its exit code."""
    for line in sys.stdin:
        path, unit, number = json.loads(line)
        if (pid := os.fork()) == 0:
            print(_migrate(Path(path), unit, number), end=" ", flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

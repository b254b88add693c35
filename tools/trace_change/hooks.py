"""The daemon with a recorder in it: `python -m trace_change.hooks FILE ARGUMENTS...`.

SIGUSR1 begins a recording, another one writes it to FILE. All times are nanoseconds of the monotonic clock.
"""

import inspect
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import psycopg

import cdc_sync
from cdc_sync.cli import main

_PACKAGE = str(Path(cdc_sync.__file__).parent) + os.sep
_STORE = os.path.join(_PACKAGE, "store", "")  # noqa: PTH118 - compared with the file names of code objects
_NESTED = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class Recorder:
    """Records while it `is_on`: each list has the time first."""

    def __init__(self, file: Path) -> None:
        self.is_on = False
        self._file = file
        self._seen: dict[CodeType, tuple[str, str, int] | None] = {}
        self._clear()

    def _clear(self) -> None:
        self.functions: list[tuple[int, tuple[str, str, int]]] = []
        self.jobs: list[tuple[int, str]] = []
        self.statements: list[tuple[int, str, str]] = []

    def toggle(self, *_: object) -> None:
        self.is_on = not self.is_on
        if self.is_on:
            self._clear()
            return
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps({name: getattr(self, name) for name in ("functions", "jobs", "statements")}))
        partial.rename(self._file)

    def sent(self, where: str, text: str) -> None:
        if self.is_on:
            self.statements.append((time.monotonic_ns(), where, " ".join(text.split())))

    def called(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or not self.is_on:
            return
        code = frame.f_code
        if code not in self._seen:
            self._seen[code] = _ours(code)
        if (name := self._seen[code]) is None:
            return
        now = time.monotonic_ns()
        self.functions.append((now, name))
        is_public_of_store = code.co_filename.startswith(_STORE) and not code.co_name.startswith("_")
        if is_public_of_store and _is_begun(frame) and not _is_of_store(frame.f_back):
            self.jobs.append((now, code.co_qualname))


def _ours(code: CodeType) -> tuple[str, str, int] | None:
    """File, qualified name and line of a function of the package."""
    if not code.co_filename.startswith(_PACKAGE) or code.co_name in _NESTED:
        return None
    return code.co_filename.removeprefix(_PACKAGE), code.co_qualname, code.co_firstlineno


def _is_begun(frame: FrameType) -> bool:
    """Whether a coroutine begins, by RESUME's argument."""
    return bool(frame.f_code.co_flags & inspect.CO_COROUTINE) and frame.f_code.co_code[frame.f_lasti + 1] & 3 == 0


def _is_of_store(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_STORE)


def record_sqlite(recorder: Recorder) -> None:
    """Record the statements of new connections."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def traced(*arguments: Any, **named: Any) -> sqlite3.Connection:
        made = connect(*arguments, **named)
        made.set_trace_callback(partial(recorder.sent, "store"))
        return made

    sqlite3.connect = traced  # type: ignore[assignment]


def record_psycopg(recorder: Recorder) -> None:
    """Record statements by psycopg's private methods: it has no hook."""

    def note(query: Any) -> None:
        text = query.decode() if isinstance(query, bytes) else str(query)
        recorder.sent("ats", text)

    execute_send, send_prepared = psycopg.AsyncCursor._execute_send, psycopg.AsyncCursor._send_query_prepared
    exec_command = psycopg.AsyncConnection._exec_command

    def _execute_send(self: Any, query: Any, **named: Any) -> None:
        note(query.query)
        execute_send(self, query, **named)

    def _send_query_prepared(self: Any, name: bytes, query: Any, **named: Any) -> None:
        note(query.query)
        send_prepared(self, name, query, **named)

    def _exec_command(self: Any, command: Any, *arguments: Any) -> Any:
        note(command)
        return (yield from exec_command(self, command, *arguments))

    psycopg.AsyncCursor._execute_send = _execute_send  # type: ignore[method-assign]
    psycopg.AsyncCursor._send_query_prepared = _send_query_prepared  # type: ignore[method-assign,assignment]
    psycopg.AsyncConnection._exec_command = _exec_command  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    _, file, *arguments = sys.argv
    made = Recorder(Path(file))
    record_sqlite(made)
    record_psycopg(made)
    signal.signal(signal.SIGUSR1, made.toggle)
    threading.setprofile(made.called)
    sys.setprofile(made.called)
    sys.argv = ["cdc-sync", *arguments]
    main()

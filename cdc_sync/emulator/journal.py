"""Calls on disk, one JSON line for each, in the order in which they ended."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

from cdc_sync.emulator.calls import Call
from cdc_sync.emulator.errors import JournalError


class Journal:
    """Appends to a file, in one write for all the calls that end in the same turn of the event loop.

    Written from the event loop itself: it goes to the page cache, and a thread's round trip would cost more.

    Args:
        path: The file; it is created if need be, and never truncated.
        on_failure: Told once that the file cannot be written any more; later calls are not journalled.

    Raises:
        JournalError: The file cannot be opened.
    """

    def __init__(self, path: Path, on_failure: Callable[[JournalError], None]) -> None:
        self._path = path
        self._on_failure = on_failure
        self._pending: list[Call] = []
        self._failed = False
        try:
            self._file = path.open("a+b", buffering=0)
            self._end_torn_line()
        except OSError as error:
            raise JournalError(
                f"cannot open the journal {path}: {error.strerror}; name a file in a folder that exists and is writable"
            ) from None

    def add(self, call: Call) -> None:
        """Write the call in the event loop's next turn, together with whatever else ends in this one."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(call)

    def close(self) -> None:
        """Write what is left and close the file."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        lines = "".join(json.dumps(call.as_json()) + "\n" for call in self._pending)
        self._pending.clear()
        if not lines or self._failed:
            return
        data = memoryview(lines.encode())
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._failed = True
            self._on_failure(JournalError(f"cannot write the journal {self._path}: {error.strerror}"))

    def _end_torn_line(self) -> None:
        # What a killed predecessor left half written must not swallow the first line of this run.
        if self._file.seek(0, os.SEEK_END) > 0:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

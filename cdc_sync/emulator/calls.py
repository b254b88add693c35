"""What was received: kept in order for those who look or wait for more, and written to a file, secrets left out."""

import asyncio
import json
import os
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path

from cdc_sync.core.failures import OperationError

MAX_BYTES = 64 * 1024 * 1024
"""Of the calls that are kept, where not all of them are."""


@dataclass(slots=True, eq=False)
class Call:
    """One call as it was received, and what became of it.

    Not frozen: it is shown from its arrival on, and how it ended is known later.

    Attributes:
        number: 1 for the first call of this emulator, and so on; never used twice.
        received: When its body was complete, in seconds since the epoch.
        method: The HTTP method.
        path: The path and query as received, percent-encoded.
        application_id: The application's id, percent-decoded; None if the path is not that of a status call.
        headers: The headers, without secrets.
        idempotency_key: The Idempotency-Key, if one was sent.
        body: The parsed body; None if it could not be parsed.
        raw: The body's text as received.
        violations: What HelloWork would refuse, whether or not a fault took the place of the refusal.
        warnings: What is accepted and yet looks like a mistake.
        concurrent: Another call for the same application was in progress when this one arrived.
        status: The HTTP status that was (or is about to be) answered; None if the fault is to answer nothing.
        fault: The kind of the fault that happened to the call; None for a normal answer.
        duration: Seconds from arrival to the end of the answer; None while the call is in progress.
        abandoned: The client went away, or the emulator stopped, before the answer was complete.
    """

    number: int
    received: float
    method: str
    path: str
    application_id: str | None
    headers: Mapping[str, str]
    idempotency_key: str | None
    body: object
    raw: str
    violations: tuple[str, ...]
    warnings: tuple[str, ...]
    concurrent: bool
    status: int | None = None
    fault: str | None = None
    duration: float | None = None
    abandoned: bool = False

    @property
    def received_at(self) -> str:
        """When it was received: UTC, ISO 8601, microseconds."""
        # Made on demand: most calls of a long run are never looked at.
        return datetime.fromtimestamp(self.received, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def as_json(self) -> dict[str, object]:
        """The call as the control API and the journal show it."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "received"}
        lists = {"violations": list(self.violations), "warnings": list(self.warnings)}
        return shown | {"received_at": self.received_at} | lists


class JournalError(OperationError):
    """The journal cannot be opened or written."""


class CallLog:
    """The calls in the order of their numbers; with `keep`, so many of the newest, as far as `max_bytes` has room."""

    def __init__(self, keep: int | None, max_bytes: int = MAX_BYTES) -> None:
        self._calls: deque[Call] = deque()
        self._keep = keep
        self._max_bytes = max_bytes
        self._size = 0
        self._news = asyncio.Event()
        self.last_number = 0
        self._forgotten = 0

    def record(self, call: Call) -> None:
        """Append a call, which must carry the number `last_number + 1`."""
        self.last_number = call.number
        self._calls.append(call)
        if self._keep is not None:
            self._size += _size_of(call)
            while len(self._calls) > self._keep or self._size > self._max_bytes:
                self._size -= _size_of(self._calls.popleft())
        self._news.set()

    def after(self, number: int) -> list[Call]:
        """The calls that are kept and numbered above this."""
        # Counted off from the end (numbers have no gaps): a poll must not cost more with each call that is kept.
        wanted = max(0, min(len(self._calls), self.last_number - number))
        return list(islice(reversed(self._calls), wanted))[::-1]

    def forget(self) -> None:
        """Drop every call; the numbers go on."""
        self._calls.clear()
        self._size = 0
        self._forgotten = self.last_number

    async def wait(self, count: int, *, after: int = 0) -> None:
        """Wait until so many calls, forgotten ones not counted, have come with numbers above `after`."""
        number = max(after, self._forgotten) + count
        while self.last_number < number:
            self._news.clear()
            await self._news.wait()


def _size_of(call: Call) -> int:
    """About how many characters it has, as received: what they were parsed to takes some times as much."""
    return len(call.raw) + len(call.path) + sum(len(name) + len(value) for name, value in call.headers.items())


class Journal:
    """Calls on disk, one JSON line for each, in the order in which they ended.

    Written from the event loop itself: it goes to the page cache, and a thread's round trip would cost more.

    Args:
        path: The file; it is created if need be, and never truncated.
        on_failure: Called once when the file cannot be written any more; later calls are not journalled.

    Attributes:
        error: Why it cannot be written any more.

    Raises:
        JournalError: The file cannot be opened.
    """

    def __init__(self, path: Path, on_failure: Callable[[], None]) -> None:
        self._path = path
        self._on_failure = on_failure
        self.error: JournalError | None = None
        try:
            self._file = path.open("a+b", buffering=0)
            # What a killed predecessor left half written must not swallow the first line of this run.
            if self._file.seek(0, os.SEEK_END) > 0:
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    self._file.write(b"\n")
        except OSError as error:
            raise JournalError(
                f"cannot open the journal {path}: {error.strerror}; name a file in a folder that exists and is writable"
            ) from None

    def add(self, call: Call) -> None:
        """Append a call that is over."""
        if self.error is not None:
            return
        data = memoryview(json.dumps(call.as_json()).encode() + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self.error = JournalError(f"cannot write the journal {self._path}: {error.strerror}")
            self._on_failure()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


HIDDEN = "(hidden)"

_SECRET_BY_NAME = re.compile(r"auth|cookie|token|secret|password|api-?key", re.IGNORECASE)


def conceal(headers: Mapping[str, str], secret: frozenset[str]) -> dict[str, str]:
    """The headers, the values hidden of those that bear secrets; of a header that is repeated, the last one.

    Beside the ones named (in lower case), every header is hidden whose name says that it carries a credential: a
    client may send one that this emulator does not require.
    """
    return {
        name: HIDDEN if name.lower() in secret or _sounds_secret(name) else value for name, value in headers.items()
    }


# Clients send the same few names with each call.
@lru_cache(maxsize=256)
def _sounds_secret(name: str) -> bool:
    return _SECRET_BY_NAME.search(name) is not None

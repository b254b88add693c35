"""The received calls, without secrets."""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_BYTES = 64 * 1024 * 1024
"""Most characters of kept calls, if not all are kept."""

_SECRET = re.compile(r"auth|cookie|token|secret|password|api-?key", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Call:
    """One received call, and its end, which is set later.

    Attributes:
        number: from 1 on, in order of arrival.
        received: when its body was complete, in seconds since the epoch.
        path: with the query, percent-encoded.
        application_id: percent-decoded; None on other paths.
        headers: without secrets.
        body: parsed; None if it is no JSON.
        raw: the body as text.
        violations: what HelloWork would refuse, also if a fault did not let it.
        warnings: accepted, but probably mistakes.
        concurrent: whether another call for the application was in progress.
        status: of the answer; None without one.
        fault: its kind; None for a normal answer.
        duration: seconds from arrival to the answer's end; None until then.
        abandoned: whether the client left, or the emulator stopped, before that.
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

    def as_json(self) -> dict[str, object]:
        """The call for the control API and the journal; `received_at` is ISO 8601 in UTC."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "received"}
        received_at = datetime.fromtimestamp(self.received, UTC).isoformat(timespec="microseconds")
        lists = {"violations": list(self.violations), "warnings": list(self.warnings)}
        return shown | lists | {"received_at": received_at.replace("+00:00", "Z")}


class CallLog:
    """The calls in order; with `keep`, the newest ones, up to `max_bytes`."""

    def __init__(self, keep: int | None, max_bytes: int = MAX_BYTES) -> None:
        self._calls: deque[Call] = deque()
        self._keep = keep
        self._max_bytes = max_bytes
        self._size = 0
        self._news = asyncio.Event()
        self._forgotten = 0
        self.last_number = 0

    def record(self, call: Call) -> None:
        """Append a call, number `last_number + 1`."""
        self.last_number = call.number
        self._calls.append(call)
        self._size += _size_of(call)
        while self._keep is not None and (len(self._calls) > self._keep or self._size > self._max_bytes):
            self._size -= _size_of(self._calls.popleft())
        self._news.set()

    def after(self, number: int) -> list[Call]:
        """The kept calls above this number."""
        return [call for call in self._calls if call.number > number]

    def forget(self) -> None:
        """Drop all; numbers go on."""
        self._calls.clear()
        self._size = 0
        self._forgotten = self.last_number

    async def wait(self, count: int, *, after: int = 0) -> None:
        """Wait for so many calls above `after`, dropped ones not counted."""
        number = max(after, self._forgotten) + count
        while self.last_number < number:
            self._news.clear()
            await self._news.wait()


def _size_of(call: Call) -> int:
    """A call's characters."""
    return len(call.raw) + len(call.path) + sum(len(name) + len(value) for name, value in call.headers.items())


def conceal(headers: Mapping[str, str], secret: frozenset[str]) -> dict[str, str]:
    """Headers without the values of `secret` ones (in lower case) and of credentials."""
    return {
        name: "(hidden)" if name.lower() in secret or _SECRET.search(name) else value for name, value in headers.items()
    }

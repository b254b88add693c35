"""What was received, in order, and those who wait for more."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

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
        # Made when asked for: most calls of a long run are never looked at.
        return datetime.fromtimestamp(self.received, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def as_json(self) -> dict[str, object]:
        """The call as the control API and the journal show it."""
        return {
            "number": self.number,
            "received_at": self.received_at,
            "method": self.method,
            "path": self.path,
            "application_id": self.application_id,
            "headers": dict(self.headers),
            "idempotency_key": self.idempotency_key,
            "body": self.body,
            "raw": self.raw,
            "violations": list(self.violations),
            "warnings": list(self.warnings),
            "concurrent": self.concurrent,
            "status": self.status,
            "fault": self.fault,
            "duration": self.duration,
            "abandoned": self.abandoned,
        }


def _size_of(call: Call) -> int:
    """About how many characters it has, as received: what they were parsed to takes some times as much."""
    return len(call.raw) + len(call.path) + sum(len(name) + len(value) for name, value in call.headers.items())


class CallLog:
    """The calls in the order of their numbers; with `keep`, so many of the newest, as far as memory is for them."""

    def __init__(self, keep: int | None) -> None:
        self._calls: deque[Call] = deque()
        self._keep = keep
        self._size = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.last_number = 0
        self._forgotten = 0

    def record(self, call: Call) -> None:
        """Append a call, which must carry the number `last_number + 1`."""
        self.last_number = call.number
        self._calls.append(call)
        if self._keep is not None:
            self._size += _size_of(call)
            while len(self._calls) > self._keep or self._size > MAX_BYTES:
                self._size -= _size_of(self._calls.popleft())
        if self._waiting:
            for number, future in self._waiting:
                if number <= call.number and not future.done():
                    future.set_result(None)

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
        if self.last_number >= number:
            return
        entry = (number, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        finally:
            self._waiting.remove(entry)

"""HelloWork's emulator with failures on request (`support.faults`), and a longer memory."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from cdc_sync.emulator import server as emulator
from cdc_sync.emulator.server import refusal
from support import faults
from support.faults import Fault


@dataclass(eq=False)
class Call(emulator.Call):
    """A received call, and its end.

    Attributes:
        number: from 1 on, in order of arrival.
        headers: as received.
        concurrent: whether another call for the application was in progress.
        fault: its kind; None for a normal answer.
        duration: seconds from arrival to the answer's end; None until then.
        abandoned: whether the client left, or the emulator stopped, before that.
    """

    number: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    concurrent: bool = False
    fault: str | None = None
    duration: float | None = None
    abandoned: bool = False


@dataclass(frozen=True)
class EmulatorOptions:
    """Where it listens, what it requires, and the seconds between a call's arrival and its answer."""

    host: str = "127.0.0.1"
    port: int = 0
    required_headers: Mapping[str, str] = field(default_factory=dict)
    latency: float = 0.0


class Emulator(emulator.Emulator):
    """The emulator.

    Attributes:
        faults: the pending ones, with the `times` that are left.
        known: application ids; others are answered 404. None: all.
        state: each application's latest acknowledged body.
    """

    def __init__(self, options: EmulatorOptions = EmulatorOptions()) -> None:
        super().__init__(options.host, options.port, options.required_headers)
        self.faults: list[Fault] = []
        self.known: frozenset[str] | None = None
        self.state: dict[str, Any] = {}
        self._latency = options.latency
        self._seen: list[Call] = []
        self._open: dict[Call, web.BaseRequest] = {}
        self._news = asyncio.Event()
        self._number = 0

    @property
    def calls(self) -> list[Call]:
        """The calls, also those in progress."""
        return list(self._seen)

    def forget(self) -> None:
        """Drop the calls; numbers go on."""
        self._seen.clear()

    def inject(self, *wanted: object) -> None:
        """Append faults, made ones or as JSON."""
        self.faults += faults.parse_faults(wanted)

    async def wait_for_calls(self, count: int, timeout: float) -> list[Call]:  # noqa: ASYNC109 - as a test needs it
        """Wait for so many calls since the start or the last drop."""
        async with asyncio.timeout(timeout):
            while len(self._seen) < count:
                self._news.clear()
                await self._news.wait()
        return self.calls

    async def answer(self, call: emulator.Call, request: web.BaseRequest) -> web.StreamResponse:
        began = time.perf_counter()
        self._number += 1
        seen = Call(
            **vars(call),
            number=self._number,
            headers=dict(request.headers),
            concurrent=self._is_open(call.application_id),
        )
        self._seen.append(seen)
        self._news.set()
        self._open[seen] = request
        try:
            # No await since the call was read: the state follows the order of arrival.
            fault, answer = self._decide(seen, request)
            await asyncio.sleep(self._latency)
            return await faults.play(fault, answer, request)
        except asyncio.CancelledError:
            seen.abandoned = True
            raise
        except ConnectionError:
            seen.abandoned = True
            # aiohttp needs a response; the connection is closed.
            return web.Response()
        finally:
            del self._open[seen]
            seen.duration = time.perf_counter() - began

    def _decide(self, call: Call, request: web.BaseRequest) -> tuple[Fault | None, web.Response | None]:
        normal, fault = self._normal(call, request), None
        if call.application_id is not None and call.method == "POST":
            fault = faults.take(self.faults, call.application_id)
            if faults.is_success(normal.status) and faults.lets_through(fault):
                self.state[call.application_id] = call.body
        answer = faults.spoiled(fault, normal)
        call.fault = fault.kind if fault else None
        call.status = answer.status if answer is not None else None
        return fault, answer

    def _normal(self, call: Call, request: web.BaseRequest) -> web.Response:
        normal = self.judge(call, request.headers)
        if faults.is_success(normal.status) and self.known is not None and call.application_id not in self.known:
            return refusal(404, f"Could not find applicationInfo with id {call.application_id} for ATS staging")
        return normal

    def _is_open(self, application_id: str | None) -> bool:
        # Not given up ones: the next call may come before we notice.
        return application_id is not None and any(
            call.application_id == application_id and request.transport and not request.transport.is_closing()
            for call, request in self._open.items()
        )

"""Takes in one status call: reads it, judges it, records it, answers it."""

import asyncio
import time
from collections.abc import Callable

from aiohttp import StreamReader, web

from cdc_sync.emulator.answers import UPDATED, Answer, no_such_path, wrong_method
from cdc_sync.emulator.calls import Call, CallLog
from cdc_sync.emulator.concealment import Concealment
from cdc_sync.emulator.faults import Fault, lets_through
from cdc_sync.emulator.flights import Flights
from cdc_sync.emulator.registry import Registry
from cdc_sync.emulator.script import FaultScript
from cdc_sync.emulator.validation import MAX_BODY_BYTES, Target, read_body, read_target
from cdc_sync.emulator.wire import play, spoiled

_NO_SUCH_PATH = no_such_path("/v1/applications/{applicationId}/status")


class Intake:
    """Answers everything that is not the control API.

    Calls to wrong paths and with wrong methods are recorded like any other (they are a client's mistake that a test
    must see), but no fault is spent on them.

    Args:
        log: Where calls are recorded on arrival.
        registry: What HelloWork knows.
        script: The faults that wait.
        concealment: Hides secret headers.
        latency: Seconds between a call's arrival and whatever is answered.
        on_end: Told of each call that is over.
    """

    def __init__(
        self,
        log: CallLog,
        registry: Registry,
        script: FaultScript,
        concealment: Concealment,
        *,
        latency: float,
        on_end: Callable[[Call], None],
    ) -> None:
        self._log = log
        self._registry = registry
        self._script = script
        self._concealment = concealment
        self._latency = latency
        self._on_end = on_end
        self._flights = Flights()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take in a call.

        Raises:
            asyncio.CancelledError: The client left, or the emulator stops.
        """
        started = time.perf_counter()
        target = read_target(request.raw_path)
        if target is None:
            return await self._take_in(request, started, target, concurrent=False)
        connection = request.protocol
        concurrent = self._flights.begin(target.application_id, connection)
        try:
            return await self._take_in(request, started, target, concurrent=concurrent)
        finally:
            self._flights.end(target.application_id, connection)

    async def _take_in(
        self, request: web.BaseRequest, started: float, target: Target | None, *, concurrent: bool
    ) -> web.StreamResponse:
        call = await self._record(request, target, concurrent=concurrent)
        try:
            # No await between the record and the decision: whoever sees the call sees also how it will be answered,
            # and what HelloWork knows of an application is what arrived last, however late its answer is.
            fault, answer = self._decide(request, call)
            if self._latency:
                await asyncio.sleep(self._latency)
            return await play(fault, answer, request)
        except asyncio.CancelledError:
            call.abandoned = True
            raise
        except ConnectionError:
            call.abandoned = True
            # Goes nowhere: the server wants a response, and finds the connection closed.
            return web.Response()
        finally:
            call.duration = time.perf_counter() - started
            self._on_end(call)

    async def _record(self, request: web.BaseRequest, target: Target | None, *, concurrent: bool) -> Call:
        headers = request.headers
        reading = read_body(await _read(request.content), headers.get("Content-Type"))
        call = Call(
            number=self._log.last_number + 1,
            received=time.time(),
            method=request.method,
            path=request.raw_path,
            application_id=target.application_id if target else None,
            headers=self._concealment.conceal(headers),
            idempotency_key=headers.get("Idempotency-Key"),
            body=reading.body,
            raw=reading.text,
            violations=(*(target.violations if target else ()), *reading.violations),
            warnings=reading.warnings,
            concurrent=concurrent,
        )
        self._log.record(call)
        return call

    def _decide(self, request: web.BaseRequest, call: Call) -> tuple[Fault | None, Answer | None]:
        fault = None
        if call.application_id is None:
            normal = _NO_SUCH_PATH
        elif call.method != "POST":
            normal = wrong_method(call.method, ("POST",))
        else:
            fault = self._script.take(call.application_id)
            normal = self._registry.judge(call.application_id, request.headers, call.violations)
            if normal is UPDATED and isinstance(call.body, dict) and (fault is None or lets_through(fault)):
                self._registry.acknowledge(call.application_id, call.body)
        answer = spoiled(fault, normal) if fault else normal
        call.fault = fault.kind if fault else None
        call.status = answer.status if answer else None
        return fault, answer


async def _read(content: StreamReader) -> bytes:
    # Most bodies come in one piece; no more of one that is too big is read than shows it.
    raw = await content.readany()
    while not content.at_eof() and len(raw) <= MAX_BODY_BYTES:
        raw += await content.readany()
    return raw

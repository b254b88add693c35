"""HelloWork's status API: takes in a call, judges it by what HelloWork knows, records it, answers it."""

import asyncio
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from cdc_sync.emulator.answers import UPDATED, Answer, no_such_path, play, refusal, spoiled, wrong_method
from cdc_sync.emulator.calls import Call, CallLog, conceal
from cdc_sync.emulator.faults import Fault, FaultScript, lets_through
from cdc_sync.emulator.options import EmulatorOptions
from cdc_sync.emulator.validation import MAX_BODY_BYTES, Target, read_body, read_target


class StatusApi:
    """Answers everything that is not the control API.

    Calls to wrong paths and with wrong methods are recorded like any other (they are a client's mistake that a test
    must see), but no fault is spent on them.

    Args:
        options: what it knows and demands.
        on_end: told of each call that is over.

    Attributes:
        log: the calls, recorded on arrival.
        script: the faults that wait.
        known: the application ids that exist; None: every one does.
        state: the body of the latest acknowledged call of each application; of `options.keep` applications, those
            called last.
    """

    def __init__(self, options: EmulatorOptions, on_end: Callable[[Call], None] = lambda _: None) -> None:
        self.log = CallLog(options.keep)
        self.script = FaultScript()
        self.known = options.known
        self.state: dict[str, dict[str, object]] = {}
        self._options = options
        self._secret = frozenset(name.lower() for name in options.required_headers)
        self._on_end = on_end
        # The connections by which each application's calls in progress came.
        self._open: dict[str, list[web.BaseRequest]] = {}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take in a call.

        Raises:
            asyncio.CancelledError: The client left, or the emulator stops.
        """
        started = time.perf_counter()
        target = read_target(request.raw_path)
        if target is None:
            return await self._take_in(request, started, None, concurrent=False)
        others = self._open.setdefault(target.application_id, [])
        # One whose client has left does not count: the client is done with it, and may well be quicker with its next
        # call than this server in noticing.
        concurrent = any(other.transport is not None and not other.transport.is_closing() for other in others)
        others.append(request)
        try:
            return await self._take_in(request, started, target, concurrent=concurrent)
        finally:
            others.remove(request)
            if not others:
                del self._open[target.application_id]

    async def _take_in(
        self, request: web.BaseRequest, started: float, target: Target | None, *, concurrent: bool
    ) -> web.StreamResponse:
        headers = request.headers
        reading = read_body(await _read(request), headers.get("Content-Type"))
        call = Call(
            number=self.log.last_number + 1,
            received=time.time(),
            method=request.method,
            path=request.raw_path,
            application_id=target.application_id if target else None,
            headers=conceal(headers, self._secret),
            idempotency_key=headers.get("Idempotency-Key"),
            body=reading.body,
            raw=reading.text,
            violations=(*(target.violations if target else ()), *reading.violations),
            warnings=reading.warnings,
            concurrent=concurrent,
        )
        self.log.record(call)
        try:
            # No await between the record and the decision: whoever sees the call sees also how it will be answered,
            # and what HelloWork knows of an application is what arrived last, however late its answer is.
            fault, answer = self._decide(headers, call)
            if self._options.latency:
                await asyncio.sleep(self._options.latency)
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

    def _decide(self, headers: Mapping[str, str], call: Call) -> tuple[Fault | None, Answer | None]:
        fault = None
        if call.application_id is None:
            normal = no_such_path()
        elif call.method != "POST":
            normal = wrong_method(call.method, ("POST",))
        else:
            fault = self.script.take(call.application_id)
            normal = self._judge(call.application_id, headers, call.violations)
            if normal is UPDATED and isinstance(call.body, dict) and (fault is None or lets_through(fault)):
                self._acknowledge(call.application_id, call.body)
        answer = spoiled(fault, normal) if fault else normal
        call.fault = fault.kind if fault else None
        call.status = answer.status if answer else None
        return fault, answer

    def _judge(self, application_id: str, headers: Mapping[str, str], violations: tuple[str, ...]) -> Answer:
        """The normal answer to a call: who calls is looked at first, then what is said, then of whom."""
        for name, value in self._options.required_headers.items():
            if headers.get(name) != value:
                # Its value, wanted or found, is nobody's business.
                return refusal(401, f"Header {name} is missing or wrong")
        if violations:
            return refusal(400, "; ".join(violations))
        if self.known is not None and application_id not in self.known:
            ats = self._options.ats_name
            return refusal(404, f"Could not find applicationInfo with id {application_id} for ATS {ats}")
        return UPDATED

    def _acknowledge(self, application_id: str, body: dict[str, object]) -> None:
        """Remember the body of a call that was, or was nearly, answered with success."""
        if self._options.keep is not None:
            self.state.pop(application_id, None)
            while len(self.state) >= self._options.keep:
                del self.state[next(iter(self.state))]
        self.state[application_id] = body


async def _read(request: web.BaseRequest) -> bytes:
    # Most bodies come in one piece; no more of one that is too big is read than shows it.
    raw = await request.content.readany()
    while not request.content.at_eof() and len(raw) <= MAX_BODY_BYTES:
        raw += await request.content.readany()
    return raw

"""The emulator: receives, validates, records and answers calls.

Wrong paths and methods are recorded too, but use up no fault.

The control API, `/_emulator/…`, belongs on loopback or a trusted network. It refuses requests of another site's pages,
and on loopback those with another host's name (DNS rebinding).
"""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from cdc_sync.config import HostPort
from cdc_sync.core.failures import OperationError
from cdc_sync.emulator import faults
from cdc_sync.emulator.calls import Call, CallLog, conceal
from cdc_sync.emulator.faults import Fault, refusal
from cdc_sync.emulator.validation import MAX_BODY_BYTES, read_call
from cdc_sync.listening import (
    Listener,
    allow_all_descriptors,
    bugs_alone,
    comes_from_ourselves,
    descriptors,
    names_loopback,
)

_STOP_GRACE_SECONDS = 0.1
_NO_SUCH_PATH = "No such path; expected /v1/applications/{applicationId}/status"

PREFIX = "/_emulator/"
MAX_CONTROL_BYTES = 8 * 1024 * 1024
"""A list of a hundred thousand faults or application ids."""

_OUR_SITES = frozenset({"same-origin", "none"})
"""`none`: a typed address, or one clicked in a terminal."""

_METHODS = {"calls": "GET, DELETE", "state": "GET, DELETE", "faults": "GET, POST, DELETE", "applications": "GET, PUT"}

_KNOWN = TypeAdapter[frozenset[str] | None](frozenset[Annotated[str, Field(min_length=1)]] | None)

_logger = logging.getLogger(__name__)
_logger.addFilter(bugs_alone)


class ListenError(OperationError):
    """The address cannot be listened on."""


class JournalError(OperationError):
    """The journal cannot be opened or written."""


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """How an emulator listens, what it knows and requires.

    Attributes:
        port: 0 takes a free one.
        known: application ids; others are answered 404. None: all.
        required_headers: headers (any case) and values; calls without are answered 401.
        journal: a file for a JSON line of each ended call.
        latency: seconds between a call's arrival and its answer.
        keep: how many calls are kept, the newest ones, up to 64 MiB, and the state of how many applications; None: all.
    """

    host: str = "127.0.0.1"
    port: int = 0
    known: frozenset[str] | None = None
    # Secrets: in no repr.
    required_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    journal: Path | None = None
    latency: float = 0.0
    keep: int | None = None


@dataclass(eq=False)
class Emulator:
    """HelloWork's status API, served within the context, once.

    Args:
        options: by default it knows every application and requires no header.
        on_call: gets each ended call, in the event loop.
        places: most connections, twice what a cdc-sync opens; at most half of the limit of open files.
        request_within: seconds for a complete request.
        idle: seconds of silence on a connection; clients close theirs earlier (aiohttp: 15).

    Attributes:
        url: the base URL, without a slash at the end.
        log: the calls, recorded on arrival.
        faults: the pending ones, with the `times` that are left.
        known: as in the options.
        state: each application's latest acknowledged body, of `options.keep` applications.
        is_loopback: whether only this machine can reach it.
        over: set when it has failed; the exit raises the error.

    Raises:
        ListenError: on entry.
        JournalError: on entry, or on exit if it could not be written.
    """

    options: EmulatorOptions = field(default_factory=EmulatorOptions)
    _: KW_ONLY
    on_call: Callable[[Call], None] = lambda _: None
    places: int = 2_000
    request_within: float = 10.0
    idle: float = 75.0

    def __post_init__(self) -> None:
        options = self.options
        self._journal: FileIO | None = None
        self._journal_error: JournalError | None = None
        self._secret = frozenset(name.lower() for name in options.required_headers)
        self._open: dict[Call, web.BaseRequest] = {}
        self.url = ""
        self.log = CallLog(options.keep)
        self.faults: list[Fault] = []
        self.known = options.known
        self.state: dict[str, Any] = {}
        self.is_loopback = HostPort(options.host, options.port).is_loopback
        self.over = asyncio.Event()

    @property
    def calls(self) -> list[Call]:
        """The kept calls, also those in progress, in order of arrival."""
        return self.log.after(0)

    def inject(self, *wanted: object) -> None:
        """Append faults, made ones or parsed JSON: all, or `FaultError` is raised."""
        parsed = faults.parse_faults(wanted)
        if len(self.faults) + len(parsed) > faults.MAX_FAULTS:
            raise faults.FaultError(f"more than {faults.MAX_FAULTS} faults would wait; remove some, or use `times`")
        self.faults += parsed

    async def wait_for_calls(self, count: int, timeout: float) -> list[Call]:  # noqa: ASYNC109 - as a test needs it
        """Wait for so many calls since the start or the last drop; returns the kept ones.

        Raises:
            TimeoutError: not within so many seconds.
        """
        async with asyncio.timeout(timeout):
            await self.log.wait(count)
        return self.calls

    async def __aenter__(self) -> Self:
        options = self.options
        if options.journal is not None:
            try:
                self._journal = FileIO(options.journal, "a+")
                # A killed run may have left half a line.
                if self._journal.tell() > 0:
                    self._journal.seek(-1, os.SEEK_END)
                    if self._journal.read(1) != b"\n":
                        self._journal.write(b"\n")
            except OSError as error:
                raise JournalError(
                    f"cannot open the journal {options.journal}: {error.strerror}; name a file in a folder that exists "
                    "and is writable"
                ) from None
        # Low-level: a router and middlewares would double the costs. To HelloWork a compressed body is no JSON.
        self._server = web.Server(
            self._answer, handler_cancellation=True, access_log=None, logger=_logger, auto_decompress=False
        )
        most = min(self.places, descriptors() // 2)
        self._listener = Listener(self._server, most=most, request_within=self.request_within, idle=self.idle)
        try:
            await self._listener.open(options.host, options.port)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {options.host} port {options.port}: {error.strerror or error}; "
                "choose an address of this machine and a free port (0 takes any)"
            ) from None
        self.url = f"http://{HostPort(options.host, self._listener.port)}"
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(_STOP_GRACE_SECONDS)
        # A client that reads nothing would keep its connection.
        self._listener.abort()
        # The transports free their sockets in the next turn of the loop.
        await asyncio.sleep(0)
        if self._journal is not None:
            self._journal.close()
        if self._journal_error is not None and error is None:
            raise self._journal_error

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        with self._listener.answering(request):
            if request.raw_path.startswith(PREFIX):
                return await _control(self, request)
            if request.method == "HEAD" and request.raw_path == "/":
                # `cdc-sync check` looks for a server.
                return refusal(404, _NO_SUCH_PATH)
            return await self._take_in(request)

    async def _take_in(self, request: web.BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        headers = request.headers
        # Most bodies come in one piece. A too large one is not read to its end.
        raw = await request.content.readany()
        while not request.content.at_eof() and len(raw) <= MAX_BODY_BYTES:
            raw += await request.content.readany()
        reading = read_call(request.raw_path, raw, headers.get("Content-Type"))
        call = Call(
            number=self.log.last_number + 1,
            received=time.time(),
            method=request.method,
            path=request.raw_path,
            headers=conceal(headers, self._secret),
            idempotency_key=headers.get("Idempotency-Key"),
            concurrent=self._is_open(reading.application_id),
            **reading._asdict(),
        )
        self.log.record(call)
        self._open[call] = request
        try:
            # No await since the record: the state follows the order of arrival.
            fault, answer = self._decide(headers, call)
            if self.options.latency:
                await asyncio.sleep(self.options.latency)
            return await faults.play(fault, answer, request)
        except asyncio.CancelledError:
            call.abandoned = True
            raise
        except ConnectionError:
            call.abandoned = True
            # aiohttp needs a response; the connection is closed.
            return web.Response()
        finally:
            del self._open[call]
            call.duration = time.perf_counter() - started
            self._write(call)
            self.on_call(call)

    def _is_open(self, application_id: str | None) -> bool:
        # Not given up ones: the next call may come before we notice.
        return application_id is not None and any(
            call.application_id == application_id and request.transport and not request.transport.is_closing()
            for call, request in self._open.items()
        )

    def _write(self, call: Call) -> None:
        """Append an ended call to the journal: fast, in the page cache."""
        if self._journal is not None and self._journal_error is None:
            line = memoryview(json.dumps(call.as_json()).encode() + b"\n")
            try:
                while line:
                    line = line[self._journal.write(line) :]
            except OSError as error:
                self._journal_error = JournalError(f"cannot write the journal {self._journal.name}: {error.strerror}")
                self.over.set()

    def _decide(self, headers: Mapping[str, str], call: Call) -> tuple[Fault | None, web.Response | None]:
        fault, refused = None, self._refused(headers, call)
        if call.application_id is not None and call.method == "POST":
            fault = faults.take(self.faults, call.application_id)
            if refused is None and faults.lets_through(fault):
                # At the end: those called last stay.
                self.state.pop(call.application_id, None)
                self.state[call.application_id] = call.body
                if len(self.state) > (self.options.keep or len(self.state)):
                    del self.state[next(iter(self.state))]
        answer = faults.spoiled(fault, refused or faults.updated())
        call.fault = fault.kind if fault else None
        call.status = answer.status if answer is not None else None
        return fault, answer

    def _refused(self, headers: Mapping[str, str], call: Call) -> web.Response | None:
        """The refusal of a call."""
        if call.application_id is None:
            return refusal(404, _NO_SUCH_PATH)
        if call.method != "POST":
            return _wrong_method(call.method, "POST")
        for name, value in self.options.required_headers.items():
            if headers.get(name) != value:
                # Both values are secrets.
                return refusal(401, f"Header {name} is missing or wrong")
        if call.violations:
            return refusal(400, "; ".join(call.violations))
        if self.known is not None and call.application_id not in self.known:
            return refusal(404, f"Could not find applicationInfo with id {call.application_id} for ATS staging")
        return None


def _wrong_method(method: str, allow: str) -> web.Response:
    return refusal(405, f"Method {method} is not allowed here; expected {allow}", {"Allow": allow})


class _Wanted(BaseModel, extra="forbid"):
    """The parameters of `GET /_emulator/calls`."""

    after: Annotated[int, Field(ge=0)] = 0
    wait: Annotated[float, Field(ge=0, le=3_600)] = 0
    count: Annotated[int, Field(ge=1)] = 1


async def _control(emulator: Emulator, request: web.BaseRequest) -> web.Response:  # noqa: PLR0911 - each refusal
    """Answer or refuse a request to the control API."""
    host = request.headers.get("Host")
    # Every browser sends Host.
    if emulator.is_loopback and host is not None and not names_loopback(host):
        return refusal(421, f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1 or localhost")
    if not comes_from_ourselves(request, _OUR_SITES):
        return refusal(403, "this was requested by a page of another site")
    name = request.path.removeprefix(PREFIX)
    if (allow := _METHODS.get(name)) is None:
        return refusal(404, f"No such path; expected {', '.join(PREFIX + each for each in _METHODS)}")
    if request.method not in allow.split(", "):
        return _wrong_method(request.method, allow)
    try:
        return await _obey(emulator, request.method, name, request.clone(client_max_size=MAX_CONTROL_BYTES))
    except ValidationError as error:
        return refusal(400, faults.explain(error))
    except (ValueError, faults.FaultError) as error:
        return refusal(400, str(error))


async def _obey(emulator: Emulator, method: str, name: str, request: web.BaseRequest) -> web.Response:
    match method, name:
        case "GET", "calls":
            poll = _Wanted.model_validate(dict(request.query))
            # Fewer calls are an answer too.
            with suppress(TimeoutError):
                async with asyncio.timeout(poll.wait):
                    await emulator.log.wait(poll.count, after=poll.after)
            return faults.answer([call.as_json() for call in emulator.log.after(poll.after)])
        case "DELETE", "calls":
            emulator.log.forget()
        case "GET", "state":
            return faults.answer(emulator.state)
        case "DELETE", "state":
            emulator.state = {}
        case "POST", "faults":
            wanted = from_json(await request.read())
            emulator.inject(*(wanted if isinstance(wanted, list) else [wanted]))
            return faults.answer([faults.describe(fault) for fault in emulator.faults])
        case "GET", "faults":
            return faults.answer([faults.describe(fault) for fault in emulator.faults])
        case "DELETE", "faults":
            emulator.faults.clear()
        case "GET", "applications":
            return faults.answer(None if emulator.known is None else sorted(emulator.known))
        case "PUT", "applications":
            emulator.known = _KNOWN.validate_json(await request.read())
    return web.Response(status=204)


async def serve(
    options: EmulatorOptions,
    *,
    on_start: Callable[[str], None] = lambda _: None,
    on_call: Callable[[Call], None] = lambda _: None,
) -> None:
    """Serve an `Emulator` until cancelled, SIGTERM or SIGINT; in the main thread only.

    `on_start` gets the base URL once calls are accepted.
    """
    allow_all_descriptors()
    emulator = Emulator(options, on_call=on_call)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, emulator.over.set)
    async with emulator:
        on_start(emulator.url)
        await emulator.over.wait()

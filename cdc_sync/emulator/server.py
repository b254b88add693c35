"""The emulator's server. `GET /_emulator/calls` lists the calls that were recorded; other paths are HelloWork's."""

import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Self
from urllib.parse import unquote

from aiohttp import web

from cdc_sync.config import HostPort
from cdc_sync.core.failures import OperationError

from .validation import violations

CALLS = "/_emulator/calls"

_KEPT = 1_000
"""Calls that are listed, the newest ones."""

_STATUS_PATH = re.compile(r"/v1/applications/([^/?]+)/status(?:\?.*)?")

_LONGEST_FAREWELL = 0.1
"""Seconds for calls under way at the end."""


@dataclass(eq=False)
class Call:
    """A received call, and its answer.

    Attributes:
        received: when its body was complete, in seconds since the epoch.
        path: as received, with the query.
        application_id: percent-decoded; None on other paths.
        body: parsed; None if it is no JSON.
        raw: the body as text.
        violations: what HelloWork would refuse.
        status: of the answer; None before.
    """

    received: float
    method: str
    path: str
    application_id: str | None
    idempotency_key: str | None
    body: object
    raw: str
    violations: Sequence[str]
    status: int | None = None

    def as_json(self) -> dict[str, object]:
        """The call as it is listed."""
        return {**asdict(self), "received": datetime.fromtimestamp(self.received, UTC).isoformat()}


class Emulator:
    """HelloWork's status API, within `async with`.

    Args:
        port: 0 takes a free one.
        required_headers: a call without these is answered 401.
        on_call: gets each answered call.

    Attributes:
        url: the base URL, once it listens.

    Raises:
        OperationError: on entry, if the address cannot be listened on.
    """

    url: str

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        required_headers: Mapping[str, str] | None = None,
        on_call: Callable[[Call], None] = lambda _: None,
    ) -> None:
        self.on_call = on_call
        self._host, self._port = host, port
        self._required = required_headers or {}
        self._calls: deque[Call] = deque(maxlen=_KEPT)

    @property
    def calls(self) -> Sequence[Call]:
        """The recorded calls, in order of arrival."""
        return list(self._calls)

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=_LONGEST_FAREWELL)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except (OSError, UnicodeError) as error:
            await self._runner.cleanup()
            raise OperationError(
                f"cannot listen on {self._host} port {self._port}: {error}; choose an address of this machine and a "
                "free port (0 takes any)"
            ) from None
        self.url = f"http://{HostPort(self._host, self._runner.addresses[0][1])}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD":
            return refusal(404, "No such path")  # `cdc-sync check` looks for a server
        if request.method == "GET" and request.path == CALLS:
            return web.json_response([call.as_json() for call in self.calls])
        return await self.answer(await _read(request), request)

    async def answer(self, call: Call, request: web.BaseRequest) -> web.StreamResponse:
        """Record a call, and answer it."""
        self._calls.append(call)
        response = self.judge(call, request.headers)
        call.status = response.status
        self.on_call(call)
        return response

    def judge(self, call: Call, headers: Mapping[str, str]) -> web.Response:
        """HelloWork's answer."""
        if call.application_id is None or call.method != "POST":
            return refusal(404, "No such path; expected POST /v1/applications/{applicationId}/status")
        for name, value in self._required.items():
            if headers.get(name) != value:
                return refusal(401, f"Header {name} is missing or wrong")
        if call.violations:
            return refusal(400, "; ".join(call.violations))
        return web.json_response({"result": "Status was updated successfully"})


async def _read(request: web.BaseRequest) -> Call:
    path, raw = request.raw_path, await request.read()
    found = _STATUS_PATH.fullmatch(path)
    body: object = None
    try:
        body = json.loads(raw.decode())
        wrong = tuple(violations(body, request.content_type))
    except (ValueError, RecursionError) as error:
        wrong = (f"body: expected JSON: {error}",)
    return Call(
        received=time.time(),
        method=request.method,
        path=path,
        application_id=unquote(found[1]) if found else None,
        idempotency_key=request.headers.get("Idempotency-Key"),
        body=body,
        raw=raw.decode(errors="replace"),
        violations=wrong,
    )


def refusal(status: int, message: str) -> web.Response:
    """An error in the form that HelloWork documents."""
    document = {"statusCode": status, "error": HTTPStatus(status).phrase, "message": message}
    return web.json_response(document, status=status)

"""The control API, `/_emulator/…`: what was received, and what shall go wrong.

It has no authentication: it belongs on loopback, or on a network where everyone may play. The pages of a browser may
not: it refuses what comes for a page of another site, and on loopback what names another host (DNS rebinding).
"""

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from cdc_sync.emulator.calls import Call
from cdc_sync.emulator.faults import FaultError, answer, no_such_path, not_among, parse_faults, refusal, wrong_method
from cdc_sync.listening import comes_from_ourselves, names_loopback

if TYPE_CHECKING:
    from cdc_sync.emulator.server import Emulator

PREFIX = "/_emulator/"
MAX_WAIT_SECONDS = 3_600
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a list of faults or of application ids: a hundred thousand of these, and of those more than anybody scripts."""

_OUR_SITES = frozenset({"same-origin", "none"})
"""`none`: a person has typed the address, or clicked it in a terminal."""

_METHODS = {
    "calls": ("GET", "DELETE"),
    "state": ("GET", "DELETE"),
    "faults": ("GET", "POST", "DELETE"),
    "applications": ("GET", "PUT"),
}


class _Wanted(BaseModel, extra="forbid"):
    """The parameters of `GET /_emulator/calls`; a description says what is expected."""

    after: int = Field(default=0, ge=0, description="a whole number from 0 on")
    wait: float = Field(
        default=0, ge=0, le=MAX_WAIT_SECONDS, description=f"a number of seconds from 0 to {MAX_WAIT_SECONDS}"
    )
    count: int = Field(default=1, ge=1, description="a whole number from 1 on")


class _RefusedError(Exception):
    """The request makes no sense; the text says why and what would."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


async def control(emulator: "Emulator", request: web.BaseRequest) -> web.Response:
    """Do what a request requires, if it is allowed to."""
    name = request.path.removeprefix(PREFIX)
    try:
        _check_origin(request, is_loopback=emulator.is_loopback)
        if name not in _METHODS:
            return no_such_path(", ".join(PREFIX + each for each in _METHODS))
        if request.method not in _METHODS[name]:
            return wrong_method(request.method, *_METHODS[name])
        return await _obey(emulator, name, request)
    except _RefusedError as error:
        return refusal(error.status, str(error))
    except FaultError as error:
        return refusal(400, str(error))


def _check_origin(request: web.BaseRequest, *, is_loopback: bool) -> None:
    host = request.headers.get("Host")
    # No browser leaves Host out.
    if is_loopback and host is not None and not names_loopback(host):
        raise _RefusedError(f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1 or localhost", 421)
    if not comes_from_ourselves(request, _OUR_SITES):
        raise _RefusedError("this was requested by a page of another site", 403)


async def _obey(emulator: "Emulator", name: str, request: web.BaseRequest) -> web.Response:
    match name, request.method:
        case "calls", "GET":
            return answer([call.as_json() for call in await _calls(emulator, request)])
        case "calls", "DELETE":
            emulator.log.forget()
        case "state", "GET":
            return answer(emulator.state)
        case "state", "DELETE":
            emulator.state = {}
        case "faults", "GET":
            return answer(emulator.pending_faults)
        case "faults", "POST":
            emulator.script.add(parse_faults(await _document(request)))
            return answer(emulator.pending_faults)
        case "faults", "DELETE":
            emulator.script.clear()
        case "applications", "GET":
            return answer(None if emulator.known is None else sorted(emulator.known))
        case "applications", "PUT":
            emulator.known = _known(await _document(request))
    return web.Response(status=204)


async def _calls(emulator: "Emulator", request: web.BaseRequest) -> list[Call]:
    try:
        wanted = _Wanted.model_validate(dict(request.query))
    except ValidationError as error:
        (name, *_), found = error.errors()[0]["loc"], error.errors()[0]["input"]
        if name not in _Wanted.model_fields:
            raise _RefusedError(not_among(name, "parameter", list(_Wanted.model_fields))) from None
        expected = _Wanted.model_fields[str(name)].description
        raise _RefusedError(f"{name} is {found!r}; expected {expected}") from None
    if wanted.wait:
        # Fewer calls than hoped for are an answer, too.
        with suppress(TimeoutError):
            async with asyncio.timeout(wanted.wait):
                await emulator.log.wait(wanted.count, after=wanted.after)
    return emulator.log.after(wanted.after)


def _known(document: object) -> frozenset[str] | None:
    if document is None:
        return None
    if isinstance(document, list) and all(isinstance(each, str) and each for each in document):
        return frozenset(document)
    raise _RefusedError("expected a JSON list of application ids (non-empty strings), or null for any")


async def _document(request: web.BaseRequest) -> object:
    # Unlike the API's own calls not bound to a Content-Type: `curl -d` names a form.
    raw = bytearray()
    while piece := await request.content.readany():
        raw += piece
        if len(raw) > MAX_BODY_BYTES:
            raise _RefusedError(f"the body must not exceed {MAX_BODY_BYTES} bytes", 413)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(f"the body must be JSON: {error}") from None

"""The control API, `/_emulator/…`: what was received, and what shall go wrong.

It has no authentication: it belongs on loopback, or on a network where everyone may play. The pages of a browser may
not: it refuses what comes for a page of another site, and on loopback what names another host (DNS rebinding).
"""

import asyncio
import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

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
_LIST_PARAMETERS = ("after", "wait", "count")


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
    for name in request.query:
        if name not in _LIST_PARAMETERS:
            raise _RefusedError(not_among(name, "parameter", _LIST_PARAMETERS))
    after, count = _whole_number(request, "after", 0), _whole_number(request, "count", 1)
    text = request.query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise _RefusedError(f"wait is {text!r}; expected a number of seconds from 0 to {MAX_WAIT_SECONDS}")
    if seconds:
        # Fewer calls than hoped for are an answer, too.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await emulator.log.wait(count, after=after)
    return emulator.log.after(after)


def _whole_number(request: web.BaseRequest, name: str, least: int) -> int:
    text = request.query.get(name, str(least))
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise _RefusedError(f"{name} is {text!r}; expected a whole number from {least} on")
    return number


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

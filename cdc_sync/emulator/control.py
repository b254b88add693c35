"""The control API, `/_emulator/…`: what was received, and what shall go wrong.

It has no authentication: it belongs on loopback, or on a network where everyone may play. The pages of a browser may
not: it refuses what comes for a page of another site, and on loopback what names another host (DNS rebinding).
"""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiohttp import web

from cdc_sync.emulator.answers import Answer, no_such_path, refusal, shown, wrong_method
from cdc_sync.emulator.calls import Call
from cdc_sync.emulator.faults import FaultError, not_among, parse_faults
from cdc_sync.emulator.status_api import StatusApi
from cdc_sync.listening import comes_from_ourselves, names_loopback

PREFIX = "/_emulator/"
MAX_WAIT_SECONDS = 3_600
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a list of faults or of application ids: a hundred thousand of these, and of those more than anybody scripts."""

_OUR_SITES = frozenset({"same-origin", "none"})
"""`none`: a person has typed the address, or clicked it in a terminal."""

_METHODS: Mapping[str, Sequence[str]] = {
    "calls": ("GET", "DELETE"),
    "state": ("GET", "DELETE"),
    "faults": ("GET", "POST", "DELETE"),
    "applications": ("GET", "PUT"),
}
_LIST_PARAMETERS = ("after", "wait", "count")


class _BadRequestError(Exception):
    """The request makes no sense; the text says why and what would."""


class _TooLargeError(Exception):
    """The body is larger than anybody needs."""


class Control:
    """Answers the requests below `/_emulator/`; `is_loopback` tells whether nobody else can reach it."""

    def __init__(self, api: StatusApi, *, is_loopback: bool) -> None:
        self._is_loopback = is_loopback
        self._api = api

    async def answer(self, request: web.BaseRequest) -> Answer:
        """Do what the request asks for, if it may."""
        if foreign := self._foreign(request):
            return foreign
        name = request.path.removeprefix(PREFIX)
        if name not in _METHODS:
            return no_such_path(", ".join(PREFIX + each for each in _METHODS))
        if request.method not in _METHODS[name]:
            return wrong_method(request.method, _METHODS[name])
        try:
            return await self._do(name, request)
        except (_BadRequestError, FaultError) as error:
            return refusal(400, str(error))
        except _TooLargeError:
            return refusal(413, f"the body must not exceed {MAX_BODY_BYTES} bytes")

    def _foreign(self, request: web.BaseRequest) -> Answer | None:
        host = request.headers.get("Host")
        # No browser leaves Host out.
        if self._is_loopback and host is not None and not names_loopback(host):
            return refusal(421, f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1 or localhost")
        if not comes_from_ourselves(request, _OUR_SITES):
            return refusal(403, "this was asked for by a page of another site")
        return None

    async def _do(self, name: str, request: web.BaseRequest) -> Answer:
        api = self._api
        match name, request.method:
            case "calls", "GET":
                return shown([call.as_json() for call in await self._calls(request)])
            case "calls", "DELETE":
                api.log.forget()
            case "state", "GET":
                return shown(api.state)
            case "state", "DELETE":
                api.state.clear()
            case "faults", "GET":
                return shown(api.script.pending())
            case "faults", "POST":
                api.script.add(parse_faults(await _document(request)))
                return shown(api.script.pending())
            case "faults", "DELETE":
                api.script.clear()
            case "applications", "GET":
                return shown(None if api.known is None else sorted(api.known))
            case "applications", "PUT":
                api.known = _known(await _document(request))
        return Answer(204, b"", {})

    async def _calls(self, request: web.BaseRequest) -> list[Call]:
        for name in request.query:
            if name not in _LIST_PARAMETERS:
                raise _BadRequestError(not_among(name, "parameter", _LIST_PARAMETERS))
        after = _whole_number(request, "after", default=0, least=0)
        count = _whole_number(request, "count", default=1, least=1)
        text = request.query.get("wait", "0")
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= MAX_WAIT_SECONDS:
            raise _BadRequestError(f"wait is {text!r}; expected a number of seconds from 0 to {MAX_WAIT_SECONDS}")
        if seconds:
            # Fewer calls than hoped for are an answer, too.
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._api.log.wait(count, after=after)
        return self._api.log.after(after)


def _known(document: object) -> frozenset[str] | None:
    if document is None:
        return None
    if isinstance(document, list) and all(isinstance(each, str) and each for each in document):
        return frozenset(document)
    raise _BadRequestError("expected a JSON list of application ids (non-empty strings), or null for any")


async def _document(request: web.BaseRequest) -> object:
    # Unlike the API's own calls not bound to a Content-Type: `curl -d` names a form.
    raw = bytearray()
    while piece := await request.content.readany():
        raw += piece
        if len(raw) > MAX_BODY_BYTES:
            raise _TooLargeError
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _BadRequestError(f"the body must be JSON: {error}") from None


def _whole_number(request: web.BaseRequest, name: str, *, default: int, least: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise _BadRequestError(f"{name} is {text!r}; expected a whole number from {least} on")
    return number

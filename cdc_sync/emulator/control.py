"""The control API, `/_emulator/…`: what was received, and what shall go wrong.

It has no authentication: it belongs on loopback, or on a network where everyone may play. The pages of a browser may
not: it refuses what comes for a page of another site, and on loopback what names another host (DNS rebinding).
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches

from aiohttp import web

from cdc_sync.emulator.answers import Answer, no_such_path, refusal, wrong_method
from cdc_sync.emulator.calls import CallLog
from cdc_sync.emulator.errors import FaultError
from cdc_sync.emulator.fault_parsing import parse_faults
from cdc_sync.emulator.registry import Registry
from cdc_sync.emulator.script import FaultScript
from cdc_sync.listening import comes_from_ourselves, names_loopback

PREFIX = "/_emulator/"
MAX_WAIT_SECONDS = 3_600
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a list of faults or of application ids: a hundred thousand of these, and of those more than anybody scripts."""

_OUR_SITES = frozenset({"same-origin", "none"})
"""`none`: a person has typed the address, or clicked it in a terminal."""

_DONE = Answer(204, b"", {})
_LIST_PARAMETERS = ("after", "wait", "count")


class _BadRequestError(Exception):
    """The request makes no sense; the text says why and what would."""


class _TooLargeError(Exception):
    """The body is larger than anybody needs."""


class Control:
    """Answers the requests below `/_emulator/`; `is_loopback` tells whether nobody else can reach it."""

    def __init__(self, log: CallLog, registry: Registry, script: FaultScript, *, is_loopback: bool) -> None:
        self._is_loopback = is_loopback
        self._log = log
        self._registry = registry
        self._script = script
        self._routes: Mapping[str, Mapping[str, Callable[[web.BaseRequest], Awaitable[Answer]]]] = {
            "calls": {"GET": self._list_calls, "DELETE": self._forget_calls},
            "state": {"GET": self._show_state, "DELETE": self._forget_state},
            "faults": {"GET": self._list_faults, "POST": self._add_faults, "DELETE": self._remove_faults},
            "applications": {"GET": self._list_applications, "PUT": self._set_applications},
        }

    async def answer(self, request: web.BaseRequest) -> Answer:
        """Do what the request asks for, if it may."""
        if foreign := self._foreign(request):
            return foreign
        methods = self._routes.get(request.path.removeprefix(PREFIX))
        if methods is None:
            return no_such_path(", ".join(PREFIX + name for name in self._routes))
        act = methods.get(request.method)
        if act is None:
            return wrong_method(request.method, tuple(methods))
        try:
            return await act(request)
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

    async def _list_calls(self, request: web.BaseRequest) -> Answer:
        for name in request.query:
            if name not in _LIST_PARAMETERS:
                near = get_close_matches(name, _LIST_PARAMETERS, n=1)
                hint = f", did you mean {near[0]}?" if near else "."
                raise _BadRequestError(f"{name!r} is no parameter{hint} Allowed: {', '.join(_LIST_PARAMETERS)}")
        after = _whole_number(request, "after", default=0, least=0)
        count = _whole_number(request, "count", default=1, least=1)
        seconds = _wait_seconds(request)
        if seconds:
            try:
                async with asyncio.timeout(seconds):
                    await self._log.wait(count, after=after)
            except TimeoutError:
                # Fewer calls than hoped for are an answer, too.
                pass
        return _shown([call.as_json() for call in self._log.after(after)])

    async def _forget_calls(self, _: web.BaseRequest) -> Answer:
        self._log.forget()
        return _DONE

    async def _show_state(self, _: web.BaseRequest) -> Answer:
        return _shown(self._registry.state)

    async def _forget_state(self, _: web.BaseRequest) -> Answer:
        self._registry.state.clear()
        return _DONE

    async def _list_faults(self, _: web.BaseRequest) -> Answer:
        return _shown(self._script.pending())

    async def _add_faults(self, request: web.BaseRequest) -> Answer:
        self._script.add(parse_faults(await _document(request)))
        return _shown(self._script.pending())

    async def _remove_faults(self, _: web.BaseRequest) -> Answer:
        self._script.clear()
        return _DONE

    async def _list_applications(self, _: web.BaseRequest) -> Answer:
        known = self._registry.known
        return _shown(None if known is None else sorted(known))

    async def _set_applications(self, request: web.BaseRequest) -> Answer:
        known = await _document(request)
        if known is None:
            self._registry.known = None
        elif isinstance(known, list) and all(isinstance(each, str) and each for each in known):
            self._registry.known = frozenset(known)
        else:
            raise _BadRequestError("expected a JSON list of application ids (non-empty strings), or null for any")
        return _DONE


def _shown(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode())


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


def _wait_seconds(request: web.BaseRequest) -> float:
    text = request.query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise _BadRequestError(f"wait is {text!r}; expected a number of seconds from 0 to {MAX_WAIT_SECONDS}")
    return seconds

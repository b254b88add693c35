"""The control API, `/_emulator/…`: what was received, and what shall go wrong.

It has no authentication: it belongs on loopback, or on a network where everyone may play. The pages of a browser may
not: it refuses what comes for a page of another site, and on loopback what names another host (DNS rebinding).
"""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from cdc_sync.emulator.faults import FaultError, answer, explain, refusal
from cdc_sync.listening import comes_from_ourselves, names_loopback

if TYPE_CHECKING:
    from cdc_sync.emulator.server import Emulator

PREFIX = "/_emulator/"
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a list of faults or of application ids: a hundred thousand of these, and of those more than anybody scripts."""

_OUR_SITES = frozenset({"same-origin", "none"})
"""`none`: a person has typed the address, or clicked it in a terminal."""

_KNOWN = TypeAdapter[frozenset[str] | None](frozenset[Annotated[str, Field(min_length=1)]] | None)


class _Wanted(BaseModel, extra="forbid"):
    """The parameters of `GET /_emulator/calls`."""

    after: Annotated[int, Field(ge=0)] = 0
    wait: Annotated[float, Field(ge=0, le=3_600)] = 0
    count: Annotated[int, Field(ge=1)] = 1


async def control(emulator: "Emulator", request: web.BaseRequest) -> web.Response:
    """Do what a request requires, if it is allowed to."""
    host = request.headers.get("Host")
    # No browser leaves Host out.
    if emulator.is_loopback and host is not None and not names_loopback(host):
        return refusal(421, f"{host!r} is no name of this machine's loopback: ask for 127.0.0.1 or localhost")
    if not comes_from_ourselves(request, _OUR_SITES):
        return refusal(403, "this was requested by a page of another site")
    try:
        return await _obey(emulator, request)
    except ValidationError as error:
        return refusal(400, explain(error))
    except (ValueError, FaultError) as error:
        return refusal(400, str(error))


async def _obey(emulator: "Emulator", request: web.BaseRequest) -> web.Response:  # noqa: PLR0911 - a table
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "calls":
            poll = _Wanted.model_validate(dict(request.query))
            # Fewer calls than hoped for are an answer, too.
            with suppress(TimeoutError):
                async with asyncio.timeout(poll.wait):
                    await emulator.log.wait(poll.count, after=poll.after)
            return answer([call.as_json() for call in emulator.log.after(poll.after)])
        case "DELETE", "calls":
            emulator.log.forget()
        case "GET", "state":
            return answer(emulator.state)
        case "DELETE", "state":
            emulator.state = {}
        case "POST", "faults":
            wanted = from_json(await _body(request))
            emulator.inject(*(wanted if isinstance(wanted, list) else [wanted]))
            return answer([fault.model_dump(mode="json") for fault in emulator.faults])
        case "GET", "faults":
            return answer([fault.model_dump(mode="json") for fault in emulator.faults])
        case "DELETE", "faults":
            emulator.faults.clear()
        case "GET", "applications":
            return answer(None if emulator.known is None else sorted(emulator.known))
        case "PUT", "applications":
            emulator.known = _KNOWN.validate_json(await _body(request))
        case _:
            return refusal(
                404, "No such request; GET and DELETE calls, state, faults; POST faults; GET, PUT applications"
            )
    return web.Response(status=204)


async def _body(request: web.BaseRequest) -> bytes:
    """The body, whatever its type: `curl -d` names a form."""
    raw = bytearray()
    while piece := await request.content.readany():
        raw += piece
        if len(raw) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(raw))
    return bytes(raw)

"""The answers that HelloWork documents, those in its style for what it leaves open, and what a fault makes of them."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from cdc_sync.emulator.faults import (
    Delay,
    Fault,
    HalfAnswer,
    Hang,
    Html,
    HugeBody,
    LostAnswer,
    Redirect,
    Reset,
    SlowBody,
    Status,
)

_JSON: Mapping[str, str] = {"Content-Type": "application/json; charset=utf-8"}
_ERRORS_FROM = 400
_BODILESS = frozenset({204, 205, 304})
_SPACES = b" " * 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer, but for the headers that the server adds."""

    status: int
    body: bytes
    headers: Mapping[str, str]


UPDATED = Answer(200, b'{"result": "Status was updated successfully"}', _JSON)
"""The documented success."""


def shown(value: object) -> Answer:
    """A value as JSON."""
    return Answer(200, json.dumps(value).encode(), _JSON)


def refusal(status: int, message: str) -> Answer:
    """An error in the shape of the documented one."""
    return Answer(
        status, json.dumps({"statusCode": status, "error": _phrase(status), "message": message}).encode(), _JSON
    )


def no_such_path(expected: str = "/v1/applications/{applicationId}/status") -> Answer:
    """A 404 that cannot be taken for the documented one."""
    return refusal(404, f"No such path; expected {expected}")


def wrong_method(method: str, allowed: Sequence[str]) -> Answer:
    """A 405 with its mandatory Allow."""
    allow = ", ".join(allowed)
    body = refusal(405, f"Method {method} is not allowed here; expected {allow}").body
    return Answer(405, body, {**_JSON, "Allow": allow})


def _phrase(status: int) -> str:
    """The standard reason phrase; a status may be scripted that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def spoiled(fault: Fault, normal: Answer) -> Answer | None:
    """The answer whose status line the client will see; None if it will see none."""
    match fault:
        case Status():
            return _scripted(fault)
        case Html():
            return Answer(200, fault.body.encode(), {"Content-Type": "text/html; charset=utf-8"})
        case Redirect():
            return Answer(302, b"", {"Location": fault.location})
        case Hang() | Reset() | LostAnswer():
            return None
        case _:
            return normal


async def play(fault: Fault | None, answer: Answer | None, request: web.BaseRequest) -> web.StreamResponse:
    """Give the answer, or none, the way the fault says.

    Raises:
        asyncio.CancelledError: The client left meanwhile.
    """
    if answer is None:
        if isinstance(fault, Hang):
            await asyncio.sleep(fault.seconds)
            _close(request)
        else:
            _reset(request)
        # Goes nowhere: the server wants a response, and finds the connection closed.
        return web.Response()
    match fault:
        case Delay():
            await asyncio.sleep(fault.seconds)
        case SlowBody():
            return await _drip(answer, request, fault.seconds)
        case HugeBody():
            return await _pad(answer, request, fault.size)
        case HalfAnswer():
            return await _break_off(answer, request)
        case _:
            pass
    return respond(answer)


def respond(answer: Answer) -> web.Response:
    """The answer as it should be."""
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def _scripted(fault: Status) -> Answer:
    if isinstance(fault.body, str):
        plain = Answer(fault.status, fault.body.encode(), {"Content-Type": "text/plain; charset=utf-8"})
    elif fault.body is not None:
        plain = Answer(fault.status, json.dumps(fault.body).encode(), _JSON)
    elif fault.status >= _ERRORS_FROM:
        plain = refusal(fault.status, f"{_phrase(fault.status)}, as scripted")
    elif fault.status in _BODILESS or fault.status >= 300:  # noqa: PLR2004 - where redirections begin
        plain = Answer(fault.status, b"", {})
    else:
        plain = Answer(fault.status, UPDATED.body, _JSON)
    replaced = {name.lower() for name in fault.headers}
    kept = {name: value for name, value in plain.headers.items() if name.lower() not in replaced}
    return Answer(plain.status, plain.body, {**kept, **fault.headers})


async def _begin(answer: Answer, request: web.BaseRequest, length: int) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = length
    # Sends the status line and the headers at once.
    await response.prepare(request)
    return response


async def _drip(answer: Answer, request: web.BaseRequest, seconds: float) -> web.StreamResponse:
    response = await _begin(answer, request, len(answer.body))
    for position in range(len(answer.body)):
        await asyncio.sleep(seconds / len(answer.body))
        await response.write(answer.body[position : position + 1])
    return response


async def _pad(answer: Answer, request: web.BaseRequest, size: int) -> web.StreamResponse:
    size = max(size, len(answer.body))
    response = await _begin(answer, request, size)
    await response.write(answer.body)
    left = size - len(answer.body)
    while left > 0:
        # Waits for the client, so that a big body is never all in memory.
        await response.write(_SPACES[:left])
        left -= len(_SPACES)
    return response


async def _break_off(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    response = await _begin(answer, request, len(answer.body))
    await response.write(answer.body[: len(answer.body) // 2])
    _close(request)
    return response


def _close(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.BaseRequest) -> None:
    if request.transport is not None:
        # A linger time of 0 makes the kernel send RST where it would send FIN.
        linger = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()

"""Puts answers on the wire, and spoils them when a fault says so."""

import asyncio
import json
import socket
import struct

from aiohttp import web

from cdc_sync.emulator.answers import JSON_HEADERS, UPDATED, Answer, phrase, refusal
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

_ERRORS_FROM = 400
_BODILESS = frozenset({204, 205, 304})
_SPACES = b" " * 65_536


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
        plain = Answer(fault.status, json.dumps(fault.body).encode())
    elif fault.status >= _ERRORS_FROM:
        plain = refusal(fault.status, f"{phrase(fault.status)}, as scripted")
    elif fault.status in _BODILESS or fault.status >= 300:  # noqa: PLR2004 - where redirections begin
        plain = Answer(fault.status, b"", {})
    else:
        plain = Answer(fault.status, UPDATED.body, JSON_HEADERS)
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

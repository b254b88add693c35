"""Scripted failures of HelloWork or of the network, for `support.emulated`.

A fault keeps a call from HelloWork, or damages the answer to a processed one (`lets_through`).
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from http.client import responses
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, PrivateAttr, TypeAdapter

Seconds = Annotated[float, Field(ge=0, le=3_600)]
# People write `{"Retry-After": 2}`.
_HeaderValue = Annotated[str, Field(strict=False, coerce_numbers_to_str=True)]


class Fault(BaseModel):
    """What happens to a call instead of the normal answer.

    Attributes:
        times: hits; None: until it is removed.
        application_id: the application that it hits; None: any.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: str
    times: PositiveInt | None = 1
    application_id: str | None = None

    def drawn(self, application_id: str) -> "Fault | None":
        """The fault of the application's next call; None: none."""
        return self


class Status(Fault):
    """Any final status; a 2xx acknowledges.

    Attributes:
        body: text as it is, anything else as JSON; None: the status's default.
        headers: further ones, such as Retry-After.
    """

    kind: Literal["status"] = "status"
    status: Annotated[int, Field(ge=200, le=999)]
    body: object = None
    headers: dict[str, _HeaderValue] = {}


class Delay(Fault):
    """The call is processed; its answer comes after so many seconds."""

    kind: Literal["delay"] = "delay"
    seconds: Seconds


class Hang(Fault):
    """No answer, until the client goes or for so many seconds."""

    kind: Literal["hang"] = "hang"
    seconds: Seconds = 60.0


class Reset(Fault):
    """TCP reset without an answer, before the call is processed."""

    kind: Literal["reset"] = "reset"


class LostAnswer(Fault):
    """The call is processed, then TCP reset without an answer."""

    kind: Literal["lost_answer"] = "lost_answer"


class SlowBody(Fault):
    """The call is processed; the body comes byte by byte, within so many seconds."""

    kind: Literal["slow_body"] = "slow_body"
    seconds: Seconds = 10.0


class HalfAnswer(Fault):
    """The call is processed; half of the announced body is sent."""

    kind: Literal["half_answer"] = "half_answer"


class Html(Fault):
    """200 with a web page, as from a captive portal or a proxy."""

    kind: Literal["html"] = "html"
    body: str = "<!doctype html><html><title>Sign in</title><body>Sign in to use this network.</body></html>"


_Single = Status | Delay | Hang | Reset | LostAnswer | SlowBody | HalfAnswer | Html


class Random(Fault):
    """One of several faults, for a share of the calls; other calls go on to the next fault.

    The draw depends on the seed, the application and the number of its earlier calls: a run repeats exactly.

    Attributes:
        times: hits in all; None: until it is removed.
        rate: the share of hits.
        kinds: equally likely, without `times` and `application_id`.
    """

    kind: Literal["random"] = "random"
    times: PositiveInt | None = None
    seed: int
    rate: Annotated[float, Field(ge=0, le=1)]
    kinds: list[Annotated[_Single, Field(discriminator="kind")]]
    _calls: Counter[str] = PrivateAttr(default_factory=Counter)

    def drawn(self, application_id: str) -> Fault | None:
        """One of its faults, or None."""
        # A shared generator would depend on the order of arrival.
        dice = random.Random(f"{self.seed}/{application_id}/{self._calls[application_id]}")  # noqa: S311 - no secret
        self._calls[application_id] += 1
        return dice.choice(self.kinds) if dice.random() < self.rate else None


_FAULTS = TypeAdapter[list[_Single | Random]](list[Annotated[_Single | Random, Field(discriminator="kind")]])


def parse_faults(faults: Sequence[object]) -> list[Fault]:
    """Faults from JSON, or copies of made ones."""
    # `times` goes down.
    return [fault.model_copy() for fault in _FAULTS.validate_python(list(faults))]


def take(faults: list[Fault], application_id: str) -> Fault | None:
    """The first fault for a call of this application, used once."""
    for fault in faults:
        if fault.application_id in {None, application_id} and (drawn := fault.drawn(application_id)) is not None:
            if fault.times is not None:
                fault.times -= 1
            if fault.times == 0:
                faults.remove(fault)
            return drawn
    return None


def is_success(status: int) -> bool:
    return 200 <= status < 300


def lets_through(fault: Fault | None) -> bool:
    """Whether HelloWork processes the call."""
    if isinstance(fault, Status):
        return is_success(fault.status)
    return not isinstance(fault, Hang | Reset | Html)


def spoiled(fault: Fault | None, normal: web.Response) -> web.Response | None:
    """The answer; None if the client gets none."""
    match fault:
        case Status():
            scripted = _scripted(fault.status, fault.body)
            scripted.headers.update(fault.headers)
            return scripted
        case Html():
            return web.Response(text=fault.body, content_type="text/html")
        case Hang() | Reset() | LostAnswer():
            return None
        case _:
            return normal


def _scripted(status: int, body: object) -> web.Response:
    if isinstance(body, str):
        return web.Response(status=status, text=body)
    if body is not None:
        return web.json_response(body, status=status)
    if status in {204, 205} or 300 <= status < 400:
        return web.Response(status=status)
    phrase = responses.get(status, f"Status {status}")  # a scripted status may have none
    document = {"statusCode": status, "error": phrase, "message": f"{phrase}, as scripted"}
    return web.json_response(document, status=status)


async def play(fault: Fault | None, normal: web.Response | None, request: web.BaseRequest) -> web.StreamResponse:
    """Answer as the fault demands; cancelled if the client leaves."""
    if isinstance(fault, Delay | Hang):
        await asyncio.sleep(fault.seconds)
    if normal is None:
        _close(request, orderly=isinstance(fault, Hang))
        # aiohttp needs a response; the connection is closed.
        return web.Response()
    if not isinstance(fault, SlowBody | HalfAnswer):
        return normal
    body = normal.body if isinstance(normal.body, bytes) else b""
    response = web.StreamResponse(status=normal.status, headers=normal.headers)
    response.content_length = len(body)
    await response.prepare(request)
    match fault:
        case SlowBody():
            for position in range(len(body)):
                await asyncio.sleep(fault.seconds / len(body))
                await response.write(body[position : position + 1])
        case HalfAnswer():
            await response.write(body[: len(body) // 2])
            _close(request, orderly=True)
    return response


def _close(request: web.BaseRequest, *, orderly: bool) -> None:
    if request.transport is not None:
        if not orderly:
            # A linger time of 0 sends RST, not FIN.
            linger = struct.pack("ii", 1, 0)
            request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.close()

"""HelloWork's answers, the ways in which it, or the network before it, can fail on request, and which call meets which.

They fall into two families, and a test must know which one it plays (see `lets_through`): a call that something in
front of HelloWork swallowed or answered, and a call that HelloWork took in and whose answer went wrong on its way.
"""

import asyncio
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from http.client import responses
from itertools import pairwise
from typing import Annotated, Literal

from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails

from cdc_sync.core.failures import OperationError

MAX_FAULTS = 100_000
"""That wait at once: each call looks through them."""

_MAX_COUNTED = 100_000
"""Applications of which a random fault knows how many calls there were; beyond them it begins anew."""

CAPTIVE_PORTAL = "<!doctype html><html><title>Sign in</title><body>Sign in to use this network.</body></html>"

_SPACES = b" " * 65_536
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class FaultError(OperationError):
    """A fault was requested that does not exist, or whose fields are wrong; the message names everything that is."""


def _can_be_sent(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a header's name")
        if not value.isprintable():
            raise ValueError(f"the value of {name} has characters that a header cannot carry")
        if name.lower() in {"content-length", "transfer-encoding"}:
            raise ValueError(f"{name} would break the framing; half_answer and huge_body do that on purpose")
    return headers


def _is_one_word(location: str) -> str:
    if not (location and location.isascii() and location.isprintable()) or " " in location:
        raise ValueError(f"expected a URL without spaces, other characters percent-encoded, not {location!r}")
    return location


def _belong_to_the_draw(kinds: "tuple[Fault, ...]") -> "tuple[Fault, ...]":
    if not kinds:
        raise ValueError("expected at least one fault to draw from")
    for fault in kinds:
        if misplaced := fault.model_fields_set & {"times", "application_id"}:
            raise ValueError(f"{' and '.join(sorted(misplaced))} cannot be set here; set it for the whole draw")
    return kinds


Seconds = Annotated[float, Field(ge=0, le=3_600)]
# A header's value is text, but `{"Retry-After": 2}` is what people write.
HeaderValue = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class Fault(BaseModel):
    """What happens to a call instead of the normal answer.

    Attributes:
        times: To how many calls it happens; None: until it is removed.
        application_id: The only application to whose calls it happens; None: to any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str
    times: PositiveInt | None = 1
    application_id: str | None = None


class Status(Fault):
    """Any final status, 200 to 999; a 2xx counts as acknowledged.

    Attributes:
        status: The HTTP status.
        body: The body: text as it is, anything else as JSON; None: what fits the status.
        headers: Further headers, such as Retry-After, Location, Content-Type.
    """

    kind: Literal["status"] = "status"
    status: Annotated[int, Field(ge=200, le=999)]
    body: object = None
    headers: Annotated[dict[str, HeaderValue], AfterValidator(_can_be_sent)] = {}


class Delay(Fault):
    """The call is processed at once; its normal answer comes after so many seconds."""

    kind: Literal["delay"] = "delay"
    seconds: Seconds


class Hang(Fault):
    """Never an answer; the connection is closed when the client goes, or after so many seconds."""

    kind: Literal["hang"] = "hang"
    seconds: Seconds = 60.0


class Reset(Fault):
    """TCP reset without an answer, before the call is processed."""

    kind: Literal["reset"] = "reset"


class LostAnswer(Fault):
    """The call is processed, then TCP reset without an answer."""

    kind: Literal["lost_answer"] = "lost_answer"


class SlowBody(Fault):
    """The call is processed; the headers come at once, the body drips over so many seconds."""

    kind: Literal["slow_body"] = "slow_body"
    seconds: Seconds = 10.0


class HugeBody(Fault):
    """The call is processed; the normal answer is padded with spaces to so many bytes."""

    kind: Literal["huge_body"] = "huge_body"
    size: Annotated[int, Field(ge=1_000, le=1_000_000_000)] = 10_000_000


class HalfAnswer(Fault):
    """The call is processed; the connection is closed after half of the announced body."""

    kind: Literal["half_answer"] = "half_answer"


class Html(Fault):
    """200 with a web page: a captive portal or a proxy that answers in HelloWork's place."""

    kind: Literal["html"] = "html"
    body: str = CAPTIVE_PORTAL


class Redirect(Fault):
    """302 to another place, which must never be followed."""

    kind: Literal["redirect"] = "redirect"
    location: Annotated[str, AfterValidator(_is_one_word)]


_Single = Status | Delay | Hang | Reset | LostAnswer | SlowBody | HugeBody | HalfAnswer | Html | Redirect


class Random(Fault):
    """One of several faults, for a share of the calls; the other calls go on to the next fault in the script.

    The draw depends on the seed, the application and how many of its calls came before, and on nothing else: a run
    repeats exactly, however the calls of different applications interleave.

    Attributes:
        times: How many calls are hit in all; None, the default: until it is removed.
        seed: Makes one run differ from another.
        rate: The share of the calls that are hit, 0 to 1.
        kinds: The faults to draw from, equally likely, without `times` and `application_id` of their own.
    """

    kind: Literal["random"] = "random"
    times: PositiveInt | None = None
    seed: int
    rate: Annotated[float, Field(ge=0, le=1)]
    kinds: Annotated[
        tuple[Annotated[_Single, Field(discriminator="kind")], ...],
        Field(strict=False),
        AfterValidator(_belong_to_the_draw),
    ]


_FAULTS = TypeAdapter[list[_Single | Random]](list[Annotated[_Single | Random, Field(discriminator="kind")]])
_CLASSES: Mapping[str, type[Fault]] = {each.model_fields["kind"].default: each for each in Fault.__subclasses__()}


def lets_through(fault: Fault | None) -> bool:
    """Whether HelloWork processes the call all the same, so that a good one changes what HelloWork knows."""
    if isinstance(fault, Status):
        return 200 <= fault.status < 300  # noqa: PLR2004 - the range of success, from the HTTP standard
    return not isinstance(fault, Hang | Reset | Html | Redirect | Random)


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A value as JSON."""
    whole = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return web.Response(status=status, body=json.dumps(document).encode(), headers=whole)


def updated(status: int = 200) -> web.Response:
    """The documented success."""
    return answer({"result": "Status was updated successfully"}, status)


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error in the shape of the documented one."""
    return answer({"statusCode": status, "error": _phrase(status), "message": message}, status, headers)


def no_such_path(expected: str = "/v1/applications/{applicationId}/status") -> web.Response:
    """A 404 that cannot be taken for the documented one."""
    return refusal(404, f"No such path; expected {expected}")


def wrong_method(method: str, *allowed: str) -> web.Response:
    """A 405 with its mandatory Allow."""
    allow = ", ".join(allowed)
    return refusal(405, f"Method {method} is not allowed here; expected {allow}", {"Allow": allow})


def _phrase(status: int) -> str:
    """The standard reason phrase; a status may be scripted that has none."""
    return responses.get(status, f"Status {status}")


def spoiled(fault: Fault | None, normal: web.Response) -> web.Response | None:
    """The answer whose status line the client sees; None if it sees none."""
    match fault:
        case Status():
            return _scripted(fault)
        case Html():
            return web.Response(text=fault.body, content_type="text/html")
        case Redirect():
            return web.Response(status=302, headers={"Location": fault.location})
        case Hang() | Reset() | LostAnswer():
            return None
        case _:
            return normal


def _scripted(fault: Status) -> web.Response:
    status = fault.status
    if isinstance(fault.body, str):
        scripted = web.Response(status=status, text=fault.body)
    elif fault.body is not None:
        scripted = answer(fault.body, status)
    elif status >= 400:  # noqa: PLR2004 - where errors begin
        scripted = refusal(status, f"{_phrase(status)}, as scripted")
    elif status in {204, 205} or status >= 300:  # noqa: PLR2004 - where redirections begin
        scripted = web.Response(status=status)
    else:
        scripted = updated(status)
    scripted.headers.update(fault.headers)
    return scripted


async def play(fault: Fault | None, normal: web.Response | None, request: web.BaseRequest) -> web.StreamResponse:
    """Give the answer, or none, the way the fault says.

    Raises:
        asyncio.CancelledError: The client left meanwhile.
    """
    if isinstance(fault, Delay | Hang):
        await asyncio.sleep(fault.seconds)
    if normal is None:
        _close(request, orderly=isinstance(fault, Hang))
        # Goes nowhere: the server wants a response, and finds the connection closed.
        return web.Response()
    if not isinstance(fault, SlowBody | HugeBody | HalfAnswer):
        return normal
    body = normal.body if isinstance(normal.body, bytes) else b""
    response = web.StreamResponse(status=normal.status, headers=normal.headers)
    response.content_length = max(len(body), fault.size if isinstance(fault, HugeBody) else 0)
    # Sends the status line and the headers at once.
    await response.prepare(request)
    match fault:
        case SlowBody():
            for position in range(len(body)):
                await asyncio.sleep(fault.seconds / len(body))
                await response.write(body[position : position + 1])
        case HugeBody():
            await response.write(body)
            for left in range(response.content_length - len(body), 0, -len(_SPACES)):
                # Waits for the client, so that a big body is never all in memory.
                await response.write(_SPACES[:left])
        case HalfAnswer():
            await response.write(body[: len(body) // 2])
            _close(request, orderly=True)
    return response


def _close(request: web.BaseRequest, *, orderly: bool) -> None:
    transport = request.transport
    if transport is None:
        return
    if not orderly:
        # A linger time of 0 makes the kernel send RST where it would send FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    transport.close()


def describe(fault: Fault) -> dict[str, object]:
    """The fault as the JSON that would ask for it."""
    return fault.model_dump(mode="json", exclude={"kinds": {"__all__": {"times", "application_id"}}})


def parse_faults(document: object) -> tuple[Fault, ...]:
    """Read one fault, or a list of them, from parsed JSON; faults that are made already pass as they are.

    Raises:
        FaultError: Something is wrong; the message names all of it.
    """
    faults = document if isinstance(document, list | tuple) else [document]
    try:
        return tuple(_FAULTS.validate_python(list(faults)))
    except ValidationError as error:
        raise FaultError("; ".join(map(_explain, error.errors(include_url=False)))) from None


def _explain(error: ErrorDetails) -> str:
    where, kind = "fault", ""
    found, path = error["input"], error["loc"]
    for before, step in pairwise(("", *path)):
        if isinstance(step, int):
            where += f"[{step}]"
        elif isinstance(before, int):
            # Behind an index pydantic puts the kind that it chose; it is no step in the document.
            kind = step
        else:
            where += f".{step}"
    match error["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            allowed = [each for each in _CLASSES if not (kind == each == "random")]
            problem = f": kind is missing. Allowed: {', '.join(allowed)}"
            if isinstance(found, Mapping) and "kind" in found:
                problem = f": {not_among(found['kind'], 'kind of fault', allowed)}"
        case "extra_forbidden":
            where, _, name = where.rpartition(".")
            problem = f": {not_among(name, f'field of {kind}', list(_CLASSES[kind].model_fields))}"
        case "missing":
            problem = f" is missing: {kind} needs it"
        case "model_attributes_type":
            problem = f': expected an object with a kind, such as {{"kind": "reset"}}, not {found!r}'
        case "value_error":
            problem = f": {error['ctx']['error']}"
        case _:
            problem = f": {error['msg'].removeprefix('Input ')}, not {found!r}"
    return where + problem


def not_among(found: object, what: str, allowed: Sequence[str]) -> str:
    """That something is not one of those allowed, with the one that may have been meant."""
    near = get_close_matches(str(found), allowed, n=1)
    hint = f", did you mean {near[0]}?" if near else "."
    return f"{found!r} is no {what}{hint} Allowed: {', '.join(allowed)}"


@dataclass(slots=True, eq=False)
class _Line:
    fault: Fault
    left: int | None
    calls: Counter[str] = field(default_factory=Counter)


class FaultScript:
    """Faults in the order in which they were requested; each call takes the first one that fits it.

    Args:
        most: how many may be pending.
        counted: of how many applications at once the calls are counted that a random fault was drawn for.
    """

    def __init__(self, most: int = MAX_FAULTS, counted: int = _MAX_COUNTED) -> None:
        self._most = most
        self._counted = counted
        self._lines: list[_Line] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Append faults to the pending ones.

        Raises:
            FaultError: They would be too many; none is appended.
        """
        lines = [_Line(fault, fault.times) for fault in faults]
        if len(self._lines) + len(lines) > self._most:
            raise FaultError(f"more than {self._most} faults would wait; remove some, or let one have `times`")
        self._lines += lines

    def clear(self) -> None:
        """Remove every fault."""
        self._lines.clear()

    def pending(self) -> list[dict[str, object]]:
        """The faults as JSON, `times` being what is left of it."""
        return [{**describe(line.fault), "times": line.left} for line in self._lines]

    def take(self, application_id: str) -> Fault | None:
        """The fault for a call of this application, which is thereby used once."""
        for line in self._lines:
            fault: Fault | None = line.fault
            if line.fault.application_id not in {None, application_id}:
                continue
            if isinstance(fault, Random):
                fault = self._draw(fault, application_id, line.calls)
            if fault is not None:
                if line.left is not None:
                    line.left -= 1
                if line.left == 0:
                    self._lines.remove(line)
                return fault
        return None

    def _draw(self, chance: Random, application_id: str, calls: Counter[str]) -> Fault | None:
        if len(calls) >= self._counted and application_id not in calls:
            calls.clear()
        before = calls[application_id]
        calls[application_id] += 1
        # A generator per call, seeded with text: a shared one would make each draw depend on the order of arrival.
        dice = random.Random(f"{chance.seed}/{application_id}/{before}")  # noqa: S311 - repeatable, not secret
        return dice.choice(chance.kinds) if dice.random() < chance.rate else None

"""The ways in which HelloWork, or the network before it, can fail on request, and which call meets which. Pure.

They fall into two families, and a test must know which one it plays (see `lets_through`): a call that something in
front of HelloWork swallowed or answered, and a call that HelloWork took in and whose answer went wrong on its way.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

from cdc_sync.core.failures import OperationError

MAX_FAULTS = 100_000
"""That wait at once: each call looks through them."""

_MAX_COUNTED = 100_000
"""Applications of which a random fault knows how many calls there were; beyond them it begins anew."""

CAPTIVE_PORTAL = "<!doctype html><html><title>Sign in</title><body>Sign in to use this network.</body></html>"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding"})

Seconds = Annotated[float, Field(ge=0, le=3_600)]
# A header's value is text, but `{"Retry-After": 2}` is what people write.
HeaderValue = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class FaultError(OperationError):
    """A fault was asked for that does not exist, or whose fields are wrong; it names everything that is."""


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
    headers: dict[str, HeaderValue] = {}

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be a header's name")
            if not value.isprintable():
                raise ValueError(f"the value of {name} has characters that a header cannot carry")
            if name.lower() in _FRAMING_HEADERS:
                raise ValueError(f"{name} would break the framing; half_answer and huge_body do that on purpose")
        return headers


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
    location: str

    @field_validator("location")
    @classmethod
    def _is_one_word(cls, location: str) -> str:
        if not (location and location.isascii() and location.isprintable()) or " " in location:
            raise ValueError(f"expected a URL without spaces, other characters percent-encoded, not {location!r}")
        return location


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
    kinds: Annotated[tuple[Annotated[_Single, Field(discriminator="kind")], ...], Field(strict=False)]

    @field_validator("kinds")
    @classmethod
    def _belong_to_the_draw(cls, kinds: tuple[_Single, ...]) -> tuple[_Single, ...]:
        if not kinds:
            raise ValueError("expected at least one fault to draw from")
        for fault in kinds:
            if misplaced := fault.model_fields_set & {"times", "application_id"}:
                raise ValueError(f"{' and '.join(sorted(misplaced))} cannot be set here; set it for the whole draw")
        return kinds


_FAULTS = TypeAdapter[list[_Single | Random]](list[Annotated[_Single | Random, Field(discriminator="kind")]])
_CLASSES: Mapping[str, type[Fault]] = {each.model_fields["kind"].default: each for each in Fault.__subclasses__()}


def lets_through(fault: Fault) -> bool:
    """Whether HelloWork processes the call all the same, so that a good one changes what HelloWork knows."""
    if isinstance(fault, Status):
        return 200 <= fault.status < 300  # noqa: PLR2004 - the range of success, from the HTTP standard
    return isinstance(fault, Delay | LostAnswer | SlowBody | HugeBody | HalfAnswer)


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
    where, kind = _place(error["loc"])
    found = error["input"]
    match error["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            allowed = [each for each in _CLASSES if not (kind == each == "random")]
            if isinstance(found, Mapping) and "kind" in found:
                problem = f": {not_among(found['kind'], 'kind of fault', allowed)}"
            else:
                problem = f": kind is missing. Allowed: {', '.join(allowed)}"
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


def _place(location: tuple[int | str, ...]) -> tuple[str, str]:
    """Tell where in the document a mistake is, and in a fault of which kind."""
    where, kind, after_index = "fault", "", False
    for step in location:
        if isinstance(step, int):
            where += f"[{step}]"
        elif after_index:
            # The validator puts the kind that it chose behind the index; it is no step in the document.
            kind = step
        else:
            where += f".{step}"
        after_index = isinstance(step, int)
    return where, kind


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
    """Faults in the order in which they were asked for; each call takes the first one that fits it.

    Args:
        most: how many may wait.
        counted: of how many applications at once the calls are counted that a random fault was drawn for.
    """

    def __init__(self, most: int = MAX_FAULTS, counted: int = _MAX_COUNTED) -> None:
        self._most = most
        self._counted = counted
        self._lines: list[_Line] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Put faults behind those that wait already.

        Raises:
            FaultError: They would be too many; none is put there.
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
            if line.fault.application_id not in {None, application_id}:
                continue
            fault: Fault | None = line.fault
            if isinstance(fault, Random):
                fault = self._draw(fault, application_id, line.calls)
            if fault is None:
                continue
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

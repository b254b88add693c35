"""The ways in which HelloWork, or the network before it, can fail on request. Pure values.

They fall into two families, and a test must know which one it plays (see `lets_through`): a call that something in
front of HelloWork swallowed or answered, and a call that HelloWork took in and whose answer went wrong on its way.
"""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, field_validator

CAPTIVE_PORTAL = "<!doctype html><html><title>Sign in</title><body>Sign in to use this network.</body></html>"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding"})

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


SingleFault = Annotated[
    Status | Delay | Hang | Reset | LostAnswer | SlowBody | HugeBody | HalfAnswer | Html | Redirect,
    Field(discriminator="kind"),
]


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
    kinds: Annotated[tuple[SingleFault, ...], Field(strict=False)]

    @field_validator("kinds")
    @classmethod
    def _belong_to_the_draw(cls, kinds: tuple[SingleFault, ...]) -> tuple[SingleFault, ...]:
        if not kinds:
            raise ValueError("expected at least one fault to draw from")
        for fault in kinds:
            if misplaced := fault.model_fields_set & {"times", "application_id"}:
                raise ValueError(f"{' and '.join(sorted(misplaced))} cannot be set here; set it for the whole draw")
        return kinds


AnyFault = Annotated[
    Status | Delay | Hang | Reset | LostAnswer | SlowBody | HugeBody | HalfAnswer | Html | Redirect | Random,
    Field(discriminator="kind"),
]


def lets_through(fault: Fault) -> bool:
    """Whether HelloWork processes the call all the same, so that a good one changes what HelloWork knows."""
    if isinstance(fault, Status):
        return 200 <= fault.status < 300  # noqa: PLR2004 - the range of success, from the HTTP standard
    return isinstance(fault, Delay | LostAnswer | SlowBody | HugeBody | HalfAnswer)


def describe(fault: Fault) -> dict[str, object]:
    """The fault as the JSON that would ask for it."""
    return fault.model_dump(mode="json", exclude={"kinds": {"__all__": {"times", "application_id"}}})

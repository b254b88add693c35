"""The base of every section, and how single values are read: text, names, numbers, sizes, addresses, headers."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from ipaddress import IPv6Address
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, WithJsonSchema, model_validator

from cdc_sync.config.problems import SettingError
from cdc_sync.core.identifiers import QualifiedName, parse_column, parse_qualified
from cdc_sync.core.status_url import AllowedHosts, endpoint_of, is_loopback

NOT_EMPTY = WithJsonSchema({"type": "string", "minLength": 1})
"""The schema of a text with rules of its own."""

_REFERENCE = r".*\$\{[^}]+\}.*"
"""A `${…}`, whose value is unknown until the file is loaded."""


def _or_reference(kind: str, pattern: str, **bounds: int) -> dict[str, Any]:
    """The schema of a number, or of text that is one or has a reference."""
    return {"type": [kind, "string"], "pattern": rf"^({pattern}|{_REFERENCE})$", **bounds}


class Section(pydantic.BaseModel):
    """A section: immutable, and every unknown key is an error. `Attributes` documents its keys."""

    # Exceptions reach logs and crash reports.
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_all_defaults(cls, value: Any) -> Any:
        # A section whose keys are all commented out is null in YAML.
        return {} if value is None else value


def must(hold: Callable[[Any], object], expected: str) -> AfterValidator:
    """Refuse a value that does not hold, with what was expected."""

    def check(value: Any) -> Any:
        if not hold(value):
            raise SettingError(expected)
        return value

    return AfterValidator(check)


def reads(
    expected: str, readers: Mapping[type, Callable[[Any], Any]], made: type | tuple[type, ...], written: Any = str
) -> PlainValidator:
    """Read a value by its type in the file.

    Args:
        expected: the error for other types.
        readers: by type.
        made: types of values made in code, which pass unchanged.
        written: the type in the schema.
    """

    def read(value: Any) -> Any:
        if isinstance(value, made):
            return value
        if type(value) not in readers:
            raise SettingError(expected)
        return readers[type(value)](value)

    return PlainValidator(read, json_schema_input_type=written)


# Text and names.

Text = Annotated[str, must(str.strip, "must not be empty"), NOT_EMPTY]

Sql = Annotated[
    Text, must(lambda sql: not sql.rstrip().endswith(";"), "must have no semicolon at its end: a statement goes on")
]
"""Put into a statement as it is."""

ColumnName = Annotated[str, AfterValidator(parse_column), NOT_EMPTY]
"""As the catalog has it; folded to lower case unless in double quotes."""

DISTINCT = must(lambda names: len(set(names)) == len(names), "names one twice")

# PostgreSQL's names have 63 bytes, and a watch's name is part of several (record_…).
_NAME = "^[a-z][a-z0-9_]{0,39}$"

PlainName = Annotated[
    str,
    must(re.compile(_NAME).fullmatch, "expected at most 40 lower case letters, digits and _, a letter first"),
    WithJsonSchema({"type": "string", "pattern": _NAME}),
]
"""The name of a watch or a database."""

LONGEST_ACCOUNT = 200
"""Characters."""

AccountName = Annotated[
    str,
    must(
        lambda name: name == name.strip() and name.isprintable() and 0 < len(name) <= LONGEST_ACCOUNT,
        f"expected a name of at most {LONGEST_ACCOUNT} characters, without blanks at its ends",
    ),
    NOT_EMPTY,
]

TableName = Annotated[
    QualifiedName,
    reads("expected a table's name, such as public.applications", {str: parse_qualified}, made=QualifiedName),
    NOT_EMPTY,
]
"""Each part folded to lower case unless in double quotes."""

# Numbers, which are text in the file.


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise SettingError("expected a number")  # to Python true is 1
    return value


WholeNumber = Annotated[
    int,
    BeforeValidator(_no_boolean),
    # No WithJsonSchema: it would hide a field's own bounds.
    Field(lt=2**63, json_schema_extra=_or_reference("integer", r"\s*-?[0-9]{1,18}\s*")),
]

PositiveNumber = Annotated[
    float,
    BeforeValidator(_no_boolean),
    Field(ge=1e-15, allow_inf_nan=False),
    WithJsonSchema(_or_reference("number", r"[0-9]{1,15}(?:\.[0-9]{1,15})?", exclusiveMinimum=0)),
]

# Lengths of time and sizes.

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
_MILLISECOND = timedelta(milliseconds=1)
_UNITS = {name[0]: timedelta(**{name: 1}) for name in ("days", "hours", "minutes", "seconds")} | {"ms": _MILLISECOND}
_MILLISECONDS = {name: unit // _MILLISECOND for name, unit in _UNITS.items()}
_BYTES = {f"{prefix}B": 1000**power for power, prefix in enumerate(["", *"kMGT"])} | {"": 1, "KB": 1000}
_BYTES |= {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)}

LONGEST = timedelta(days=3650)
"""Every sum with a date must stay within what Python and PostgreSQL can express."""

_LARGEST = 2**50
"""It must fit PostgreSQL's bigint."""


def _quantity(value: Any, units: Mapping[str, int], largest: int, expected: str) -> int:
    match = re.fullmatch(rf"({_NUMBER})({'|'.join(units)})", str(value))
    quantity = Fraction(match[1]) * units[match[2]] if match else None
    if quantity is None or quantity.denominator > 1 or quantity > largest:
        raise SettingError(expected)
    return int(quantity)


def parse_duration(value: Any) -> timedelta:
    """Read a duration: a number, decimals allowed, and a unit (ms, s, m, h, d); or plain `0`.

    A `timedelta` passes unchanged, for configurations made in code.

    Raises:
        SettingError: it is not one, negative, finer than a millisecond, or longer than ten years.
    """
    if isinstance(value, timedelta):
        value = f"{value / _MILLISECOND:.3f}ms"
    text = "0s" if str(value) == "0" else value
    expected = "expected a duration of whole milliseconds and at most 3650d, such as 500ms, 30s, 5m, 2h or 7d"
    return timedelta(milliseconds=_quantity(text, _MILLISECONDS, LONGEST // _MILLISECOND, expected))


def format_duration(length: timedelta) -> str:
    """A duration in the largest unit that gives a whole number, without parts of a millisecond."""
    length -= length % _MILLISECOND
    return next(f"{length // unit}{name}" for name, unit in _UNITS.items() if not length % unit) if length else "0s"


def _size(value: Any) -> int:
    return _quantity(value, _BYTES, _LARGEST, "expected a size of at most 1024TiB, such as 256MB, 64KiB or 65536")


def at_least(least: Any, written: str) -> AfterValidator:
    """Refuse less."""
    return must(lambda quantity: quantity >= least, f"must be at least {written}")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema(_or_reference("integer", f"0|{_NUMBER}(ms|s|m|h|d)", minimum=0, maximum=0)),
]
"""A length of time, 0 or more."""

PositiveDuration = Annotated[Duration, at_least(_MILLISECOND, "1ms")]

Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema(_or_reference("integer", f"{_NUMBER}({'|'.join(_BYTES)})", minimum=0)),
]
"""A size in bytes."""

# Addresses and headers.

OUR_HEADERS = frozenset(
    {"host", "content-type", "content-length", "transfer-encoding", "connection", "idempotency-key"}
)
"""The client sets these itself."""

_LAST_PORT = 65535
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, "token"
_FORBIDDEN_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, "field-value": controls but the tab
_HOST = re.compile(
    r"(?P<host>(?!.*\.\.)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[(?P<six>[0-9a-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
_OUR_PATH = re.compile(r"/v1/applications(?:/.*)?$|\.hellowork\.com/v1$", re.IGNORECASE)  # a proxy may have /v1


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where to listen; an IPv6 `host` has no brackets, port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def _base_url(value: str) -> str:
    url = value.rstrip("/")
    if set("?#@") & set(url):
        raise SettingError("expected a URL without a user name, a query and a fragment: credentials belong in headers")
    if _OUR_PATH.search(url):
        raise SettingError("expected a URL without HelloWork's own path, /v1/applications/…, which is put behind it")
    # As for every call: a base URL that loads can be called.
    with suppress(ValueError):
        if AllowedHosts(frozenset(), endpoint_of(url)).refusal(url) is None:
            return url
    raise SettingError("expected a URL such as https://ats-partner.hellowork.com, or http to a loopback address")


def _host_and_port(text: str, least: int, expected: str) -> re.Match[str]:
    match = _HOST.fullmatch(text.strip())
    with suppress(ValueError):
        if match and least <= int(match["port"] or least) <= _LAST_PORT and IPv6Address(match["six"] or "::").packed:
            return match
    raise SettingError(expected)


def _allowed_host(value: str) -> str:
    match = _host_and_port(value, 1, "expected a host or host:port, without a scheme, a path and wildcards")
    return match["host"].lower() + (f":{int(match['port'])}" if match["port"] else "")


_A_LISTEN = "expected host:port, such as 127.0.0.1:8765 or [::1]:8765, or null; 0.0.0.0 is every address"


def _listen(value: str) -> HostPort:
    match = _host_and_port(value, 0, _A_LISTEN)
    if match["port"] is None:
        raise SettingError(_A_LISTEN)
    return HostPort((match["six"] or match["host"]).lower(), int(match["port"]))


BaseUrl = Annotated[str, AfterValidator(_base_url), NOT_EMPTY]
"""An https URL (http: loopback only) without credentials, query, fragment and final slash."""

AllowedHost = Annotated[str, AfterValidator(_allowed_host), NOT_EMPTY]
"""Lower case, the port without leading zeros."""

Listen = Annotated[HostPort, reads(_A_LISTEN, {str: _listen}, made=HostPort)]

HeaderName = Annotated[
    str,
    must(_TOKEN.fullmatch, "expected a header's name: letters, digits and hyphens"),
    must(lambda name: name.lower() not in OUR_HEADERS, "cdc-sync sets this header itself"),
]

HeaderValue = Annotated[
    SecretStr,
    must(lambda value: value.get_secret_value().strip(), "must not be empty"),
    must(
        lambda value: not _FORBIDDEN_IN_A_VALUE.search(value.get_secret_value()),
        "must be one line: a line break at the end of a secret is usual",
    ),
]

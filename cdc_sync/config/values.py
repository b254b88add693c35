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

from cdc_sync.config.problems import SettingError, setting_error
from cdc_sync.core.identifiers import IdentifierError, QualifiedName, parse_column, parse_qualified
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


def must(hold: Callable[[Any], object], message: str, **facts: Any) -> AfterValidator:
    """Refuse a value that does not hold, with one of `messages.yaml`."""

    def check(value: Any) -> Any:
        if not hold(value):
            raise setting_error(message, **facts)
        return value

    return AfterValidator(check)


def reads(
    message: str, readers: Mapping[type, Callable[[Any], Any]], made: type | tuple[type, ...] = (), written: Any = str
) -> PlainValidator:
    """Read a value by its type in the file.

    Args:
        message: the error for other types, of `messages.yaml`.
        readers: by type; they raise `IdentifierError` for what is no name.
        made: types of values made in code, which pass unchanged.
        written: the type in the schema.
    """

    def read(value: Any) -> Any:
        if isinstance(value, made):
            return value
        try:
            return readers[type(value)](value)
        except KeyError:
            raise setting_error(message) from None
        except IdentifierError as error:
            raise SettingError(f"{setting_error(message)}: {error}") from None

    return PlainValidator(read, json_schema_input_type=written)


# Text and names.

Text = Annotated[str, must(str.strip, "empty"), NOT_EMPTY]

Sql = Annotated[Text, must(lambda sql: not sql.rstrip().endswith(";"), "semicolon")]
"""Put into a statement as it is."""

ColumnName = Annotated[str, reads("column", {str: parse_column}), NOT_EMPTY]
"""As the catalog has it; folded to lower case unless in double quotes."""

DISTINCT = must(lambda names: len(set(names)) == len(names), "column-twice")

# PostgreSQL's names have 63 bytes, and a watch's name is part of several (record_…).
_NAME = "^[a-z][a-z0-9_]{0,39}$"
_NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": _NAME})
_is_name = re.compile(_NAME).fullmatch

WatchName = Annotated[str, must(_is_name, "watch-name"), _NAME_SCHEMA]

LONGEST_ACCOUNT = 200
"""Characters."""

AccountName = Annotated[
    str,
    must(lambda name: name == name.strip() and name.isprintable() and 0 < len(name) <= LONGEST_ACCOUNT, "account-name"),
    NOT_EMPTY,
]

DatabaseName = Annotated[str, must(_is_name, "database-name"), _NAME_SCHEMA]

TableName = Annotated[
    QualifiedName,
    reads("table", {str: parse_qualified}, made=QualifiedName),
    NOT_EMPTY,
]
"""Each part folded to lower case unless in double quotes."""

# Numbers.

# Bounded, because Python refuses to convert thousands of digits; 18 fit 64 bits.
_WHOLE = r"\s*-?[0-9]{1,18}\s*"
_DECIMAL = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"


def _number(pattern: str, kind: Callable[[str], Any], message: str) -> BeforeValidator:
    """Read a number as the schema describes it; Python accepts more."""

    def read(value: Any) -> Any:
        if not re.fullmatch(pattern, str(value)):
            raise setting_error(message)
        return kind(str(value))

    return BeforeValidator(read)


WholeNumber = Annotated[
    int,
    _number(_WHOLE, int, "whole-number"),
    # No WithJsonSchema: it would hide a field's own bounds.
    Field(json_schema_extra=_or_reference("integer", _WHOLE)),
]

PositiveNumber = Annotated[
    float,
    _number(_DECIMAL, float, "positive-number"),
    must(bool, "positive-number"),
    WithJsonSchema(_or_reference("number", _DECIMAL, exclusiveMinimum=0)),
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


def _quantity(value: Any, units: Mapping[str, int], message: str) -> Fraction:
    match = re.fullmatch(rf"(-?)({_NUMBER})({'|'.join(units)})", str(value))
    if match is None:
        wrong = setting_error(message)
        # The list of units helps only with a number.
        raise wrong if re.match(_NUMBER, str(value)) else SettingError(wrong.message)
    if match[1]:
        raise setting_error("negative")
    return Fraction(match[2]) * units[match[3]]


def parse_duration(value: Any) -> timedelta:
    """Read a duration: a number, decimals allowed, and a unit (ms, s, m, h, d); or plain `0`.

    A `timedelta` passes unchanged, for configurations made in code.

    Raises:
        SettingError: it is not one, negative, finer than a millisecond, or longer than ten years.
    """
    if isinstance(value, timedelta):
        value = f"{value / _MILLISECOND:.3f}ms"
    length = _quantity("0s" if str(value) == "0" else value, _MILLISECONDS, "duration")
    if length > LONGEST // _MILLISECOND:
        raise setting_error("duration-long", longest=format_duration(LONGEST))
    if length.denominator > 1:
        raise setting_error("duration-fine")
    return timedelta(milliseconds=int(length))


def format_duration(length: timedelta) -> str:
    """A duration in the largest unit that gives a whole number, without parts of a millisecond."""
    length -= length % _MILLISECOND
    return next(f"{length // unit}{name}" for name, unit in _UNITS.items() if not length % unit) if length else "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema(_or_reference("integer", f"0|{_NUMBER}(ms|s|m|h|d)", minimum=0, maximum=0)),
]
"""A length of time, 0 or more."""


def at_least(least: Any, written: str) -> AfterValidator:
    """Refuse less."""
    return must(lambda quantity: quantity >= least, "at-least", least=written)


PositiveDuration = Annotated[Duration, at_least(_MILLISECOND, "1ms")]


def _size(value: Any) -> int:
    size = _quantity(value, _BYTES, "size")
    if size.denominator > 1:
        raise setting_error("size-fine")
    if size > 2**50:
        raise setting_error("size-large")  # it must fit PostgreSQL's bigint
    return int(size)


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
        raise setting_error("url-credentials")
    if _OUR_PATH.search(url):
        raise setting_error("url-path")
    # As for every call: a base URL that loads can be called.
    try:
        refusal = AllowedHosts(frozenset(), endpoint_of(url)).refusal(url)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        raise setting_error("url", refusal=refusal)
    return url


def _host_and_port(text: str, least: int, message: str) -> re.Match[str]:
    match = _HOST.fullmatch(text.strip())
    with suppress(ValueError):
        if match and least <= int(match["port"] or least) <= _LAST_PORT and IPv6Address(match["six"] or "::").packed:
            return match
    raise setting_error(message)


def _allowed_host(value: str) -> str:
    match = _host_and_port(value, 1, "allowed-host")
    return match["host"].lower() + (f":{int(match['port'])}" if match["port"] else "")


def _listen(value: str) -> HostPort:
    match = _host_and_port(value, 0, "listen")
    if match["port"] is None:
        raise setting_error("listen")
    return HostPort((match["six"] or match["host"]).lower(), int(match["port"]))


BaseUrl = Annotated[str, AfterValidator(_base_url), NOT_EMPTY]
"""An https URL (http: loopback only) without credentials, query, fragment and final slash."""

AllowedHost = Annotated[str, AfterValidator(_allowed_host), NOT_EMPTY]
"""Lower case, the port without leading zeros."""

Listen = Annotated[HostPort, reads("listen", {str: _listen}, made=HostPort)]

HeaderName = Annotated[
    str,
    must(_TOKEN.fullmatch, "header-name"),
    must(lambda name: name.lower() not in OUR_HEADERS, "header-ours"),
]

HeaderValue = Annotated[
    SecretStr,
    must(lambda value: value.get_secret_value().strip(), "empty"),
    must(lambda value: not _FORBIDDEN_IN_A_VALUE.search(value.get_secret_value()), "header-lines"),
]

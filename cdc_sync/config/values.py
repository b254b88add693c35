"""What every section of the configuration is made of, and how single values are read.

Text, names, numbers, lengths of time (`500ms`, `30s`, `7d`), sizes (`256MB`, `64KiB`), addresses and headers.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from cdc_sync.config.problems import Mistake
from cdc_sync.core.identifiers import IdentifierError, QualifiedName, parse_column, parse_qualified
from cdc_sync.core.status_url import AllowedHosts, endpoint_of, is_loopback

_Name = TypeVar("_Name")

NOT_EMPTY = WithJsonSchema({"type": "string", "minLength": 1})
"""What an editor is told of a text that has rules of its own."""

_REFERENCE = r".*\$\{[^}]+\}.*"
"""Text with a `${…}` in it: what it stands for is not known until the file is loaded."""


class Section(BaseModel):
    """A section: immutable, and every key that it does not know is an error.

    Everything that is ever said about a key stands in its section: below `Attributes` its documentation, and behind a
    `#` the short comment of the annotated example; as `examples[0]` what that has where it shows no default.
    """

    # Inputs are hidden because an exception travels: into logs, into a report of a crash.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_all_defaults(cls, value: Any) -> Any:
        # A section whose keys are all commented out is null in YAML.
        return {} if value is None else value


def must(hold: Callable[[Any], object], message: str, suggestion: str | None = None) -> AfterValidator:
    """Refuse a value for which something does not hold."""

    def check(value: Any) -> Any:
        if not hold(value):
            raise Mistake(message, suggestion)
        return value

    return AfterValidator(check)


# Text and names.


def named(parse: Callable[[str], _Name], value: Any, expected: str) -> _Name:
    """Read a name that follows SQL's rules for quotes."""
    if not isinstance(value, str):
        raise Mistake(f"expected {expected}")
    try:
        return parse(value)
    except IdentifierError as error:
        raise Mistake(f"expected {expected}: {error}") from None


def _column_name(value: Any) -> str:
    return named(parse_column, value, "a column's name")


def _table_name(value: Any) -> QualifiedName:
    is_read = isinstance(value, QualifiedName)
    return value if is_read else named(parse_qualified, value, "a table's name, such as public.applications")


NOT_BLANK = must(str.strip, "must not be empty")

Text = Annotated[str, NOT_BLANK, NOT_EMPTY]

_NO_END = must(
    lambda sql: not sql.rstrip().endswith(";"), "must not end with a semicolon: it becomes part of a longer statement"
)
Sql = Annotated[str, NOT_BLANK, _NO_END, NOT_EMPTY]
"""A piece of SQL, put into a statement as it is."""

ColumnName = Annotated[str, BeforeValidator(_column_name), NOT_EMPTY]
"""A column's name as the catalog has it; written as in SQL: folded to lower case unless in double quotes."""

DISTINCT = must(lambda names: len(set(names)) == len(names), "names a column twice")

TableName = Annotated[QualifiedName, BeforeValidator(_table_name), NOT_EMPTY]
"""A table's name; written as in SQL: each part folded to lower case unless in double quotes."""

# Numbers.

_DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")


def _whole_number(value: Any) -> int:
    """Read an integer; `true` is none, though Python says so."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    # Bounded, because Python refuses to convert more than some thousand digits.
    if not text.removeprefix("-").isdecimal() or len(text) > 18 or not text.isascii():  # noqa: PLR2004 - fits 64 bits
        raise Mistake("expected a whole number")
    return int(text)


def _positive_number(value: Any) -> float:
    text = str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    if not _DECIMAL.fullmatch(text) or not float(text):
        raise Mistake("expected a number above zero, such as 0.5 or 20")
    return float(text)


WholeNumber = Annotated[
    int,
    BeforeValidator(_whole_number),
    # No WithJsonSchema: it would hide a field's own bounds.
    Field(json_schema_extra={"type": ["integer", "string"], "pattern": f"^(-?[0-9]+|{_REFERENCE})$"}),
]

PositiveNumber = Annotated[
    float,
    BeforeValidator(_positive_number),
    WithJsonSchema(
        {"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": f"^({_DECIMAL.pattern}|{_REFERENCE})$"}
    ),
]

# Lengths of time and sizes.

# Bounded, because the time to convert digits to a number grows with the square of their count.
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"": 1, "B": 1, "KB": 1000}
_BYTES |= {f"{prefix}B": 1000**power for power, prefix in enumerate("kMGT", 1)}
_BYTES |= {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)}
_A_DURATION = "expected a duration such as 500ms, 30s, 5m, 2h or 7d"
_A_SIZE = "expected a size such as 256MB, 64KiB or a plain number of bytes"

LONGEST = timedelta(days=3650)
"""No duration is longer: every sum with a date must stay within what Python and PostgreSQL can write."""
LARGEST = 2**50
"""No size is larger (1 PiB): it must fit PostgreSQL's bigint."""

DURATION_PATTERN = rf"^(0|{_NUMBER}(ms|s|m|h|d)|{_REFERENCE})$"
SIZE_PATTERN = rf"^({_NUMBER}({'|'.join(_BYTES)})|{_REFERENCE})$"


def _read(value: Any, units: Mapping[str, int], expected: str, known: str) -> Fraction:
    """Read a number and one of the units, of which `known` tells people."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    match = re.fullmatch(rf"(-?)({_NUMBER})({'|'.join(units)})", text)
    if match is None:
        raise Mistake(expected, f"the units are {known}" if re.match(_NUMBER, text) else None)
    if match[1]:
        raise Mistake("must not be negative")
    return Fraction(match[2]) * units[match[3]]


def parse_duration(value: Any) -> timedelta:
    """Read a duration: a number, decimals allowed, and one of the units ms, s, m, h and d; or plain `0`.

    A `timedelta` is taken as it is, so that a configuration can be made in code.

    Raises:
        Mistake: it is not one, it is negative, finer than a millisecond, or longer than ten years.
    """
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise Mistake("must not be negative")
        return value
    if str(value) == "0":
        return timedelta(0)
    milliseconds = _read(value, _MILLISECONDS, _A_DURATION, "ms, s, m, h and d, written without a blank")
    if milliseconds.denominator != 1:
        raise Mistake("expected a whole number of milliseconds: nothing here is finer than 1ms")
    if milliseconds > LONGEST / timedelta(milliseconds=1):
        raise Mistake(f"must not be longer than {format_duration(LONGEST)}")
    return timedelta(milliseconds=int(milliseconds))


def format_duration(length: timedelta) -> str:
    """Write a duration in the largest unit that gives a whole number; parts of a millisecond are dropped."""
    return _written(length // timedelta(milliseconds=1), _MILLISECONDS) or "0s"


def parse_size(value: Any) -> int:
    """Read a size in bytes: kB, MB, GB, TB count by 1000, KiB, MiB, GiB, TiB by 1024; an `int` is taken as it is.

    Raises:
        Mistake: it is not one, it is negative, has a part of a byte, or exceeds 1 PiB.
    """
    size = _read(value, _BYTES, _A_SIZE, "B, kB, MB, GB, TB, KiB, MiB, GiB and TiB")
    if size.denominator != 1:
        raise Mistake("expected a whole number of bytes")
    if size > LARGEST:
        raise Mistake(f"must not be larger than {format_size(LARGEST)}")
    return int(size)


def format_size(size: int) -> str:
    """Write a size in the largest unit that gives a whole number."""
    return _written(size, _BYTES) or "0B"


def _written(amount: int, units: Mapping[str, int]) -> str:
    """Zero has no largest unit, and is empty."""
    factor, unit = max((factor, unit) for unit, factor in units.items() if amount % factor == 0)
    return f"{amount // factor}{unit}" if amount else ""


def at_least(least: Any, written: str) -> AfterValidator:
    """Refuse less."""
    return must(lambda quantity: quantity >= least, f"must be at least {written}")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "integer"], "pattern": DURATION_PATTERN, "maximum": 0, "minimum": 0}),
]
"""A length of time, 0 or more; written `500ms`, `30s`, `5m`, `2h`, `7d`."""

PositiveDuration = Annotated[Duration, at_least(timedelta(milliseconds=1), "1ms")]

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": SIZE_PATTERN, "minimum": 0}),
]
"""A size in bytes; written `256MB`, `64KiB` or as a plain number."""

# Addresses and headers.

OUR_HEADERS = frozenset(
    {"host", "content-type", "content-length", "transfer-encoding", "connection", "idempotency-key"}
)
"""Request headers that the client itself sets."""

_LAST_PORT = 65535
_PORT = re.compile(r"[0-9]{1,5}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, "token"
_FORBIDDEN_IN_A_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, "field-value": controls but the tab
_NAME = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"
_HOST = re.compile(rf"(?P<host>{_NAME}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_OUR_PATH = re.compile(r"/v1/applications(?:/.*)?$|\.hellowork\.com/v1$", re.IGNORECASE)  # a proxy may have /v1
_AUTHORITY = re.compile(r"(?i)(?P<scheme>https?)://(?P<host>\[[^\]/?#]*\]|[^:/?#]*)(?P<port>:[0-9]+)?(?:/[^?#]*)?")


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where to listen; an IPv6 `host` is without its brackets, port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_header_name(name: str) -> bool:
    """Whether it is a token as HTTP defines it."""
    return _TOKEN.fullmatch(name) is not None


def _base_url(value: str) -> str:
    url = value.rstrip("/")
    if "?" in url or "#" in url:
        raise Mistake("expected a URL without query and fragment: the calls' paths are put behind it")
    if "@" in url:
        raise Mistake("expected a URL without a user name or a password", "credentials belong in hellowork.headers")
    if _OUR_PATH.search(url):
        raise Mistake(
            "expected a URL without HelloWork's own path: /v1/applications/… is put behind it",
            "remove that part; HelloWork's production API is https://ats-partner.hellowork.com",
        )
    match = _AUTHORITY.fullmatch(url)
    if match is None:
        raise Mistake("expected a URL such as https://ats-partner.hellowork.com")
    if match["scheme"].lower() == "http" and not is_loopback(match["host"]):
        raise Mistake("expected an https URL: http is for a loopback address only (localhost, 127.0.0.0/8, [::1])")
    # The same judge as for every call: a base URL that loads is one that can be called.
    try:
        refusal = AllowedHosts(frozenset(), endpoint_of(url)).refusal(url)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        raise Mistake("expected a URL such as https://ats-partner.hellowork.com: a valid host, port and path")
    return url


def _allowed_host(value: str) -> str:
    host = value.strip().lower()
    match = _HOST.fullmatch(host)
    if match is not None and _is_address_or_name(match["host"]) and _is_port(match["port"] or "1"):
        return match["host"] + (f":{int(match['port'])}" if match["port"] else "")
    expected = "expected a host or host:port, such as ats-partner.hellowork.com"
    if "/" in host:
        raise Mistake(expected, "leave out the scheme (https://) and the path")
    if "*" in host:
        raise Mistake(f"{expected}: every host is named, there are no wildcards")
    raise Mistake(expected)


def _listen(value: Any) -> HostPort:
    if isinstance(value, HostPort):
        return value
    expected = "expected host:port, such as 127.0.0.1:8765, or null"
    host, colon, port = value.strip().lower().rpartition(":") if isinstance(value, str) else ("", "", "")
    if colon and host in {"", "*"}:
        raise Mistake(expected, "to listen on every address write 0.0.0.0 or [::] before the port")
    if ":" in host and not host.startswith("["):
        raise Mistake(expected, "an IPv6 address stands in brackets: [::1]:8765")
    match = _HOST.fullmatch(host)
    if match is None or match["port"] or not _is_address_or_name(host) or not (_is_port(port) or port == "0"):
        raise Mistake(expected)
    return HostPort(host.strip("[]"), int(port))


def _is_address_or_name(host: str) -> bool:
    if not host.startswith("["):
        return ".." not in host
    try:
        ipaddress.IPv6Address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and 0 < int(text) <= _LAST_PORT


BaseUrl = Annotated[str, AfterValidator(_base_url), NOT_EMPTY]
"""An https URL (http: loopback only) without credentials, query, fragment and slash at the end."""

AllowedHost = Annotated[str, AfterValidator(_allowed_host), NOT_EMPTY]
"""`host` or `host:port`, lower case, the port without leading zeros."""

Listen = Annotated[HostPort, PlainValidator(_listen, json_schema_input_type=str)]

HeaderName = Annotated[
    str,
    must(is_header_name, "expected a header's name: letters, digits and hyphens", "write `Name: value`, with a blank"),
    must(lambda name: name.lower() not in OUR_HEADERS, "cdc-sync sets this header itself", "remove it"),
]

HeaderValue = Annotated[
    SecretStr,
    must(lambda value: value.get_secret_value().strip(), "must not be empty"),
    must(
        lambda value: not _FORBIDDEN_IN_A_VALUE.search(value.get_secret_value()),
        "must be one line without control characters",
        "a line break at the end of a secret is usual",
    ),
]

"""The base of every section, and how single values are read: text, names, durations, sizes, addresses, headers."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Annotated, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import pydantic
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PlainValidator,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cdc_sync.core.identifiers import QualifiedName, parse_column, parse_qualified
from cdc_sync.core.status_url import AllowedHosts, endpoint_of, is_loopback

Path: TypeAlias = tuple[str | int, ...]
"""From the top of the document to a part of it: keys and positions in lists."""

KEYS: set[str] = set()
"""The keys of all sections."""


class SettingError(ValueError):
    """What is wrong with a value, without the value."""


class Section(pydantic.BaseModel):
    """A section: immutable, and every unknown key is an error. The text behind a key documents it."""

    # Exceptions reach logs and crash reports.
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True, use_attribute_docstrings=True
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Note the keys."""
        KEYS.update(field.alias or name for name, field in cls.model_fields.items())

    @model_validator(mode="before")
    @classmethod
    def _empty_if_null(cls, value: Any) -> Any:
        """A section whose keys are all commented out is null in YAML."""
        return {} if value is None else value


default: Callable[..., Any] = Field
"""A key's default as the file has it, and what else is known of the key."""


def must(hold: Callable[[Any], object], expected: str) -> AfterValidator:
    """Refuse a value that does not hold, with what was expected."""

    def check(value: Any) -> Any:
        if not hold(value):
            raise SettingError(expected)
        return value

    return AfterValidator(check)


def refuse(key: str, is_wrong: Callable[[Any, Mapping[str, Any]], object], expected: str) -> Any:
    """A section's rule: the value of a key is wrong beside those of the keys before it, if these are right."""

    def check(_: type[Section], value: Any, info: ValidationInfo) -> Any:
        with suppress(KeyError):  # its own error is reported
            if is_wrong(value, info.data):
                raise SettingError(expected)
        return value

    return field_validator(key)(classmethod(check))


def read_by(read: Callable[[str], Any]) -> PlainValidator:
    """Read a value from text."""

    def value_of(value: Any) -> Any:
        if not isinstance(value, str):
            raise SettingError("expected text")
        return read(value)

    return PlainValidator(value_of, json_schema_input_type=str)


def short_for(key: str, section: type[Section]) -> BeforeValidator:
    """A section that may be written as the text of one of its keys."""

    def whole(value: Any) -> Any:
        return {key: value} if isinstance(value, str) else value

    return BeforeValidator(whole, json_schema_input_type=str | section)


# References.

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>file:(?:[^{}]|\$\{[^{}]*\}|\{tenant\})*|[^{}]*)\}|\$\{")

UNRESOLVED = "dbname=cdc-sync-has-no-value-for-this-reference"
"""In place of a reference without a value; long enough for any secret, and a connection string that leads nowhere."""


def substitute(text: str, resolved: Callable[[str], str]) -> str:
    """Replace every reference in a value by `resolved` of the text in its braces (of "" if they are open)."""
    return _REFERENCE.sub(lambda match: "${" if match[0] == "$${" else resolved(match["body"] or ""), text)


def references_in(text: str) -> list[str]:
    """The texts in the braces of a value's references."""
    return [match["body"] for match in _REFERENCE.finditer(text) if match["body"]]


def is_for_each_tenant(text: str) -> bool:
    """Whether a reference in a value has `{tenant}` in it."""
    return any("{tenant}" in body for body in references_in(text))


class References(NamedTuple):
    """The values of references: variables of an environment, and files, relative ones in a folder."""

    environ: Mapping[str, str]
    folder: FilePath

    def __call__(self, text: str) -> str:
        """A text with its references replaced.

        Raises:
            SettingError: a reference has no value.
        """
        return substitute(text, self.resolve)

    def resolve(self, body: str) -> str:
        """The value of a reference, by the text in its braces.

        Raises:
            SettingError: it has none.
        """
        if not body.startswith("file:"):
            return self._variable(body)
        written = body.removeprefix("file:")
        file = self.folder / re.sub(r"\$\{([^{}]*)\}", lambda match: self._variable(match[1]), written)
        try:
            text = read_text(file)
        except (OSError, ValueError) as error:  # a path may have a NUL
            why = error.strerror if isinstance(error, OSError) else error
            raise SettingError(f"cannot read {written}: {why}") from None
        # One newline, which editors and `echo` add; a second is content.
        return re.sub(r"\r?\n\Z", "", text)

    def _variable(self, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise SettingError("expected ${NAME} or ${file:PATH}, complete; a literal ${ is written $${")
        if name not in self.environ:
            how = "Environment=, EnvironmentFile= or LoadCredential="
            raise SettingError(f"the environment variable {name} is not set (systemd: {how})")
        return self.environ[name]


def read_text(path: FilePath) -> str:
    """The text of a file; bytes that are no UTF-8 become halves of surrogate pairs, which no value takes.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape", opener=_opened) as file:
        return file.read()


def _opened(name: str, flags: int) -> int:
    # A FIFO that nobody writes, as after a first read of `<(…)`, is empty: a reload would wait for ever.
    file = os.open(name, flags | os.O_NONBLOCK)
    os.set_blocking(file, True)
    return file


# Text and names.

Text = Annotated[str, Field(min_length=1)]

ColumnName = Annotated[str, AfterValidator(parse_column)]
"""As the catalog has it; folded to lower case unless in double quotes."""

# PostgreSQL's names have 63 bytes, and a watch's name is part of several (record_…).
PlainName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""The name of a watch or a database."""

AccountName = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=200)]

TableName = Annotated[QualifiedName, read_by(parse_qualified)]
"""Each part folded to lower case unless in double quotes."""

# Lengths of time and sizes.

MILLISECOND = timedelta(milliseconds=1)
_UNITS = {name[0]: timedelta(**{name: 1}) for name in ("days", "hours", "minutes", "seconds")} | {"ms": MILLISECOND}

LONGEST = timedelta(days=3650)
"""Every sum with a date must stay within what Python and PostgreSQL can express."""


def parse_duration(value: Any) -> timedelta:
    """Read a duration: a number, decimals allowed, and a unit (ms, s, m, h, d); or plain `0`.

    Raises:
        SettingError: it is not one.
    """
    text = "0s" if value == "0" else str(value)
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", text)
    if match is None:
        raise SettingError("expected a duration such as 500ms, 30s, 5m, 2h or 7d")
    return float(match[1]) * _UNITS[match[2]]


Duration = Annotated[timedelta, Field(le=LONGEST), BeforeValidator(parse_duration, json_schema_input_type=int | str)]

PositiveDuration = Annotated[Duration, must(lambda length: length >= MILLISECOND, "must be at least 1ms")]

Size = Annotated[ByteSize, Field(le=2**50)]

# Addresses and headers.

_OUR_HEADERS = {"host", "content-type", "content-length", "transfer-encoding", "connection", "idempotency-key"}
"""The client sets these itself."""

_OUR_PATH = re.compile(r"/v1/applications(?:/.*)?$|\.hellowork\.com/v1$", re.IGNORECASE)  # a proxy may have /v1


class HostPort(NamedTuple):
    """Where to listen; an IPv6 `host` has no brackets, port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def _can_be_called(url: str) -> bool:
    """Whether a base URL passes as every call's does, and has nothing that is put behind it."""
    try:
        is_whole = "?" in url or _OUR_PATH.search(url)
        return not is_whole and AllowedHosts(frozenset(), endpoint_of(url)).refusal(url) is None
    except ValueError:
        return False


def parse_listen(value: str) -> HostPort:
    """Read an address to listen on.

    Raises:
        SettingError: it is none.
    """
    with suppress(ValueError):
        url = urlsplit(f"//{value}")
        if url.netloc == value and url.hostname and url.port is not None:
            return HostPort(url.hostname, url.port)
    raise SettingError("expected host:port, such as 127.0.0.1:8765 or [::1]:8765; 0.0.0.0 is every address")


def header_value(value: SecretStr) -> SecretStr:
    """Check a header's value.

    Raises:
        SettingError: no header can have it.
    """
    # RFC 9110, "field-value": no controls but the tab.
    if not re.fullmatch(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]+", value.get_secret_value()):
        raise SettingError("must be one line, and not empty: a line break at the end of a secret is usual")
    return value


_EXPECTED_URL = (
    "expected a URL such as https://ats-partner.hellowork.com, or http to a loopback address, without a user name, a "
    "query and HelloWork's own path /v1/applications/…: credentials belong in headers"
)

BaseUrl = Annotated[str, AfterValidator(lambda url: url.rstrip("/")), must(_can_be_called, _EXPECTED_URL)]

AllowedHost = Annotated[
    str,
    StringConstraints(to_lower=True),
    must(
        lambda host: AllowedHosts(frozenset({host})).refusal(f"https://{host}") is None,
        "expected a host or host:port, without a scheme, a path and wildcards",
    ),
]

Listen = Annotated[HostPort, read_by(parse_listen)]

HeaderName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
    must(lambda name: name.lower() not in _OUR_HEADERS, "cdc-sync sets this header itself"),
]

HeaderValue = Annotated[SecretStr, AfterValidator(header_value)]

"""Where calls go and where the admin pages listen: URLs, hosts, ports, and the headers that go along."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainValidator, SecretStr

from cdc_sync.config.problems import Mistake
from cdc_sync.config.section import NOT_EMPTY
from cdc_sync.core.status_url import AllowedHosts, endpoint_of, is_loopback

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


def _header_name(name: str) -> str:
    if not is_header_name(name):
        raise Mistake("expected a header's name: letters, digits and hyphens", "write `Name: value`, with a blank")
    if name.lower() in OUR_HEADERS:
        raise Mistake("cdc-sync sets this header itself", "remove it")
    return name


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.strip():
        raise Mistake("must not be empty")
    if _FORBIDDEN_IN_A_VALUE.search(text):
        raise Mistake("must be one line without control characters", "a line break at the end of a secret is usual")
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url), NOT_EMPTY]
"""An https URL (http: loopback only) without credentials, query, fragment and slash at the end."""

AllowedHost = Annotated[str, AfterValidator(_allowed_host), NOT_EMPTY]
"""`host` or `host:port`, lower case, the port without leading zeros."""

Listen = Annotated[
    HostPort,
    PlainValidator(_listen, json_schema_input_type=str),
]
"""`host:port`."""

HeaderName = Annotated[str, BeforeValidator(_header_name)]
"""The name of a request header that is not the client's own."""

HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
"""The value of a request header."""

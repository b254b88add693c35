"""The URL of a call: built from an application's id, or taken from a row and not trusted.

One strict pattern decides, no parser: where two parsers disagree about a backslash, a tab or a second `@`, a request
may reach a host that no check saw.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit

from .reasons import coded

LONGEST_ID = 300
"""Most characters of an application's id; no real one comes near. Every index of the store can hold so many."""

DEFAULT_ACCOUNT = "default"
"""The account of section `hellowork` itself."""

_ROUNDS = 3
"""How often an id may be percent-encoded."""

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9\-._~!$&'()*+,;=:@%]*)*)"
    r"(?P<query>\?[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*)?",
    # ASCII: otherwise a long s or a Kelvin sign would pass for an s or a k.
    re.IGNORECASE | re.ASCII,
)
_STATUS_PATH = re.compile(r"/v1/applications/(?P<id>[^/]+)/status/?$")
# Unambiguous also after decoding.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_~-]{1,200})+", re.ASCII)
PLAIN_ID = re.compile(r"[A-Za-z0-9_~-]{1,200}", re.ASCII)
"""Most ids: they need no check."""
# In a decoded path: control characters, which no id has; behind a `?` or `#` a server sees a query, so the part before
# must be no status URL; and segments that a server removes. Some servers read `\` as `/`, or drop what follows a `;`.
_TRAPS = r"[\x00-\x1f\x7f]|(?i:[/\\]status(?:;[^/\\?#]*)?[/\\]*[?#])|(?:\A|[/\\])\.{%s,2}(?:[/\\;?#]|\Z)"
_TRAPS_OF_A_PATH, _TRAPS_OF_AN_ID = re.compile(_TRAPS % 1), re.compile(_TRAPS % 0)
_AFTER_SCHEME = len("https://")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Where calls may go: origins (scheme, host, port).

    `names` are `host`, with its scheme's default port, or `host:port`, in lower case; `base` is base_url's origin.
    """

    names: frozenset[str]
    base: str | None = None

    def refusal(self, url: str) -> str | None:
        """Why a call to this URL must not be made; None if it may."""
        origin, path = _parts(url)
        reason = self._origin_refusal(origin)
        if path and reason is None:
            if _is_trap(path, _ROUNDS + 1, _TRAPS_OF_A_PATH):  # the URL encodes the id once more
                reason = coded("url-path", "a proxy that decodes its path would lead it elsewhere")
            elif (application_id := id_in(url)) is not None:
                reason = id_refusal(application_id)
        if reason is None:
            return None
        return coded("url-refused", "the URL %(url)s may not be called: %(reason)s", url=repr(url), reason=reason)

    @lru_cache(maxsize=256)  # noqa: B019 - few configurations and hosts
    def _origin_refusal(self, origin: str) -> str | None:
        try:
            endpoint = _endpoint_of(origin)
        except ValueError:
            return coded("url-not-plain", "it is not a plain https URL (no user name, no fragment, no odd character)")
        scheme, _, authority = endpoint.partition("://")
        host, _, port = authority.rpartition(":")
        if scheme == "http" and not is_loopback(host):
            return coded("url-http", "it is http: only https may be used, except to a loopback address")
        entry = host if int(port) == _PORTS[scheme] else authority
        if endpoint == self.base or entry in self.names or authority in self.names:
            return None
        return coded(
            "url-origin",
            "its origin %(origin)s is neither base_url's nor in hellowork.allowed_hosts; if calls may go there, add "
            "%(entry)s to that list",
            origin=endpoint,
            entry=repr(entry),
        )


@lru_cache(maxsize=256)  # called for each row, call and request, mostly with few hosts
def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine: `localhost`, 127.0.0.0/8 or `[::1]`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_loopback(host: str) -> bool:
    """Whether a `Host` header, or an address, names this machine: a page may have pointed its own name here."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def endpoint_of(url: str) -> str:
    """Scheme, host and port.

    Raises:
        ValueError: the URL is none that `AllowedHosts` could allow.
    """
    return _endpoint_of(_parts(url)[0])


@lru_cache(maxsize=1024)  # asked several times for each change
def _parts(url: str) -> tuple[str, str]:
    """Origin and path of a URL; the path is "" if it needs no check. No URL is all origin."""
    path = url.find("/", _AFTER_SCHEME)
    if path > 0 and _PLAIN_PATH.fullmatch(url, path):
        return url[:path], ""
    match = _URL.fullmatch(url)
    return (url, "") if match is None else (url[: match.start("path")], match["path"])


@lru_cache(maxsize=256)  # called for each call, with few hosts
def _endpoint_of(origin: str) -> str:
    match = _URL.fullmatch(origin)
    if match is None:
        raise ValueError("not a URL that can be called")
    scheme = match["scheme"].lower()
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port < 65536:  # noqa: PLR2004 - the last TCP port
        raise ValueError("not a TCP port")
    return f"{scheme}://{match['host'].lower()}:{port}"


def endpoint_name(origin: str, account: str) -> str:
    """An endpoint: an origin and an account, which is named unless it is the default one."""
    return origin if account == DEFAULT_ACCOUNT else f"{origin} [{account}]"


def account_of(endpoint: str) -> str:
    """An endpoint's account, by its name."""
    _, is_named, rest = endpoint.partition(" [")
    return rest.removesuffix("]") if is_named else DEFAULT_ACCOUNT


def build(base_url: str, application_id: str) -> str:
    """The documented URL of an application: `{base_url}/v1/applications/{applicationId}/status`.

    All but RFC 3986's unreserved characters is percent-encoded. A server that decodes the path undoes that;
    `id_refusal` refuses ids that could leave their place then.
    """
    # `quote` would take longer than the rest of a call's address.
    quoted = application_id if PLAIN_ID.fullmatch(application_id) else quote(application_id, safe="")
    return f"{base_url}/v1/applications/{quoted}/status"


def id_in(url: str) -> str | None:
    """The application's id in its status URL, if it has that form."""
    match = _URL.fullmatch(url)
    found = match and _STATUS_PATH.search(match["path"])
    try:
        # A replacement for invalid UTF-8 would merge two applications.
        return unquote(found["id"], errors="strict") if found else None
    except UnicodeDecodeError:
        return None


def id_refusal(application_id: str) -> str | None:
    """Why an id cannot be an application's; None if it can."""
    if len(application_id) > LONGEST_ID:
        return coded("id-too-long", "the application's id has more than %(longest)s characters", longest=LONGEST_ID)
    if not application_id.strip() or _is_trap(application_id, _ROUNDS, _TRAPS_OF_AN_ID):
        return coded(
            "id-out-of-place",
            "the application's id %(id)s cannot stand in a URL's path: a proxy that decodes the path would lead it "
            "elsewhere",
            id=repr(application_id),
        )
    return None


def _is_trap(text: str, rounds: int, traps: re.Pattern[str]) -> bool:
    """Whether some server may read a text as another one, after all the decoding that servers may do.

    Also if it needs more rounds: a text that is encoded n times would cost n times its length.
    """
    for _ in range(rounds + 1):  # the last one finds nothing to decode
        encoded, text = text, unquote(text)
        if text == encoded:
            return traps.search(text) is not None
    return True

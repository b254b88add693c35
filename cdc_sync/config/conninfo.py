"""What is wrong with a libpq connection string, as far as its text tells; what only a server can judge is left to it.

libpq takes for a host whatever stands in a host's place: of a password with an `@` or a `/` that is not escaped, the
rest. It would be looked for for ever. So a URI is read more strictly here: an `@` in a host or a database's name is
escaped, or is a mistake. Values that libpq looks at only when it connects are looked at beforehand.

No message repeats anything of the string, since what stands in the place of a keyword or a port may be a part of a
password. Only names and values are written that libpq has itself.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from urllib.parse import unquote

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config.mistakes import Mistake

ESCAPES = "in a URI's user name and password write @ as %40, / as %2F, : as %3A and % as %25"

_EXPECTED = "is no connection string: expected postgresql://USER@HOST:PORT/DATABASE or key=value pairs"
_QUOTES = r"a value with blanks stands in single quotes, password='…', and in it \' is a quote and \\ a backslash"

_SCHEME = re.compile(r"postgres(?:ql)?://")
_CREDENTIALS = re.compile(r"[^@/]*@")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_CONTROL = re.compile(r"[\t-\r]")
_NAME = re.compile(r"\s*(?P<name>[^=\s]+)\s*(?P<equals>=?)\s*")
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|(?!')(?:[^\s\\]|\\.?)*", re.DOTALL)

_TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
# libpq's documentation, "Parameter Key Words" (PostgreSQL 18).
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "load_balance_hosts": ("disable", "random"),
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "sslcertmode": ("disable", "allow", "require"),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
_ANY_CASE = {"ssl_max_protocol_version", "ssl_min_protocol_version"}
_NUMBERS = (
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
)
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")
_SECONDS = re.compile(r"\s*[+-]?[0-9]{1,9}(\.[0-9]*)?\s*")  # psycopg looks after this one, and takes it by halves, too
_LAST_PORT = 65535


def check(dsn: str) -> None:
    """Refuse a connection string that leads nowhere whatever the server is; an empty one leaves all to the environment.

    Raises:
        Mistake: which part is wrong; the message goes on after the string's name, and tells nothing of what it holds.
    """
    if "\0" in dsn:
        raise Mistake("has a NUL character, where libpq would stop reading")
    is_uri = _SCHEME.match(dsn) is not None
    if is_uri:
        _check_uri(dsn)
    try:
        given = conninfo_to_dict(dsn)
    except UnicodeError:
        raise Mistake("has bytes that are no UTF-8 text", ESCAPES if is_uri else None) from None
    except psycopg.ProgrammingError:
        raise (_wrong_uri(dsn) if is_uri else _wrong_pair(dsn)) from None
    text = {name: str(value) for name, value in given.items()}
    _check_hosts(text, ESCAPES if is_uri else None)
    _check_values(text)


def _check_uri(uri: str) -> None:
    credentials, place, _ = _parts(uri)
    if "@" in place:
        what = "has one @ too many: what follows the first" if credentials else "has a / before its @: what precedes it"
        raise Mistake(f"{what} is taken for the host", ESCAPES)
    if _CONTROL.search(uri):
        raise Mistake(
            "has a line break or a tab", "a URI is one line; `>-` and `|-` in YAML leave no line break at the end"
        )
    if _BAD_ESCAPE.search(uri):
        raise Mistake("has a % that is not followed by the two hexadecimal digits of a character", ESCAPES)


def _parts(uri: str) -> tuple[str, str, str]:
    """What libpq takes for the credentials, for the hosts with the database's name, and for the parameters."""
    rest = uri.partition("://")[2]
    found = _CREDENTIALS.match(rest)
    credentials = found[0] if found else ""
    place, _, parameters = rest.removeprefix(credentials).partition("?")
    return credentials, place, parameters


def _wrong_uri(uri: str) -> Mistake:
    """Say what libpq refuses."""
    if " " in uri:
        return Mistake("has a blank", "in a URI it is written %20")
    _, place, parameters = _parts(uri)
    if re.search(r"(?:^|,)\[(?![^\]]+\](?:[:/,]|$))", place):
        return Mistake("has an IPv6 address whose brackets are not as in [::1]:5432", ESCAPES)
    known = {*_keywords(), "ssl"}
    before: str | None = None
    for parameter in parameters.split("&"):
        name, equals, value = parameter.partition("=")
        name = unquote(name)
        if name not in known:
            return _unknown(name, before) if equals else Mistake(f"has something without a ={_behind(before)}", ESCAPES)
        if not equals or "=" in value:
            return Mistake(f"has not one = between {name} and its value", "in a value = is written %3D, and & is %26")
        before = name
    return Mistake(_EXPECTED, ESCAPES)


def _wrong_pair(pairs: str) -> Mistake:
    """Say what libpq refuses; the pairs are taken apart as it does."""
    if _SCHEME.match(pairs.strip()):
        return Mistake("has a blank before the URI", "remove it")
    before: str | None = None
    at = 0
    while name := _NAME.match(pairs, at):
        if "://" in name["name"] or (not name["equals"] and before is None):
            return Mistake(_EXPECTED)
        if not name["equals"]:
            return Mistake(f"has something without a ={_behind(before)}", _QUOTES)
        if name["name"] not in _keywords():
            return _unknown(name["name"], before)
        value = _VALUE.match(pairs, name.end())
        if value is None:
            return Mistake(f"has no closing quote for the value of {name['name']}", _QUOTES)
        before, at = name["name"], value.end()
    return Mistake(_EXPECTED)


def _unknown(name: str, before: str | None) -> Mistake:
    close = get_close_matches(name, _keywords(), n=1)
    meant = f'did you mean "{close[0]}"?' if close else "libpq's documentation lists them (Parameter Key Words)"
    return Mistake(f"has a keyword that libpq does not have{_behind(before)}", meant)


def _behind(keyword: str | None) -> str:
    return "" if keyword is None else f", behind {keyword}"


def _keywords() -> list[str]:
    return [option.keyword.decode() for option in pq.Conninfo.get_defaults()]


def _check_hosts(given: Mapping[str, str], escapes: str | None) -> None:
    ports = given.get("port", "").split(",")
    if not all(_is_port(port.strip()) for port in ports):
        raise Mistake(f"has a port that is no number from 1 to {_LAST_PORT}", escapes)
    hosts, addresses = (given[name].split(",") if given.get(name) else None for name in ("host", "hostaddr"))
    # At the beginning it is Linux's sign for an abstract socket.
    if any("@" in host[1:] for host in hosts or ()):
        raise Mistake("has an @ in its host", escapes)
    if hosts and addresses and len(hosts) != len(addresses):
        raise Mistake("has not as many hosts (host) as addresses (hostaddr)")
    reached = addresses or hosts
    if reached and len(ports) not in {1, len(reached)}:
        raise Mistake("has not as many ports as hosts, nor one for all of them")


def _check_values(given: Mapping[str, str]) -> None:
    if not _SECONDS.fullmatch(given.get("connect_timeout", "0")):
        raise Mistake("has a connect_timeout that is no number of seconds")
    for name in _NUMBERS:
        if name in given and not _NUMBER.fullmatch(given[name]):
            raise Mistake(f"has a {name} that is no whole number")
    for name, choices in _CHOICES.items():
        value = given.get(name)
        if value is None or value in choices:
            continue
        if name in _ANY_CASE and value.lower() in {"", *map(str.lower, choices)}:
            continue
        spelled = {choice.lower(): choice for choice in choices}
        close = get_close_matches(value.lower(), spelled, n=1)
        expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
        suggestion = f'did you mean "{spelled[close[0]]}"?' if close else None
        raise Mistake(f"has a value of {name} that libpq does not take: expected {expected}", suggestion)


def _is_port(text: str) -> bool:
    """An empty one is the usual one."""
    return not text or (re.fullmatch(r"\+?[0-9]{1,9}", text) is not None and 0 < int(text) <= _LAST_PORT)

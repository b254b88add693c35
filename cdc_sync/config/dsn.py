"""Connection strings of libpq: their errors, what of them may be shown, and whether they are encrypted.

libpq takes anything in a host's place for a host, also the rest of a password with an unescaped `@` or `/`. So an `@`
in the host or database name of a URI must be escaped here. What libpq checks only when it connects is checked too.

Messages repeat nothing of the string: part of a password may stand in any place.
"""

import re
from collections.abc import Mapping

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync.config.document import UNRESOLVED
from cdc_sync.config.problems import SettingError, did_you_mean, setting_error
from cdc_sync.core.findings import Finding, State
from cdc_sync.core.status_url import is_loopback
from cdc_sync.core.visible import HIDDEN
from cdc_sync.packaged import data

ESCAPES = "in a URI's user name and password write @ as %40, / as %2F, : as %3A and % as %25"

_SCHEME = re.compile(r"postgres(?:ql)?://")
_CREDENTIALS = re.compile(r"[^@/]*@")
_CONTROL = re.compile(r"[\t-\r]")
_LIBPQ = data("config/libpq.yaml")
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")
_SECONDS = re.compile(r"\s*[+-]?[0-9]{1,9}(\.[0-9]*)?\s*")  # psycopg reads it, with decimals
_LAST_PORT = 65535


def check(dsn: str) -> None:
    """Refuse a connection string that leads nowhere on any server; an empty one leaves all to the environment.

    Raises:
        SettingError: the message follows the string's name and shows nothing of its content.
    """
    if "\0" in dsn:
        raise SettingError("has a NUL character, where libpq would stop reading")
    escapes = ESCAPES if _SCHEME.match(dsn) else None
    if escapes:
        _check_uri(dsn)
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except UnicodeError:
        raise SettingError("has bytes that are no UTF-8 text", escapes) from None
    except psycopg.ProgrammingError as error:
        raise _refused(str(error)) from None
    _check_hosts(given, escapes)
    _check_values(given)


def _check_hosts(given: Mapping[str, str], escapes: str | None) -> None:
    texts = (given.get(name) for name in ("host", "hostaddr", "port"))
    hosts, addresses, ports = (text.split(",") if text else [] for text in texts)
    if not all(_is_port(port.strip()) for port in ports):
        raise SettingError(f"has a port that is no number from 1 to {_LAST_PORT}", escapes)
    # At the beginning it marks Linux's abstract sockets.
    if any("@" in host[1:] for host in hosts):
        raise SettingError("has an @ in its host", escapes)
    if hosts and addresses and len(hosts) != len(addresses):
        raise SettingError("has not as many hosts (host) as addresses (hostaddr)")
    reached = addresses or hosts
    if reached and len(ports) not in {0, 1, len(reached)}:
        raise SettingError("has not as many ports as hosts, nor one for all of them")


def _check_values(given: Mapping[str, str]) -> None:
    """Check what libpq checks later."""
    if not _SECONDS.fullmatch(given.get("connect_timeout", "0")):
        raise SettingError("has a connect_timeout that is no number of seconds")
    for name in _LIBPQ["numbers"]:
        if not _NUMBER.fullmatch(given.get(name, "0")):
            raise SettingError(f"has a {name} that is no whole number")
    for name, choices in _LIBPQ["choices"].items():
        value = given.get(name, choices[0])
        lower = value.lower()
        if value not in choices and not (name in _LIBPQ["any_case"] and lower in {"", *choices}):
            wrong = setting_error("dsn-choice", name=name, choices=", ".join(choices))
            raise SettingError(wrong.message, did_you_mean(lower, choices))


def _check_uri(uri: str) -> None:
    rest = uri.partition("://")[2]
    # As libpq takes them; the hosts and the database's name follow.
    credentials = _CREDENTIALS.match(rest)
    if "@" in rest[credentials.end() if credentials else 0 :].partition("?")[0]:
        raise setting_error("dsn-two-ats" if credentials else "dsn-slash", escapes=ESCAPES)
    if _CONTROL.search(uri):
        raise setting_error("dsn-lines")


def _refused(libpq: str) -> SettingError:
    """An error of libpq, recognised by its beginning: the rest quotes the string."""
    meant = next(each for each in _LIBPQ["refusals"] if libpq.startswith(each["sign"]))
    remedy = meant["remedy"].format(escapes=ESCAPES)
    if meant.get("is_keyword"):
        keywords = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
        remedy = did_you_mean(libpq.partition('"')[2].rpartition('"')[0], keywords) or remedy
    return SettingError(meant["message"], remedy)


def _is_port(text: str) -> bool:
    return not text or (re.fullmatch(r"\+?[0-9]{1,9}", text) is not None and 0 < int(text) <= _LAST_PORT)


def shown(dsn: str) -> str:
    """A connection string for people, as pairs: user, hosts, database and a few harmless parameters.

    One that `check` refuses is hidden as a whole: part of a password could pass for a host.
    """
    if not dsn.strip():
        return "(PG* variables)"
    try:
        check(dsn)
    except SettingError:
        return HIDDEN
    given = conninfo_to_dict(dsn)
    harmless = {name: str(given[name]) for name in _LIBPQ["harmless"] if name in given}
    # A database's name may be a URI with a password.
    if any("://" in value for value in harmless.values()):
        return HIDDEN
    return make_conninfo("", **harmless) or HIDDEN


def user_of(dsn: str) -> str | None:
    """The role of a connection string; None without one, or without its reference's value."""
    user = conninfo_to_dict(dsn).get("user")
    return None if user is None or UNRESOLVED in str(user) else str(user)


def settings_of(dsn: str) -> dict[str, str]:
    """What a connection string and the environment set."""
    # Without libpq's compiled defaults: sslmode's depends on sslrootcert.
    environment = {
        each.keyword.decode(): each.val.decode(errors="replace")
        for each in pq.Conninfo.get_defaults()
        if each.val is not None and each.val != each.compiled
    }
    return environment | {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}


def place(dsn: str) -> str | None:
    """The database and its host as DATABASE@HOST, or the database alone on this machine's socket; None if unknown."""
    if shown(dsn) == HIDDEN:
        return None
    settings = settings_of(dsn)
    database, host = settings.get("dbname") or settings.get("user") or "", settings.get("host", "")
    if not database or UNRESOLVED in database + host or "://" in database:
        return None
    return database if not host or host[0] in "/@" else f"{database}@{host}"


def encryption(check: str, name: str, dsn: str) -> Finding:
    """Whether anybody on the way can read along, or pose as the server; `name` is the key of the connection string.

    libpq's default, `sslmode=prefer`, encrypts only if the server offers it: an attacker in between offers none, and
    may ask for the password in clear text (libpq's documentation, "SSL Support").
    """
    given, settings = conninfo_to_dict(dsn), settings_of(dsn)
    hosts = (settings.get("hostaddr") or settings.get("host") or "").split(",")
    far = [host for host in hosts if not _is_here(host)]
    mode = settings.get("sslmode") or ("verify-full" if settings.get("sslrootcert") == "system" else "prefer")
    if "service" in given and "sslmode" not in given:
        found = "service"
    elif not far:
        found = "near"
    elif mode == "verify-full" or settings.get("gssencmode") == "require":
        found = "verified"
    else:
        found = "unverified" if mode in {"require", "verify-ca"} else "open"
    state: State = "warning" if found == "open" else "ok"
    message, *remedy = (text.format(name=name, hosts=", ".join(far), mode=mode) for text in _LIBPQ["encryption"][found])
    return Finding(check, state, message, "".join(remedy).rstrip() or None)


def _is_here(host: str) -> bool:
    return not host or host[0] in "/@" or is_loopback(host.partition("%")[0])

"""Connection strings of libpq: their errors, what of them may be shown, and whether they are encrypted.

libpq takes anything in a host's place for a host, also the rest of a password with an unescaped `@` or `/`. So an `@`
in the host or database name of a URI must be escaped here.

Messages repeat nothing of the string: part of a password may stand in any place.
"""

import re

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync.config.document import UNRESOLVED
from cdc_sync.config.problems import SettingError
from cdc_sync.core.findings import Finding
from cdc_sync.core.status_url import is_loopback
from cdc_sync.core.visible import HIDDEN

_ESCAPES = "; in a URI's user name and password write @ as %40, / as %2F, : as %3A and % as %25"

_SCHEME = re.compile(r"postgres(?:ql)?://")
_CREDENTIALS = re.compile(r"[^@/]*@")
_CONTROL = re.compile(r"[\t-\r]")
_LAST_PORT = 65535

_HARMLESS = (
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "service",
    "application_name",
    "connect_timeout",
    "sslmode",
    "target_session_attrs",
    "load_balance_hosts",
)
"""What may be shown: a list of what must not could miss one (sslpassword, passfile, options)."""


def check(dsn: str) -> None:
    """Refuse a connection string that libpq cannot read; an empty one leaves all to the environment.

    What libpq finds only when it connects is left to it, but for what could be a password in another place.

    Raises:
        SettingError: the message follows the string's name and shows nothing of its content.
    """
    if _SCHEME.match(dsn):
        _check_uri(dsn)
    try:
        if "\0" in dsn:  # libpq would stop reading
            raise SettingError("has a NUL character")
        given = conninfo_to_dict(dsn)
    except (UnicodeError, psycopg.ProgrammingError):
        expected = "expected postgresql://USER@HOST:PORT/DATABASE, or pairs of a keyword of libpq's and a value"
        raise SettingError(f"{expected}{_ESCAPES}") from None
    hosts, ports = (str(given.get(name) or "").split(",") for name in ("host", "port"))
    if not all(_is_port(port.strip()) for port in ports):
        raise SettingError(f"has a port that is no number from 1 to {_LAST_PORT}{_ESCAPES}")
    # At the beginning it marks Linux's abstract sockets.
    if any("@" in host[1:] for host in hosts):
        raise SettingError(f"has an @ in its host{_ESCAPES}")


def _check_uri(uri: str) -> None:
    rest = uri.partition("://")[2]
    # As libpq takes them; the hosts and the database's name follow.
    credentials = _CREDENTIALS.match(rest)
    if "@" in rest[credentials.end() if credentials else 0 :].partition("?")[0]:
        raise SettingError(f"has an @ or a / in its password that libpq takes for the host's beginning{_ESCAPES}")
    if _CONTROL.search(uri):
        raise SettingError("has a line break or a tab: `>-` and `|-` in YAML leave no line break at the end")


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
    harmless = {name: str(given[name]) for name in _HARMLESS if name in given}
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
        return Finding(check, "ok", f"{name} names a service: its file decides whether the connection is encrypted")
    if not far:
        return Finding(check, "ok", f"{name} leads nowhere beyond this machine")
    if mode == "verify-full" or settings.get("gssencmode") == "require":
        return Finding(check, "ok", f"{name}: the connection is encrypted, and the server is verified")
    if mode in {"require", "verify-ca"}:
        encrypted = f"{name}: the connection is encrypted (sslmode={mode})"
        return Finding(check, "ok", f"{encrypted}; verify-full would also verify the server")
    message = (
        f"{name} lets the connection to {', '.join(far)} go unencrypted (sslmode={mode}): who is on the way may read "
        "along, or stand in for the server and be given the password"
    )
    return Finding(check, "warning", message, _TO_ENCRYPT.format(name=name))


_TO_ENCRYPT = """\
Add this to {name}: sslmode=verify-full sslrootcert=system (libpq 16 or newer), or with the certificate of your own \
authority sslmode=verify-full sslrootcert=/etc/cdc-sync/ca.pem; sslmode=require at least.
And require_auth=scram-sha-256, so that no server is given the password in clear text."""


def _is_here(host: str) -> bool:
    return not host or host[0] in "/@" or is_loopback(host.partition("%")[0])

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

_EXPECTED = (
    "expected postgresql://USER@HOST:PORT/DATABASE, or pairs of a keyword of libpq's and a value; in a URI's user name "
    "and password write @ as %40, / as %2F, : as %3A and % as %25"
)

_SECOND_AT = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?+[^?]*@")
"""In a URI, an `@` in what libpq takes for the hosts and the database's name."""

_HARMLESS = ("host", "hostaddr", "port", "dbname", "user", "service", "application_name", "connect_timeout", "sslmode")
"""What may be shown: a list of what must not could miss one (sslpassword, passfile, options)."""


def check(dsn: str) -> None:
    """Refuse a connection string that libpq cannot read; an empty one leaves all to the environment.

    What libpq finds only when it connects is left to it, but for what could be a password in another place.

    Raises:
        SettingError: the message follows the string's name and shows nothing of its content.
    """
    try:
        given = conninfo_to_dict(dsn)
    except (UnicodeError, psycopg.ProgrammingError):
        raise SettingError(_EXPECTED) from None
    # A database's name with a URI in it may have a password.
    if (
        _SECOND_AT.match(dsn)
        or "://" in str(given.get("dbname", ""))
        or not re.fullmatch(r"[ +0-9,]*", str(given.get("port", "")))
    ):
        raise SettingError(_EXPECTED)


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
    return make_conninfo("", **{name: given[name] for name in _HARMLESS if name in given}) or HIDDEN


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
    database, host = settings.get("dbname"), settings.get("host", "")
    return database if not host or host[0] in "/@" else f"{database}@{host}"


def encryption(check: str, name: str, dsn: str) -> Finding:
    """Whether anybody on the way can read along, or pose as the server; `name` is the key of the connection string.

    libpq's default, `sslmode=prefer`, encrypts only if the server offers it: an attacker in between offers none, and
    may ask for the password in clear text (libpq's documentation, "SSL Support").
    """
    settings = settings_of(dsn)
    hosts = (settings.get("hostaddr") or settings.get("host") or "").split(",")
    far = [host for host in hosts if host and host[0] not in "/@" and not is_loopback(host)]
    is_encrypted = settings.get("sslmode", "prefer") not in {"disable", "allow", "prefer"}
    if not far or is_encrypted or settings.get("sslrootcert") == "system" or settings.get("gssencmode") == "require":
        return Finding(check, "ok", f"{name} lets no connection beyond this machine go unencrypted")
    message = f"{name} lets the connection to {', '.join(far)} go unencrypted: who is on the way may read the password"
    return Finding(check, "warning", message, _TO_ENCRYPT.format(name=name))


_TO_ENCRYPT = """\
Add this to {name}: sslmode=verify-full sslrootcert=system (libpq 16 or newer), or with the certificate of your own \
authority sslmode=verify-full sslrootcert=/etc/cdc-sync/ca.pem; sslmode=require at least.
And require_auth=scram-sha-256, so that no server is given the password in clear text."""

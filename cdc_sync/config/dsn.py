"""Connection strings of libpq: their errors, what of them may be shown, whether they are encrypted; and our sessions.

libpq takes anything in a host's place for a host, also the rest of a password with an unescaped `@` or `/`. So an `@`
in the host or database name of a URI must be escaped here.

Messages repeat nothing of the string: part of a password may stand in any place.
"""

import re

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync import own_path
from cdc_sync.core.findings import Finding
from cdc_sync.core.status_url import is_loopback
from cdc_sync.core.visible import HIDDEN

from .values import UNRESOLVED

_EXPECTED = (
    "expected postgresql://USER@HOST:PORT/DATABASE, or pairs of a keyword of libpq's and a value; in a URI's user name "
    "and password write @ as %40, / as %2F, : as %3A and % as %25"
)

_CONVERTS_NOTHING = (
    "client_encoding=SQL_ASCII gives bytes, not text: expected the encoding that the bytes have, such as WIN1252"
)

_SECOND_AT = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?+[^?]*@")
"""In a URI, an `@` in what libpq takes for the hosts and the database's name."""

_HARMLESS = ("host", "hostaddr", "port", "dbname", "user", "service", "application_name", "connect_timeout", "sslmode")
"""What may be shown: a list of what must not could miss one (sslpassword, passfile, options)."""


def is_readable(dsn: str) -> bool:
    """Whether libpq can read a connection string; an empty one leaves all to the environment.

    What libpq finds only when it connects is left to it, but for what could be a password in another place.
    """
    try:
        given = conninfo_to_dict(dsn)
    except (UnicodeError, psycopg.ProgrammingError):
        return False
    # A database's name with a URI in it may have a password.
    has_uri_inside = _SECOND_AT.match(dsn) or "://" in str(given.get("dbname", ""))
    return not has_uri_inside and re.fullmatch(r"[ +0-9,]*", str(given.get("port", ""))) is not None


def mistake_in(dsn: str) -> str | None:
    """What is wrong with a connection string: it is not readable, or has the server convert no bytes into text."""
    if not is_readable(dsn):
        return _EXPECTED
    encoding = str(conninfo_to_dict(dsn).get("client_encoding", ""))
    return _CONVERTS_NOTHING if re.sub(r"\W|_", "", encoding).lower() == "sqlascii" else None


def shown(dsn: str) -> str:
    """A connection string for people, as pairs: user, hosts, database and a few harmless parameters.

    One that is not readable is hidden as a whole: part of a password could pass for a host.
    """
    if not dsn.strip():
        return "(PG* variables)"
    given = conninfo_to_dict(dsn) if is_readable(dsn) else {}
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
    if not is_readable(dsn):
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
        return Finding(check, "ok", f"{name} names no server beyond this machine without encryption")
    message = f"{name} lets the connection to {', '.join(far)} go unencrypted: who is on the way may read the password"
    remedy = f"""\
Add this to {name}: sslmode=verify-full sslrootcert=system (libpq 16 or newer), or with the certificate of your own \
authority sslmode=verify-full sslrootcert=/etc/cdc-sync/ca.pem; sslmode=require at least.
And require_auth=scram-sha-256, so that no server is given the password in clear text."""
    return Finding(check, "warning", message, remedy)


# The settings of every session of ours, at the ATS's database and at the store's.
#
# Unless another daemon does it, only the server can end the session of a daemon that is stopped or gone, with its locks
# and snapshot. So every session sets keepalives and timeouts, unless the role or the database is stricter;
# docs/decisions/0009-how-a-dead-database-is-noticed.md has what each notices. Behind a pooler they apply to the
# pooler's connections.

ANSWERS_WITHIN = 300.0
"""Seconds within which any statement must be answered. Pages are short: only a missing index takes that long."""

_STATEMENT_ENDS_WITHIN = ANSWERS_WITHIN + 30
"""Later than our own limit, which explains more."""

_IDLE_ENDS_WITHIN = 20.0

_DEFAULTS: dict[str, str | int] = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    # A vanished peer is noticed within about a minute, not the kernel's two hours.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

USER_TIMEOUT = 30.0
"""Seconds after which the server ends a session whose peer takes no data: the ATS may wait for its locks."""

_HAS_USER_TIMEOUT, _HAS_IDLE_TIMEOUT = 120000, 140000

POOL_SIZE = 4
"""Most connections of a pool (`database.pool`); one is enough to work."""


def completed(dsn: str, application_name: str) -> str:
    """The DSN with our defaults for its missing settings.

    Raises:
        psycopg.ProgrammingError: libpq does not understand it; the error may quote a password.
    """
    return make_conninfo("", **{"application_name": application_name, **_DEFAULTS, **conninfo_to_dict(dsn)})


def session_settings(server_version: int, *, statements_end: bool = True) -> bytes:
    """The settings of a new session, as one message without parameters; `server_version` is libpq's.

    `own_path.session_start` comes before the first statement that looks up a name.
    In a transaction of its own: reads at SERIALIZABLE, which the role or the database may set, could make the ATS's own
    transactions fail, and a standby refuses them. Behind a transaction pooler it reaches the sessions of our own role.
    A migration or a copy of a store has no end of statements (`statements_end`).
    """
    settings = {
        "default_transaction_isolation": "'read committed'",
        "default_transaction_read_only": "'off'",  # reads say so themselves
        "idle_in_transaction_session_timeout": _at_most("idle_in_transaction_session_timeout", _IDLE_ENDS_WITHIN),
        "tcp_keepalives_idle": "'20'",
        "tcp_keepalives_interval": "'10'",
        "tcp_keepalives_count": "'3'",
    }
    if statements_end:
        settings["statement_timeout"] = _at_most("statement_timeout", _STATEMENT_ENDS_WITHIN)
    if server_version >= _HAS_USER_TIMEOUT:
        settings["tcp_user_timeout"] = f"'{USER_TIMEOUT:.0f}s'"
    if server_version >= _HAS_IDLE_TIMEOUT:
        settings["idle_session_timeout"] = "'0'"  # ours rest between two looks
    set_all = ", ".join(f"set_config('{name}', {value}, false)" for name, value in settings.items())
    begin = f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {own_path.session_start()}"
    return f"{begin}; SELECT {set_all}; COMMIT".encode()


def _at_most(name: str, seconds: float) -> str:
    """The role's or the database's timeout if it is stricter, else ours; 0 is none. An interval has the same units."""
    has, ours = f"current_setting('{name}')", f"'{seconds:.0f}s'"
    return f"CASE WHEN {has}::interval > '0' AND {has}::interval < {ours} THEN {has} ELSE {ours} END"

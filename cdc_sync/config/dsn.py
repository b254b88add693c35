"""Showing a libpq connection string without its secrets."""

import re

from psycopg.conninfo import conninfo_to_dict

from cdc_sync.config.substitution import UNRESOLVED

HIDDEN = "(hidden)"

# A list of what may be shown: a list of what must not could miss one (sslpassword, passfile, options with anything).
_SHOWN = frozenset(
    {
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
    }
)
# A port has digits alone: in postgresql://user:secret/db, which lacks its host, the password would pass for one.
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._%-]*)(?::[0-9]{1,5})?"
_URI = re.compile(
    r"(?P<scheme>postgres(?:ql)?://)"
    r"(?:(?P<user>[^:@/?#\s]*)(?::[^@/?#\s]*)?@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?P<database>/[^@/?#\s]*)?"
    r"(?:\?(?P<parameters>[^@?#\s]*))?"
)
_PAIR = re.compile(r"\s*(?P<name>[a-z_]+)\s*=\s*(?P<value>'(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)


def shown(dsn: str) -> str:
    """A connection string for people: user, hosts, database and a few harmless parameters.

    Whatever cannot be read with certainty is hidden as a whole: a password with an unescaped `@` or blank must not
    pass for a host.
    """
    if not dsn.strip():
        return "(PG* variables)"
    if dsn.lstrip().startswith(("postgresql://", "postgres://")):
        return _shown_uri(dsn.strip())
    return _shown_pairs(dsn)


def user_of(dsn: str) -> str | None:
    """The role that a connection string names; None if it names none, or by a reference without a value."""
    user = conninfo_to_dict(dsn).get("user")
    return None if user is None or UNRESOLVED in str(user) else str(user)


def _shown_uri(dsn: str) -> str:
    match = _URI.fullmatch(dsn)
    if match is None:
        return HIDDEN
    user = f"{match['user']}@" if match["user"] else ""
    parameters = [pair for pair in (match["parameters"] or "").split("&") if pair.partition("=")[0] in _SHOWN]
    query = f"?{'&'.join(parameters)}" if parameters else ""
    return f"{match['scheme']}{user}{match['hosts']}{match['database'] or ''}{query}"


def _shown_pairs(dsn: str) -> str:
    pairs: list[str] = []
    at = 0
    while dsn[at:].strip():
        match = _PAIR.match(dsn, at)
        if match is None or "://" in match["value"]:
            return HIDDEN
        if match["name"] in _SHOWN:
            pairs.append(f"{match['name']}={match['value']}")
        at = match.end()
    return " ".join(pairs) or HIDDEN

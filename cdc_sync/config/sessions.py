"""The settings of every session of ours, at the ATS's database and at the store's.

Unless another daemon does it, only the server can end the session of a daemon that is stopped or gone, with its locks
and snapshot. So every session sets keepalives and timeouts, unless the role or the database is stricter; [decision
9](../../docs/decisions/0009-how-a-dead-database-is-noticed.md) has what each notices. Behind a pooler they apply to the
pooler's connections.
"""

from typing import NamedTuple

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync import own_path
from cdc_sync.config.dsn import settings_of
from cdc_sync.config.models import Config

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

_HAS_USER_TIMEOUT = 120000

POOL_SIZE = 4
"""Most connections of a pool (`database.pool`); one is enough to work."""


class Sessions(NamedTuple):
    """How many sessions of the ATS's database a daemon needs, and takes at most."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least} to {self.most} connections of the database"


def sessions_at_server(config: Config, database: str) -> Sessions:
    """The sessions at the server of one of a configuration's databases: each has one that listens, and a pool.

    Databases are on one server if their connection strings name the same host and port. A store in the only database
    has one session.
    """
    here = _server(config, database)
    pools = [each.pool for name, each in config.all_databases.items() if _server(config, name) == here]
    shares_store = config.state.backend == "postgres" and config.state.dsn is None
    listening = len(pools) + (1 if shares_store else 0)
    return Sessions(len(pools) + listening, sum(pools) + listening)


def _server(config: Config, database: str) -> list[str | None]:
    settings = settings_of(config.all_databases[database].dsn.get_secret_value())
    return [settings.get("port") or "5432", *(settings.get(name) for name in ("service", "host", "hostaddr"))]


def completed(dsn: str, application_name: str) -> str:
    """The DSN with our defaults for its missing settings.

    Raises:
        psycopg.ProgrammingError: libpq does not understand it; the error may quote a password.
    """
    given = conninfo_to_dict(dsn)
    defaults = {"application_name": application_name, **_DEFAULTS}
    return make_conninfo(dsn, **{name: value for name, value in defaults.items() if name not in given})


def session_settings(server_version: int, *, statements_end: bool = True) -> bytes:
    """The settings of a new session, as one message without parameters; `server_version` is libpq's.

    `own_path.session_start` comes before the first statement that looks up a name.
    In a transaction of its own: reads at SERIALIZABLE, which the role or the database may set, could make the ATS's own
    transactions fail, and a standby refuses them. Behind a transaction pooler it reaches the sessions of our own role.
    A migration or a copy of a store has no end of statements (`statements_end`).
    """
    settings = {
        "default_transaction_isolation": "'read committed'",
        "idle_in_transaction_session_timeout": _at_most("idle_in_transaction_session_timeout", _IDLE_ENDS_WITHIN),
        "tcp_keepalives_idle": "'20'",
        "tcp_keepalives_interval": "'10'",
        "tcp_keepalives_count": "'3'",
    }
    if statements_end:
        settings["statement_timeout"] = _at_most("statement_timeout", _STATEMENT_ENDS_WITHIN)
    if server_version >= _HAS_USER_TIMEOUT:
        settings["tcp_user_timeout"] = f"'{USER_TIMEOUT:.0f}s'"
    set_all = ", ".join(f"set_config('{name}', {value}, false)" for name, value in settings.items())
    begin = f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {own_path.session_start()}"
    return f"{begin}; SELECT {set_all}; COMMIT".encode()


def _at_most(name: str, seconds: float) -> str:
    """The role's or the database's timeout if it is stricter, else ours; 0 is none. An interval has the same units."""
    has, ours = f"current_setting('{name}')", f"'{seconds:.0f}s'"
    return f"CASE WHEN {has}::interval > '0' AND {has}::interval < {ours} THEN {has} ELSE {ours} END"

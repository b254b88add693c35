"""Where the ATS's database is reached, and whether another name leads to the same running server."""

import os
from contextlib import suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync.core.database_identity import Whereabouts
from cdc_sync.core.replica_position import ReplicaPosition
from cdc_sync.source.connection import Connection, asking, connected
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import server_facts
from cdc_sync.source.replica_guard import ask

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names for one address; with one port they lead to one server."""

_ANSWERS_WITHIN = 3
"""Seconds within which a host of before must answer to prove anything."""

_MOST_ASKED = 4
"""Hosts of before that are asked, at most."""

_PORT = "5432"


async def whereabouts(dsn: str, connection: Connection) -> Whereabouts:
    """Where a DSN leads, and which server answered on a connection made with it.

    Raises:
        SourceError: the server cannot be asked.
    """
    async with asking("asking which server this is"):
        started = ReplicaPosition.from_text(await ask(connection)).started
    return Whereabouts(hosts_of(dsn, connection), started)


def hosts_of(dsn: str, connection: Connection) -> tuple[str, ...]:
    """The hosts that a DSN, its service or the environment names, each with its port, in one spelling."""
    given = conninfo_to_dict(dsn)
    in_effect = {option.keyword: option.val for option in connection.pgconn.info if option.val}

    def setting(name: str, variable: str) -> str:
        if given.get(name):
            return str(given[name])
        # psycopg tries the hosts of the environment one by one; those of a service file libpq does.
        by_service = "service" in given or "PGSERVICE" in os.environ
        return (not by_service and os.environ.get(variable)) or in_effect.get(name.encode(), b"").decode()

    written = str(given.get("host") or given.get("hostaddr") or "")
    found = written or setting("host", "PGHOST") or setting("hostaddr", "PGHOSTADDR") or connection.info.host
    hosts = found.split(",")
    ports = (setting("port", "PGPORT") or _PORT).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return tuple(dict.fromkeys(_spelled(host, port) for host, port in zip(hosts, ports, strict=False)))


def _spelled(host: str, port: str) -> str:
    host = host.strip()
    if host.startswith("/"):
        return f"{os.path.realpath(host)}:{port or _PORT}"
    host = host.lower().rstrip(".")
    return f"{'localhost' if host in _THIS_MACHINE or not host else host}:{port or _PORT}"


async def is_same_server(dsn: str, identity: str, before: Whereabouts, now: Whereabouts) -> bool:
    """Whether a host of before leads to the very server that answers now: then it has one more name.

    Args:
        dsn: the configured one; its login is used there too.
        identity: the database's, as `ServerFacts` has it.
        before: where the database was reached.
        now: where it is reached.
    """
    for host in before.hosts[:_MOST_ASKED]:
        name, _, port = host.rpartition(":")
        with suppress(SourceError, psycopg.Error):
            async with connected(_led_to(dsn, name, port)) as connection:
                async with asking("asking which server this is"):
                    is_same = (await server_facts(connection)).identity == identity
                if is_same and (await whereabouts(dsn, connection)).started == now.started:
                    return True
    return False


def _led_to(dsn: str, host: str, port: str) -> str:
    """The DSN for one host."""
    given = {name: value for name, value in conninfo_to_dict(dsn).items() if name != "hostaddr"}
    given |= {"host": host, "port": port, "target_session_attrs": "any", "connect_timeout": str(_ANSWERS_WITHIN)}
    return make_conninfo("", **given)

"""Where the ATS's database is reached, and whether another name leads to the same running server or cluster."""

import asyncio
import os
from contextlib import suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc_sync.core.database_identity import Whereabouts
from cdc_sync.source.connection import Connection, asking, connected
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import server_facts
from cdc_sync.source.replica_guard import ReplicaPosition, ask

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


async def is_same_cluster(
    dsn: str, identity: str, before: Whereabouts, now: Whereabouts, connection: Connection
) -> bool:
    """Whether a host of before leads to the very server that answers now, or one of both follows the other.

    A standby follows a primary if it replays what the primary writes now: a copy that is left in recovery does not.

    Args:
        dsn: the configured one; its login is used there too.
        identity: the database's, as `ServerFacts` has it.
        before: where the database was reached.
        now: where it is reached.
        connection: a connection to the server that answers now.
    """
    for host in before.hosts[:_MOST_ASKED]:
        name, _, port = host.rpartition(":")
        with suppress(SourceError, psycopg.Error):
            led_to = {key: value for key, value in conninfo_to_dict(dsn).items() if key != "hostaddr"}
            led_to |= {"host": name, "port": port, "target_session_attrs": "any", "connect_timeout": _ANSWERS_WITHIN}
            async with connected(make_conninfo("", **led_to)) as there, asking("asking which server this is"):
                if (await server_facts(there)).identity != identity:
                    continue
                if (await whereabouts(dsn, there)).started == now.started or await _follows(there, connection):
                    return True
    return False


async def _follows(one: Connection, another: Connection) -> bool:
    """Whether one of two servers is a standby that replays what the other one, a primary, writes now."""
    in_recovery = [(await server_facts(server)).in_recovery for server in (one, another)]
    if in_recovery[0] == in_recovery[1]:
        return False
    primary, standby = (another, one) if in_recovery[0] else (one, another)
    # A transaction with an id of its own writes a record: an idle primary would be where its copy is.
    await primary.execute("SELECT txid_current()")
    row = await (await primary.execute("SELECT pg_current_wal_insert_lsn()::text")).fetchone()
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN):
            while True:
                replayed = await standby.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row)
                if await replayed.fetchone() == (True,):
                    return True
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False

"""The shared store fails over to a standby that lagged: nothing stays claimed, and what it lacks is sent."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.installation import Installation
from support.sessions import one
from support.standby import Standby, standby_of
from support.waiting import wait_until

from cdc_sync.demo.postgres import Server

APPLICATIONS = 60

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


@pytest.fixture
def replicated(notify: Installation, restartable_server: Server, standby: Standby) -> Installation:
    """Its store is on another server than the ATS, which `standby` follows."""
    first, second = conninfo_to_dict(restartable_server.dsn), conninfo_to_dict(standby.dsn)
    both = {name: f"{first.get(name) or 5432},{second.get(name) or 5432}" for name in ("host", "port")}
    notify.variables["STORE_DSN"] = make_conninfo(
        restartable_server.dsn, **both, target_session_attrs="read-write", connect_timeout=2
    )
    notify.configure(
        state={"backend": "postgres", "dsn": "${STORE_DSN}"}, hellowork={"timeout": "2s", "concurrency": 16}
    )
    return notify


def stop_following(standby: Standby) -> None:
    """Let the standby receive nothing more: from here on it lags."""
    with psycopg.connect(standby.dsn, autocommit=True) as connection:
        if connection.info.server_version < 130000:
            pytest.skip("before PostgreSQL 13, whom a standby follows cannot be changed while it runs")
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not one(connection, "SELECT count(*) FROM pg_stat_wal_receiver"), "it receives nothing")


def claimed(dsn: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return int(one(connection, "SELECT count(*) FROM cdc_sync.outbox WHERE claimed_by IS NOT NULL"))


def test_a_failover_to_a_standby_that_lagged_leaves_nothing_claimed(
    replicated: Installation, restartable_server: Server, standby: Standby
) -> None:
    names = [f"hw-{number}" for number in range(1, APPLICATIONS + 1)]
    replicated.add_many("hw-", APPLICATIONS)
    with replicated.daemon() as daemon:
        replicated.settle(daemon)
        replicated.hellowork.will({"kind": "delay", "seconds": 0.3, "times": APPLICATIONS})
        replicated.ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE hellowork_id LIKE 'hw-%'")
        daemon.wait_until(lambda: any(map(replicated.hellowork.told, names)), "the first calls")
        stop_following(standby)
        assert claimed(standby.dsn), "the standby has claims whose ends it will never hear of"
        daemon.wait_until(lambda: all(map(replicated.hellowork.told, names)), "every call")
        replicated.quiet(daemon)
        replicated.change(names[0], status="REFUSED")  # what only the old server knows
        daemon.wait_until(lambda: replicated.hellowork.told(names[0])[-1][0] == "REFUSED", "the call")

        restartable_server.stop("immediate")
        standby.promote()
        daemon.wait_for_event("another server has the shared store")
        daemon.wait_until(lambda: not claimed(standby.dsn), "nothing is claimed", within=30)
        # What the standby had as pending is sent again, and what it never knew is found.
        daemon.wait_until(lambda: told_of(standby, names[0]), "a sweep")
        assert replicated.hellowork.told(names[0])[-1][0] == "REFUSED"
        replicated.ats.execute("UPDATE public.applications SET status = 'HIRED' WHERE hellowork_id LIKE 'hw-%'")
        daemon.wait_until(
            lambda: all(replicated.hellowork.told(name)[-1][0] == "HIRED" for name in names), "every later change"
        )
        assert daemon.stop() == 0


def told_of(standby: Standby, name: str) -> bool:
    with psycopg.connect(standby.dsn, autocommit=True) as connection:
        row = connection.execute("SELECT status FROM cdc_sync.snapshot WHERE application_id = %s", (name,)).fetchone()
        return row == ("REFUSED",)

"""The store fails over to a standby that lagged: one daemon leads, and what the new server lacks is sent."""

import signal
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.installation import Installation
from support.numbered_work import NumberedWork, older_after_newer
from support.sessions import one
from support.standby import Standby, standby_of
from support.waiting import wait_until

from cdc_sync.demo.postgres import Server

APPLICATIONS = 30

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
    notify.configure(state={"backend": "postgres", "dsn": "${STORE_DSN}"}, hellowork={"timeout": "1s"})
    return notify


def stop_following(standby: Standby) -> None:
    """Let the standby receive nothing more: from here on it lags."""
    with psycopg.connect(standby.dsn, autocommit=True) as connection:
        if connection.info.server_version < 130000:
            pytest.skip("before PostgreSQL 13, whom a standby follows cannot be changed while it runs")
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not one(connection, "SELECT count(*) FROM pg_stat_wal_receiver"), "it receives nothing")


def known_to_store(standby: Standby, name: str) -> str:
    with psycopg.connect(standby.dsn, autocommit=True) as connection:
        return str(one(connection, "SELECT status FROM cdc_sync.snapshot WHERE application_id = %s", (name,)))


def test_after_a_failover_to_a_standby_that_lagged_one_daemon_leads_and_what_it_lacks_is_sent(
    replicated: Installation, restartable_server: Server, standby: Standby
) -> None:
    work = NumberedWork(replicated, APPLICATIONS)
    with replicated.daemon() as first, replicated.another("second").daemon(ready=False) as second:
        second.wait_until_standby()
        replicated.hellowork.will({"kind": "delay", "seconds": 0.3, "times": 5 * APPLICATIONS})
        with work.going_on():
            first.wait_until(lambda: len(replicated.hellowork.calls) > APPLICATIONS, "the first calls")
            stop_following(standby)
            seen = len(replicated.hellowork.calls)
            first.wait_until(
                lambda: len(replicated.hellowork.calls) > seen + APPLICATIONS, "calls that will be forgotten"
            )
            restartable_server.stop(signal.SIGQUIT)
            standby.promote()
            seen = len(replicated.hellowork.calls)
            first.wait_until(lambda: len(replicated.hellowork.calls) > seen + APPLICATIONS, "calls by either daemon")
        first.wait_until(lambda: work.is_known_to(replicated.hellowork), "every change")
        first.wait_until(
            lambda: all(known_to_store(standby, name) == status for name, status in work.last.items()),
            "the new server to know what HelloWork does",
        )
        first.wait_until(
            lambda: (
                sorted(daemon.readiness()[1].partition("\n")[0] for daemon in (first, second)) == ["ready", "standby"]
            ),
            "one that leads and one that stands by",
        )
        assert first.is_running
        assert second.is_running
        assert first.stop() == second.stop() == 0
    assert older_after_newer(replicated.hellowork.calls) == []


def test_what_the_new_server_does_not_know_is_found_and_sent(
    replicated: Installation, restartable_server: Server, standby: Standby
) -> None:
    replicated.add_many("hw-", 2)
    with replicated.daemon() as daemon:
        standby.catch_up()
        stop_following(standby)
        # HelloWork has it, the new server has not: it is sent once more.
        replicated.change("hw-1", status="SEEN")
        replicated.settle(daemon)
        restartable_server.stop(signal.SIGQUIT)
        replicated.change("hw-2", status="SEEN")
        standby.promote()
        daemon.wait_until(lambda: replicated.hellowork.told("hw-2"), "what changed meanwhile")
        daemon.wait_until(lambda: len(replicated.hellowork.told("hw-1")) == 2, "what only the old server knew")
        replicated.settle(daemon)
        assert daemon.stop() == 0
    assert {replicated.hellowork.state[name]["status"] for name in ("hw-1", "hw-2")} == {"SEEN"}

"""A leader on another host: killed, frozen, cut off from the store or from HelloWork, with a clock that is set.

Each daemon has a host of its own (`support/several_hosts.py`), so none can know that another one's process is gone.
What HelloWork received decides: nothing older after newer, nothing lost, at most one overlap for each take-over.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.daemon_process import DaemonProcess
from support.emulated import EmulatorOptions
from support.hellowork_server import HelloWork
from support.hellowork_server import hellowork as running_hellowork
from support.installation import API_KEY, an_installation
from support.leader_cluster import APPLICATIONS, LEASE, Cluster
from support.replicated import Replicated, replicated_on
from support.several_hosts import DAEMONS, HELLOWORK, HELLOWORK_PORT, STORE, Direction, Hosts, several_hosts
from support.waiting import wait_until
from support.wall_clock import SettableClock, settable_clock
from torture.ats import ROLE, create_role, install_store

from cdc_sync.demo.postgres import Server

pytestmark = pytest.mark.timeout(180)

LATENCY = 0.2
"""Seconds that HelloWork takes: calls are under way when something happens."""

MINUTE, HOUR = 60, 3600


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with several_hosts(tmp_path) as made:
        yield made


@pytest.fixture
def store(hosts: Hosts, restartable_server: Server) -> Iterator[Replicated]:
    """The store's server, at an address of the hosts' network."""
    with replicated_on(restartable_server, STORE[:1], commits_wait=False) as made:
        create_role(made.primary.dsn)
        install_store(made.primary.dsn)
        yield made


@pytest.fixture
def hellowork(hosts: Hosts) -> Iterator[HelloWork]:
    options = EmulatorOptions(
        host=HELLOWORK, port=HELLOWORK_PORT, latency=LATENCY, required_headers={"X-Api-Key": API_KEY}
    )
    with running_hellowork(options) as running:
        yield running
        assert not any(call.violations for call in running.calls)


@pytest.fixture
def cluster_of(
    hosts: Hosts, store: Replicated, hellowork: HelloWork, tmp_path: Path, database: str
) -> Iterator[Cluster]:
    if "host=/" not in make_conninfo(database):
        pytest.skip("needs PostgreSQL by a unix socket: the test has a network of its own")
    folder = tmp_path / "installation"
    folder.mkdir()
    with an_installation(folder, database, "notify", hellowork) as made:
        made.variables |= {"X_FROM": "nowhere", "STORE_DSN": store_dsn(STORE[:1])}
        made.configure(
            hellowork={
                "base_url": f"http://127.0.0.1:{HELLOWORK_PORT}",
                "headers": {"X-From": "${X_FROM}"},
                "timeout": "1s",
            },
            state={"backend": "postgres", "dsn": "${STORE_DSN}"},
        )
        made.install()
        yield Cluster(made, hosts, store)


def store_dsn(addresses: Sequence[str]) -> str:
    return f"host={','.join(addresses)} user={ROLE} dbname=postgres connect_timeout=3 target_session_attrs=read-write"


class TestKilled:
    def test_the_standby_leads_within_45_seconds_and_the_killed_one_stands_by(self, cluster_of: Cluster) -> None:
        for each in (cluster_of.first, cluster_of.second):
            each.configure(hellowork={"timeout": "10s"})  # as it usually is
        with cluster_of.daemons() as (leader, standby):
            with cluster_of.work.going_on():
                cluster_of.wait_for_calls_of(1, leader)
                leader.kill()
                standby.wait_until(lambda: cluster_of.calls_of(2), "its first call", within=45)
                with cluster_of.first.daemon(ready=False) as again:
                    assert f"process {standby.pid} on host-2" in again.wait_until_standby()
            cluster_of.wait_until_known(standby)
            assert leads_in_report(standby) == ("host-2", standby.pid)
        cluster_of.check(takeovers=1)


class TestFrozen:
    def test_one_that_goes_on_after_its_lease_makes_no_call(self, cluster_of: Cluster) -> None:
        with cluster_of.daemons() as (leader, standby):
            with cluster_of.work.going_on():
                cluster_of.wait_for_calls_of(1, leader)
                leader.suspend()
                arrived = cluster_of.calls_of(1)
                cluster_of.wait_for_calls_of(2, standby, more=40)
                # A request that the kernel still had may have arrived.
                last = cluster_of.calls_of(1)
                assert last <= arrived + APPLICATIONS
                leader.send_signal(signal.SIGCONT)
                leader.wait_until_ended_or_standby()
                cluster_of.wait_for_calls_of(2, standby, more=20)
                assert cluster_of.calls_of(1) == last
            cluster_of.wait_until_known(standby)
        cluster_of.check(takeovers=1)

    def test_inside_a_transaction_of_the_store(self, cluster_of: Cluster) -> None:
        with cluster_of.daemons() as (leader, standby):
            cluster_of.work.step()
            cluster_of.wait_until_known(leader)
            with psycopg.connect(cluster_of.store.primary.dsn) as dba:
                dba.execute("LOCK TABLE cdc_sync.snapshot IN SHARE MODE")
                cluster_of.work.step()
                leader.wait_until(lambda: waiting_for_a_lock(cluster_of), "its transaction to be held up")
                leader.suspend()
                standby.wait_until(lambda: not waiting_for_a_lock(cluster_of), "the standby to end its session")
            with cluster_of.work.going_on():
                cluster_of.wait_for_calls_of(2, standby, more=30)
                last = cluster_of.calls_of(1)
                leader.send_signal(signal.SIGCONT)
                leader.wait_until_ended_or_standby()
                cluster_of.wait_for_calls_of(2, standby, more=20)
                assert cluster_of.calls_of(1) == last
            cluster_of.wait_until_known(standby)
        cluster_of.check(takeovers=1)


class TestPathToHelloWorkCut:
    def test_a_request_that_was_not_sent_does_not_arrive_after_a_newer_one(self, cluster_of: Cluster) -> None:
        with cluster_of.daemons() as (leader, standby):
            cluster_of.work.step()
            cluster_of.wait_until_known(leader)  # on connections that are kept
            with cluster_of.hosts.cut(1, [HELLOWORK]):
                cluster_of.work.step()
                leader.wait_until(lambda: cluster_of.hosts.unsent(1), "requests on their way")
                leader.suspend()
                cluster_of.work.step()
                cluster_of.wait_for_calls_of(2, standby)
                cluster_of.wait_until_known(standby)
                last = cluster_of.calls_of(1)
            leader.send_signal(signal.SIGCONT)
            leader.wait_until_ended_or_standby()
            cluster_of.work.step()
            cluster_of.wait_until_known(standby)
            wait_until(lambda: not cluster_of.hosts.unsent(1), "the kernel to have nothing more to send")
            assert cluster_of.calls_of(1) == last
        cluster_of.check(takeovers=1)


class TestPathToTheStoreCut:
    @pytest.mark.parametrize("directions", [("answers",), ("requests", "answers")], ids="-".join)
    def test_a_standby_takes_over_and_no_process_ends(
        self, cluster_of: Cluster, directions: Sequence[Direction]
    ) -> None:
        with cluster_of.daemons() as (leader, standby):
            with cluster_of.work.going_on():
                cluster_of.wait_for_calls_of(1, leader)
                with cluster_of.hosts.cut(1, STORE, directions):
                    cluster_of.wait_for_calls_of(2, standby, more=30)
                    last = cluster_of.calls_of(1)
                    assert leader.wait_until_not_ready("")
                    assert not leader.events_named("this daemon leads")[1:]
                assert "process" in leader.wait_until_standby()
                cluster_of.wait_for_calls_of(2, standby)
                assert cluster_of.calls_of(1) == last
            cluster_of.wait_until_known(standby)
            assert leader.is_running
        cluster_of.check(takeovers=1)


class TestClocks:
    @pytest.fixture
    def clocks(self, cluster_of: Cluster, tmp_path: Path) -> list[SettableClock]:
        """One for each host."""
        library = settable_clock()
        made = [replace(library, file=tmp_path / f"wall-clock-{number}") for number in (1, 2)]
        for clock, installation in zip(made, (cluster_of.first, cluster_of.second), strict=True):
            clock.set(0)
            installation.variables |= clock.variables
        return made

    def test_a_clock_that_is_set_makes_no_leader_and_ends_none(
        self, cluster_of: Cluster, clocks: list[SettableClock]
    ) -> None:
        with cluster_of.daemons() as (leader, standby):
            with cluster_of.work.going_on():
                cluster_of.wait_for_calls_of(1, leader)
                for seconds in (HOUR, -HOUR):
                    for daemon, clock in zip((leader, standby), clocks, strict=True):
                        clock.set(seconds)
                        wait_for_clock(daemon, seconds)
                        cluster_of.wait_for_calls_of(1, leader)
                assert not leader.events_named("lost the lead")
                assert not standby.events_named("this daemon leads")

                leader.kill()
                killed = time.monotonic()
                cluster_of.wait_for_calls_of(2, standby)
                assert time.monotonic() > killed + LEASE / 2
            cluster_of.wait_until_known(standby)
        cluster_of.check(takeovers=1)


class TestThreeDaemons:
    def test_one_that_is_frozen_while_it_waits_to_lead_keeps_nobody_from_it(self, cluster_of: Cluster) -> None:
        """It was started first, so it looks at the lock first."""
        with cluster_of.daemons() as (leader, second), cluster_of.third.daemon(ready=False) as third:
            third.wait_until_standby()
            with cluster_of.work.going_on():
                cluster_of.wait_for_calls_of(1, leader)
                leader.kill()
                killed = time.monotonic()
                wait_until(lambda: time.monotonic() > killed + 3, "the standbys to wait for the end of its calls")
                second.suspend()
                cluster_of.wait_for_calls_of(3, third)
                second.send_signal(signal.SIGCONT)
                second.wait_until_standby()
                cluster_of.wait_for_calls_of(3, third)
                assert cluster_of.calls_of(2) == 0
            cluster_of.wait_until_known(third)
        cluster_of.check(takeovers=1)


class TestContainers:
    """In each, the daemon is the first process: the other's number means itself, and no signal ends it by default."""

    @pytest.fixture
    def containers(self, cluster_of: Cluster) -> Cluster:
        """Two with one name, on one host, each with a network of its own."""
        for number, each in enumerate((cluster_of.first, cluster_of.second), start=1):
            each.within = (*cluster_of.hosts.within(1, network_of=number), *container())
        return cluster_of

    def test_two_of_one_host_do_not_take_each_other_for_gone(self, containers: Cluster) -> None:
        with containers.daemons() as (leader, standby):
            with containers.work.going_on():
                containers.wait_for_calls_of(1, leader)
                cut = time.monotonic()
                with containers.hosts.cut(1, STORE):
                    # Its session ends, and its calls may go on.
                    end_sessions_of(containers, 1)
                    containers.wait_for_calls_of(2, standby)
                    assert time.monotonic() > cut + LEASE / 2
                leader.wait_until_standby()
            containers.wait_until_known(standby)
        containers.check(takeovers=1)


def wait_for_clock(daemon: DaemonProcess, seconds: int) -> None:
    """Wait until its clock is so many seconds ahead."""

    def is_ahead() -> bool:
        ahead = daemon.date - datetime.now(UTC)
        return abs(ahead.total_seconds() - seconds) < MINUTE / 4

    daemon.wait_until(is_ahead, f"a clock {seconds} s ahead")


def container() -> tuple[str, ...]:
    return ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def end_sessions_of(cluster_of: Cluster, number: int) -> None:
    """End the sessions in the store of a host's daemon, at the server."""
    with psycopg.connect(cluster_of.store.primary.dsn, autocommit=True) as dba:
        dba.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr = %s", (DAEMONS[number - 1],)
        )


def leads_in_report(daemon: DaemonProcess) -> tuple[object, object]:
    leader = daemon.report()["leader"]
    return leader["host"], leader["process"]


def waiting_for_a_lock(cluster_of: Cluster) -> bool:
    """Whether a session of the store on host 1 is held up inside a transaction."""
    with psycopg.connect(cluster_of.store.primary.dsn, autocommit=True) as dba:
        query = "SELECT FROM pg_stat_activity WHERE client_addr = %s AND wait_event_type = 'Lock'"
        return dba.execute(query, (DAEMONS[0],)).rowcount > 0

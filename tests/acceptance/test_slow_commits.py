"""A server whose every COMMIT takes 100 ms, as on a slow disk: NOTIFY's one lock is then held for as long.

A commit that notifies takes that lock before its flush and frees it after. So nobody may have to wait for it who cannot
wait, and a daemon whose host vanishes while it is notified must hold nothing for longer than for-dbas.md says.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.binaries import server_binaries
from support.hellowork_server import HelloWork
from support.installation import PASSWORD, Installation, an_installation
from support.own_network import Network, own_network
from support.postgres import SETTINGS, by_tcp, create_ats, on_loopback
from support.sessions import one
from support.waiting import wait_until

from cdc_sync.demo.postgres import Server
from cdc_sync.demo.postgres import server as postgres_server

SLOW = {**SETTINGS, "fsync": "on", "commit_delay": "100000", "commit_siblings": "0"}
COMMITS = 30
CHANGE = "UPDATE public.applications SET status = %s, updated_at = clock_timestamp() WHERE hellowork_id = %s"
ARM = "SELECT setval('cdc_sync.bell', floor(extract(epoch FROM clock_timestamp()))::bigint + 60)"
IS_ARMED = "SELECT last_value > extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell"
HOLDS_WATCH = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE usename = %s AND locktype = 'advisory'
"""
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
UNACKNOWLEDGED_ENDS_WITHIN, IDLE_ENDS_WITHIN = 30.0, 50.0
"""Seconds, as for-dbas.md has them of a peer that does not acknowledge data, and of one that is silent."""
SLACK = 25.0
HAS_USER_TIMEOUT = 120000


@pytest.fixture
def network() -> Iterator[Network]:
    with own_network() as made:
        yield made


@pytest.fixture
def slow() -> Iterator[Server]:
    with postgres_server(server_binaries(), settings={**SLOW, **on_loopback()}) as own:
        create_ats(own.dsn)
        yield own


@pytest.fixture
def notify(slow: Server, tmp_path: Path, hellowork: HelloWork) -> Iterator[Installation]:
    # The ATS comes by the unix socket, on which no network is cut, the daemon by TCP.
    with an_installation(tmp_path, slow.dsn, "notify", hellowork) as made:
        made.variables["ATS_DSN"] = make_conninfo(by_tcp(slow), user=made.role, password=PASSWORD)
        made.install()
        yield made


@contextmanager
def meanwhile(*work: Callable[[], object]) -> Iterator[None]:
    """Do all of it again and again, each in a thread of its own, until the block ends."""
    over = threading.Event()

    def again(each: Callable[[], object]) -> None:
        while not over.is_set():
            each()

    threads = [threading.Thread(target=again, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_commits_of_a_session_with_a_lock_timeout_do_not_fail(notify: Installation) -> None:
    names = [f"hw-{number}" for number in range(4)]
    for name in names:
        notify.add(name)
    with notify.daemon() as daemon, ExitStack() as stack:
        arming, *ringing, patient, impatient = [
            stack.enter_context(psycopg.connect(notify.dsn, autocommit=True)) for _ in range(len(names) + 2)
        ]
        # Whatever the daemon wants: as if it slept, and were woken, all the time.
        arming.execute("SET synchronous_commit = off")
        for session in (patient, impatient):
            session.execute("SET lock_timeout = '50ms'")

        def ring(number: int) -> Callable[[], object]:
            return lambda: ringing[number].execute(CHANGE, (f"S{time.monotonic_ns()}", names[number]))

        failed = 0
        with meanwhile(lambda: arming.execute(ARM), *(ring(number) for number in range(len(ringing)))):
            for number in range(COMMITS):
                patient.execute(CHANGE, (f"S{number}", names[-1]))
                try:
                    impatient.execute("SELECT pg_notify('somebody', '')")
                except psycopg.errors.LockNotAvailable:
                    failed += 1
        assert failed, "the lock was free all the time: nothing was shown"
        daemon.wait_until(
            lambda: notify.hellowork.told(names[-1])[-1][0] == f"S{COMMITS - 1}", "the last of its changes"
        )
        notify.quiet(daemon)


@pytest.mark.timeout(200)
def test_a_host_that_vanishes_while_it_is_notified_frees_its_locks(
    network: Network, slow: Server, notify: Installation
) -> None:
    if notify.ats.info.server_version < HAS_USER_TIMEOUT:
        pytest.skip("PostgreSQL has tcp_user_timeout since 12")
    ats, role = notify.ats, (notify.role,)
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.change("hw-1", status="S1")
        notify.settle(daemon)
        wait_until(lambda: one(ats, IS_ARMED), "the daemon to sleep")
        assert one(ats, HOLDS_WATCH, role)
        network.cut(slow.port)
        cut = time.monotonic()
        notify.change("hw-1", status="S2")  # its COMMIT notifies a daemon that acknowledges nothing any more
        ats.execute("SET lock_timeout = '50ms'")
        while one(ats, HOLDS_WATCH, role):
            began = time.monotonic()
            notify.change("hw-1", status=f"S{began}")
            assert time.monotonic() - began < SLACK
            assert began - cut < UNACKNOWLEDGED_ENDS_WITHIN + SLACK, "the watch is still locked"
        while one(ats, SESSIONS, role):
            assert time.monotonic() - cut < IDLE_ENDS_WITHIN + SLACK, "a session is still there"
            time.sleep(0.2)
        ats.execute("ALTER TABLE public.applications ADD COLUMN more text")
        notify.change("hw-1", status="S3")
        network.heal()
        daemon.wait_until(lambda: notify.hellowork.told("hw-1")[-1][0] == "S3", "what happened meanwhile")

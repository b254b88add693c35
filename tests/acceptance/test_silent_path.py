"""The path to HelloWork falls silent: packets are lost without a word. Nothing older arrives after something newer.

With another daemon that takes over: `test_leader_on_hosts.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from support.hellowork_server import HelloWork
from support.installation import Installation, an_installation
from support.own_network import Network, own_network
from yarl import URL


@pytest.fixture
def network(database: str) -> Iterator[Network]:
    if not str(conninfo_to_dict(database).get("host", "/")).startswith("/"):
        pytest.skip("needs PostgreSQL by a unix socket: the test has a network of its own")
    with own_network() as made:
        yield made


@pytest.fixture
def notify(network: Network, tmp_path: Path, database: str, hellowork: HelloWork) -> Iterator[Installation]:
    with an_installation(tmp_path, database, "notify", hellowork) as made:
        made.install()
        made.configure(hellowork={"timeout": "1s"})
        yield made


def port_of(installation: Installation) -> int:
    port = URL(installation.hellowork.url).port
    assert port is not None
    return port


def statuses(installation: Installation, application_id: str) -> list[str]:
    """What arrived of an application, in order, acknowledged or not."""
    calls = installation.hellowork.calls_for(application_id)
    return [call.body["status"] for call in calls if isinstance(call.body, dict)]


def test_a_request_that_timed_out_does_not_arrive_after_a_newer_one(notify: Installation, network: Network) -> None:
    port = port_of(notify)
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.change("hw-1", status="S1")
        notify.settle(daemon)  # on a connection that is kept
        network.cut(port)
        notify.change("hw-1", status="S2")
        daemon.wait_for_event("not sent yet")
        notify.change("hw-1", status="S3")
        network.heal()
        daemon.wait_until(lambda: statuses(notify, "hw-1")[-1] == "S3", "S3")
        daemon.wait_until(lambda: not network.unsent(port), "the kernel to have nothing more to send")
        notify.quiet(daemon)
        assert_never_back(statuses(notify, "hw-1"))


def test_nor_does_one_whose_daemon_was_killed(notify: Installation, network: Network) -> None:
    port = port_of(notify)
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.change("hw-1", status="S1")
        notify.settle(daemon)
        network.cut(port)
        notify.change("hw-1", status="S2")
        daemon.wait_until(lambda: network.unsent(port), "a request on its way")
        kept = network.unsent(port)
        daemon.kill()
    network.cut(port, only=kept)
    notify.change("hw-1", status="S3")
    with notify.daemon() as daemon:
        daemon.wait_until(lambda: statuses(notify, "hw-1")[-1] == "S3", "S3")
        network.heal()
        daemon.wait_until(lambda: not network.unsent(port), "the kernel to have nothing more to send")
        notify.quiet(daemon)
        assert_never_back(statuses(notify, "hw-1"))


def assert_never_back(arrived: list[str]) -> None:
    assert arrived == sorted(arrived)
    assert arrived[-1] == "S3"

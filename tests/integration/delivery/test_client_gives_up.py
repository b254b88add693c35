"""A call that is given up is dead: none of it is delivered once the next call may be made."""

import signal
import socket

import pytest
from support.calling_process import (
    LOOP,
    WITHIN,
    Peer,
    a_peer,
    calling_process,
    everything_from,
    is_whole,
    request_from,
)
from support.own_network import own_network
from support.waiting import wait_until

ANSWERED_WITHIN = 3.0
"""Seconds: enough for a busy machine to answer the call before the one that is given up."""

CANCELLED_AFTER, GIVEN_UP_AFTER = 1.5, 2.0
"""Seconds: enough for a busy machine to take the connection, with its TLS handshake, before that."""

TIMED_OUT = "no answer within hellowork.timeout"
BIG = 100_000
HUGE = 8_000_000
"""More than the kernel's buffers on loopback take: the rest stays in the transport's."""

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

both = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def _event_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOP, request.param)


def wait_until_nothing_is_left(peer: Peer) -> None:
    wait_until(lambda: not peer.left(), "the kernel to give up", WITHIN)


def assert_dropped(connection: socket.socket) -> None:
    read, end = everything_from(connection)
    assert not is_whole(read)
    assert end != "open"


@both
@pytest.mark.parametrize(
    ("size", "cancelled_after"), [(BIG, CANCELLED_AFTER), (HUGE, None)], ids=["cancelled", "timeout"]
)
def test_a_request_that_the_other_end_does_not_read_is_dropped_with_its_call(
    *, tls: bool, size: int, cancelled_after: float | None
) -> None:
    with a_peer(tls=tls) as peer, calling_process(GIVEN_UP_AFTER) as caller:
        caller.begin(peer.url, size, cancelled_after=cancelled_after)
        connection = peer.take()
        assert caller.outcome() == ("cancelled" if cancelled_after else TIMED_OUT, 0)
        assert peer.left() == []
        assert_dropped(connection)


@both
def test_so_is_one_on_a_connection_that_served_before(*, tls: bool) -> None:
    with a_peer(tls=tls) as peer, calling_process(ANSWERED_WITHIN) as caller:
        caller.begin(peer.url, 0)
        connection = peer.take()
        request_from(connection)
        connection.sendall(OK)
        assert caller.outcome() == ("200", 1)
        caller.begin(peer.url, BIG)
        assert caller.outcome() == (TIMED_OUT, 0)
        assert peer.left() == []
        peer.listener.settimeout(0)
        with pytest.raises(BlockingIOError):  # it was the same connection
            peer.listener.accept()
        assert_dropped(connection)


@both
def test_so_is_one_that_is_refused_before_it_was_read(*, tls: bool) -> None:
    with a_peer(tls=tls) as peer, calling_process(WITHIN) as caller:
        caller.begin(peer.url, BIG)
        connection = peer.take()
        wait_until_it_sends(connection)  # what comes before is no answer
        connection.sendall(BUSY)
        assert caller.outcome() == ("503", 0)
        assert peer.left() == []
        read, _ = everything_from(connection)
        assert not is_whole(read)


@both
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_kernel_drops_the_request_of_a_process_that_is_killed_or_stopped(
    *, tls: bool, number: signal.Signals
) -> None:
    with a_peer(tls=tls) as peer, calling_process(2.0) as caller:
        caller.begin(peer.url, BIG)
        connection = peer.take()
        wait_until_it_sends(connection)
        caller.process.send_signal(number)
        wait_until_nothing_is_left(peer)
        assert_dropped(connection)


def test_a_connection_that_is_still_being_made_is_given_up() -> None:
    # A backlog that is full: the kernel answers no further handshake, as on a silent path.
    with a_peer(backlog=0) as peer, socket.socket() as first, calling_process(1.0) as caller:
        first.connect(peer.listener.getsockname())
        caller.begin(peer.url, 0)
        assert caller.outcome() == (TIMED_OUT, 0)
        assert [state for state in peer.left() if state != "ESTABLISHED"] == []
        peer.take()
        peer.listener.settimeout(3)  # longer than the kernel takes to try once more
        with pytest.raises(TimeoutError):
            peer.listener.accept()


def test_so_is_one_whose_tls_handshake_is_not_answered() -> None:
    with a_peer() as peer, calling_process(1.0) as caller:
        caller.begin(peer.url.replace("http:", "https:"), BIG)
        connection = peer.take()
        assert caller.outcome() == (TIMED_OUT, 0)
        assert peer.left() == []
        _, end = everything_from(connection)
        assert end != "open"


def wait_until_it_sends(connection: socket.socket) -> None:
    """Return when something of the request has arrived, unread."""
    assert connection.recv(1)


@both
@pytest.mark.parametrize("killed", [False, True], ids=["timeout", "killed"])
def test_nothing_is_kept_for_a_path_that_falls_silent(*, tls: bool, killed: bool) -> None:
    with own_network() as network, a_peer(tls=tls) as peer, calling_process(ANSWERED_WITHIN) as caller:
        caller.begin(peer.url, 0)
        connection = peer.take()
        request_from(connection)
        connection.sendall(OK)
        assert caller.outcome() == ("200", 1)
        network.cut(peer.port)
        caller.begin(peer.url, BIG)
        if killed:
            wait_until(lambda: network.unsent(peer.port), "a request on its way")
            caller.process.kill()
            caller.process.wait(WITHIN)
        else:
            assert caller.outcome() == (TIMED_OUT, 0)
        assert peer.left() == []
        network.heal()
        # Nobody has told the other end: what would still come, would come on this connection.
        connection.settimeout(0)
        assert everything_from(connection)[0] == b""

"""A call that is given up is dead: none of it is delivered once the next call may be made."""

import signal
import socket

import pytest
from support.calling_process import (
    LOOP,
    WITHIN,
    CallingProcess,
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


@pytest.fixture
def tls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the calls are by https; the parameter names the event loop too."""
    loop, _, scheme = request.param.partition(" ")
    monkeypatch.setenv(LOOP, loop)
    return bool(scheme == "https")


def over(*transports: str) -> pytest.MarkDecorator:
    """Let a test make its calls over these."""
    return pytest.mark.parametrize("tls", transports, indirect=True)


over_each = over("asyncio http", "asyncio https", "uvloop http", "uvloop https")
over_two = over("asyncio https", "uvloop http")
"""Each event loop, and each scheme."""


def wait_until_nothing_is_left(peer: Peer) -> None:
    wait_until(lambda: not peer.left(), "the kernel to give up", WITHIN)


def served_once(peer: Peer, caller: CallingProcess) -> socket.socket:
    """The connection of a call that was answered."""
    caller.begin(peer.url, 0)
    connection = peer.take()
    request_from(connection)
    connection.sendall(OK)
    assert caller.outcome() == ("200", 1)
    return connection


def assert_dropped(connection: socket.socket) -> None:
    read, end = everything_from(connection)
    assert not is_whole(read)
    assert end != "open"


@over_each
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


@over_two
def test_so_is_one_on_a_connection_that_served_before(*, tls: bool) -> None:
    with a_peer(tls=tls) as peer, calling_process(ANSWERED_WITHIN) as caller:
        connection = served_once(peer, caller)
        caller.begin(peer.url, BIG)
        assert caller.outcome() == (TIMED_OUT, 0)
        assert peer.left() == []
        peer.listener.settimeout(0)
        with pytest.raises(BlockingIOError):  # it was the same connection
            peer.listener.accept()
        assert_dropped(connection)


@over_two
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


@over("uvloop https")
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


@over("asyncio http", "uvloop http")
def test_a_connection_that_is_still_being_made_is_given_up(*, tls: bool) -> None:
    # A backlog that is full: the kernel answers no further handshake, as on a silent path.
    with a_peer(tls=tls, backlog=0) as peer, socket.socket() as first, calling_process(1.0) as caller:
        first.connect(peer.listener.getsockname())
        caller.begin(peer.url, 0)
        assert caller.outcome() == (TIMED_OUT, 0)
        assert [state for state in peer.left() if state != "ESTABLISHED"] == []
        peer.take()
        peer.listener.settimeout(3)  # longer than the kernel takes to try once more
        with pytest.raises(TimeoutError):
            peer.listener.accept()


@over("asyncio https", "uvloop https")
def test_so_is_one_whose_tls_handshake_is_not_answered(*, tls: bool) -> None:
    with a_peer(tls=tls) as peer, calling_process(1.0) as caller:
        caller.begin(peer.url, BIG)
        connection, _ = peer.listener.accept()
        connection.settimeout(WITHIN)
        peer.taken.append(connection)
        assert caller.outcome() == (TIMED_OUT, 0)
        assert peer.left() == []
        _, end = everything_from(connection)
        assert end != "open"


def wait_until_it_sends(connection: socket.socket) -> None:
    """Return when something of the request has arrived, unread."""
    assert connection.recv(1)


@over_two
@pytest.mark.parametrize("killed", [False, True], ids=["timeout", "killed"])
def test_nothing_is_kept_for_a_path_that_falls_silent(*, tls: bool, killed: bool) -> None:
    with own_network() as network, a_peer(tls=tls) as peer, calling_process(ANSWERED_WITHIN) as caller:
        connection = served_once(peer, caller)
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

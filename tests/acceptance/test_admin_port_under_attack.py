"""The admin port of a daemon, and malicious processes of this machine: what they cost, and whom they keep out."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product

import pytest
from support.daemon_process import PATIENCE, DaemonProcess
from support.installation import TOKEN, Installation

FORM = "application/x-www-form-urlencoded"
WRONG = "wrong-secret-0123456789"


@pytest.fixture
def daemon(poll: Installation) -> Iterator[DaemonProcess]:
    with poll.daemon() as running:
        yield running


@contextmanager
def connected(daemon: DaemonProcess, words: bytes) -> Iterator[socket.socket]:
    """A connection that has sent some words, and waits."""
    with socket.create_connection(("127.0.0.1", daemon.admin_port), timeout=PATIENCE) as connection:
        with suppress(ConnectionError):  # it may be refused while we send
            connection.sendall(words)
        yield connection


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def status_of(connection: socket.socket) -> int:
    """The status of the next answer."""
    with connection.makefile("rb") as answer:
        return int(answer.readline().split(b" ")[1])


def ask(daemon: DaemonProcess, words: bytes) -> int:
    with connected(daemon, words) as connection:
        return status_of(connection)


REFUSED_UNREAD = {
    415: [
        [f"Content-Type: {FORM}; charset=punycode", "Content-Length: 20"],
        [f"Content-Type: {FORM}; charset=utf-7", "Content-Length: 20"],
        ["Content-Type: multipart/form-data; boundary=b", "Content-Length: 20"],
        ["Content-Type: application/json", "Content-Length: 20"],
        ["Content-Length: 20"],
        [f"Content-Type: {FORM}", "Content-Encoding: gzip", "Content-Length: 20"],
    ],
    413: [[f"Content-Type: {FORM}", "Content-Length: 8193"]],
}
"""Headers of bodies that never come, by the answer."""

BODY_TO_COME = (f"Content-Type: {FORM}", "Content-Length: 20")
FORMS = ["/fuse/release", "/dead-letters/retry", "/resend", "/sending/pause"]


def test_a_body_is_read_only_if_its_headers_allow_it(daemon: DaemonProcess) -> None:
    for path, (status, headers) in product(FORMS, REFUSED_UNREAD.items()):
        for lines in headers:
            assert ask(daemon, head("POST", path, f"Authorization: Bearer {TOKEN}", *lines)) == status, (path, lines)


def test_without_the_token_no_body_is_read(daemon: DaemonProcess) -> None:
    for path in (*FORMS, "/nowhere"):
        assert ask(daemon, head("POST", path, *BODY_TO_COME)) == 401, path
    assert ask(daemon, head("POST", path, f"Authorization: Bearer {WRONG}", *BODY_TO_COME)) == 401

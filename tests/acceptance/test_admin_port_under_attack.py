"""The admin port of a daemon, and malicious processes of this machine: what they cost, and whom they keep out."""

import base64
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import product

import psutil
import pytest
from support.daemon_process import PATIENCE, DaemonProcess
from support.installation import TOKEN, Installation

FORM = "application/x-www-form-urlencoded"
WRONG = "wrong-secret-0123456789"
MEBIBYTE = 1 << 20


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


@pytest.mark.parametrize("kind", [f"{FORM}; charset=punycode", "a/b" + ";" * 8_000, f"{FORM}" + ";a=b" * 2_000])
def test_a_body_that_is_no_small_utf8_form_costs_nothing(daemon: DaemonProcess, kind: str) -> None:
    """To decode 65 kB of punycode took half a second, in which nobody else was answered, to read a long type two."""
    process, body = psutil.Process(daemon.pid), b"a" * 65_000
    content = f"Content-Type: {kind}"
    request = head("POST", "/fuse/release", f"Authorization: Bearer {TOKEN}", content, f"Content-Length: {len(body)}")
    request += body
    before = process.cpu_times()

    with ThreadPoolExecutor(10) as clients:
        statuses = [*clients.map(lambda _: ask(daemon, request), range(20))]

    after = process.cpu_times()
    assert set(statuses) == {415}
    assert after.user - before.user < 2


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


def test_a_page_of_another_site_is_refused_first_on_every_method(daemon: DaemonProcess) -> None:
    methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
    paths = ("/", "/api/status", "/metrics", "/readyz", "/static/page.js", "/fuse/release", "/nowhere")
    origins = ("Origin: https://attacker.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site")
    for method, path, origin in product(methods, paths, origins):
        for authorization in ([f"Authorization: Bearer {TOKEN}"], []):
            request = head(method, path, *authorization, origin, *BODY_TO_COME)
            assert ask(daemon, request) == 403, (method, path, origin)


def test_patterns_of_watches_are_short_and_leave_nothing_in_memory(daemon: DaemonProcess) -> None:
    """400 patterns of 7 kB kept 54 MiB."""
    process = psutil.Process(daemon.pid)
    assert daemon.get(f"/api/status?watch={'x' * 200}")[0] == 200
    before = process.memory_info().rss

    for path in ("/api/status", "/"):
        for number in range(200):
            assert daemon.get(f"{path}?watch={'a%25' * 1_700}{number}")[0] == 400
    for number in range(2_000):
        assert daemon.get(f"/api/status?watch={'*'.join('ab' * 33)}{number:04}")[0] == 200

    assert process.memory_info().rss - before < 12 * MEBIBYTE


def test_the_right_token_neither_waits_nor_is_refused_while_wrong_ones_arrive(daemon: DaemonProcess) -> None:
    wrong = head("GET", "/metrics", f"Authorization: Bearer {WRONG}")
    is_over = threading.Event()
    statuses, waits = set[int](), list[float]()

    def guess() -> None:
        while not is_over.is_set():
            assert ask(daemon, wrong) == 401

    with ThreadPoolExecutor(30) as clients:
        guesses = [clients.submit(guess) for _ in range(30)]
        try:
            daemon.wait_for_event("a wrong admin token was refused")
            for _ in range(30):
                began = time.monotonic()
                statuses.add(daemon.get("/api/status")[0])
                waits.append(time.monotonic() - began)
        finally:
            is_over.set()
        for each in guesses:
            each.result()

    assert statuses == {200}
    assert sorted(waits)[len(waits) // 2] < 1, "a wrong one waits a second"


def test_a_wrong_token_waits_a_second(daemon: DaemonProcess) -> None:
    basic = base64.b64encode(f"julia:{WRONG}".encode()).decode()
    for given in (f"Bearer {WRONG}", f"Basic {basic}"):
        request = head("GET", "/metrics", f"Authorization: {given}")
        began = time.monotonic()
        assert ask(daemon, request) == 401
        assert time.monotonic() - began >= 1


def test_more_wrong_tokens_than_there_are_places_keep_nobody_out(daemon: DaemonProcess) -> None:
    wrong = head("GET", "/metrics", f"Authorization: Bearer {WRONG}")
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connected(daemon, wrong))
            assert [daemon.get(path)[0] for path in ("/api/status", "/healthz", "/readyz")] == [200] * 3

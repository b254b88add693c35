"""A process that makes calls with the real client when it is told to, and whose remains can be looked at.

Its start takes more CPU than its calls. So one that is not ended serves the next test, with another client.
"""

import atexit
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

CERTIFICATE = Path(__file__).with_name("localhost.pem")

WITHIN = 20.0
"""Seconds within which whatever is waited for must happen."""

LOOP = "CDC_SYNC_TEST_LOOP"
"""The environment variable that names the module whose event loop it runs on."""

_PROGRAM = """
import asyncio, importlib, json, os, sys
from dataclasses import replace
import psutil
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.delivery.client import Client
from support.calling_process import LOOP
from support.sending import an_entry

async def call(client, base_url, size, cancelled_after):
    entry = an_entry(base_url=base_url)
    entry = entry._replace(content=entry.content._replace(extra=json.dumps({"note": "x" * size})))
    try:
        async with asyncio.timeout(cancelled_after):
            reply, _ = await client.call(entry)
    except TimeoutError:
        return "cancelled"
    return reply.failure or str(reply.status)

async def main():
    while timeout := await asyncio.to_thread(sys.stdin.readline):
        async with Client({DEFAULT_ACCOUNT: {}}, timeout=float(timeout), connections=1) as client:
            while (line := await asyncio.to_thread(sys.stdin.readline)).strip():
                said = await call(client, *json.loads(line))
                open_ = len(psutil.Process().net_connections("tcp"))
                print(json.dumps([said, open_]), flush=True)
        print("closed", flush=True)

loop = importlib.import_module(os.environ[LOOP]) if LOOP in os.environ else asyncio
with asyncio.Runner(loop_factory=loop.new_event_loop) as runner:
    runner.run(main())
"""

_NETWORK = Path("/proc/thread-self/ns/net")
_HOME = _NETWORK.readlink() if _NETWORK.exists() else None
"""The network of the tests, but for those that take another one."""


class CallingProcess:
    """Makes one call at a time, each with a body of about so many bytes; ended by `end`, or killed."""

    def __init__(self) -> None:
        environment = {**os.environ, "SSL_CERT_FILE": str(CERTIFICATE), "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def open(self, timeout: float) -> None:
        """Let it open a client whose calls take so many seconds at most."""
        self._send(str(timeout))

    def begin(self, base_url: str, size: int, *, cancelled_after: float | None = None) -> None:
        self._send(json.dumps([base_url, size, cancelled_after]))

    def outcome(self) -> tuple[str, int]:
        """What came of the call, and how many TCP sockets the process had open when the client was done with it."""
        assert self.process.stdout is not None
        said, open_ = json.loads(self.process.stdout.readline())
        return said, open_

    @property
    def waits(self) -> bool:
        """Whether it can take another client: it has neither ended nor stopped."""
        stopped = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        return self.process.poll() is None and psutil.Process(self.process.pid).status() not in stopped

    def close(self) -> None:
        self._send("")
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "closed\n"

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(WITHIN) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WITHIN)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()


@contextmanager
def calling_process(timeout: float) -> Iterator[CallingProcess]:
    """A process whose calls take so many seconds at most; kept for the next test if it is idle in the end."""
    loop = os.environ.get(LOOP, "")
    may_be_kept = _HOME is not None and _NETWORK.readlink() == _HOME
    caller = (_kept.pop(loop, None) if may_be_kept else None) or CallingProcess()
    watchdog = threading.Timer(3 * WITHIN, caller.process.kill)
    watchdog.start()
    caller.open(timeout)
    try:
        yield caller
        if may_be_kept and caller.waits:
            caller.close()
            _kept[loop] = caller
    finally:
        watchdog.cancel()
        watchdog.join()
        if caller not in _kept.values():
            caller.kill()


_kept: dict[str, CallingProcess] = {}
"""Processes that are idle, by their event loop."""


@atexit.register
def _end_all() -> None:
    for caller in _kept.values():
        caller.kill()


class Peer:
    """The other end, which reads only what it is told to read: its window is a few kilobytes and then zero."""

    def __init__(self, listener: socket.socket, *, tls: bool) -> None:
        self.listener = listener
        self._tls = tls
        self.port = listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}"
        self.taken: list[socket.socket] = []

    def take(self) -> socket.socket:
        """Accept a connection, with its TLS handshake."""
        connection, _ = self.listener.accept()
        connection.settimeout(WITHIN)
        self.taken.append(connection)
        if self._tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(CERTIFICATE)
            connection = context.wrap_socket(connection, server_side=True)
            self.taken.append(connection)
        return connection

    def left(self) -> list[str]:
        """The states of the sockets towards it that the kernel has, also of those that no process has any more.

        One in TIME_WAIT has nothing to send, and may be another test's: of a server that a client had this port for.
        """
        return [
            each.status
            for each in psutil.net_connections("tcp")
            if each.raddr and each.raddr.port == self.port and each.status != psutil.CONN_TIME_WAIT
        ]

    def close(self) -> None:
        for each in (*self.taken, self.listener):
            each.close()


@contextmanager
def a_peer(*, tls: bool = False, backlog: int = 5) -> Iterator[Peer]:
    """Listen on loopback."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.settimeout(WITHIN)
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        peer = Peer(listener, tls=tls)
        try:
            yield peer
        finally:
            peer.close()


def request_from(connection: socket.socket) -> bytes:
    read = b""
    while not is_whole(read):
        chunk = connection.recv(65_536)
        assert chunk, f"the connection ended in the middle of a request: {read[:200]!r}"
        read += chunk
    return read


def everything_from(connection: socket.socket) -> tuple[bytes, str]:
    """What still comes until the connection ends, and how it ends: `closed`, `reset` or `open` (nothing came)."""
    read = b""
    while True:
        try:
            chunk = connection.recv(65_536)
        except TimeoutError:
            return read, "open"
        except OSError:  # a TLS connection without a proper end, too
            return read, "reset"
        if not chunk:
            return read, "closed"
        read += chunk


def is_whole(request: bytes) -> bool:
    """Whether a request is one: its headers, and a body as long as they say."""
    head, separator, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(separator) and len(body) >= int(lengths[0].split(b":")[1])

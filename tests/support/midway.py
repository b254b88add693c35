"""A proxy before PostgreSQL that stops a client in the middle of a transaction: it keeps the COMMIT back.

To the server this is a client that was stopped (SIGSTOP, a suspended host) with a transaction open, at a chosen moment.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_WITHIN = 60.0
_PORT = "5432"


class Midway:
    """Forwards everything until `hold`; made by `midway_to`.

    Attributes:
        dsn: the server's DSN by way of the proxy.
    """

    def __init__(self, target: str, listening: socket.socket) -> None:
        host, port = listening.getsockname()
        # Without encryption: it reads the messages.
        self.dsn = make_conninfo(target, host=host, hostaddr=None, port=port, sslmode="disable", gssencmode="disable")
        settings = conninfo_to_dict(target)
        self._host, self._port = str(settings.get("host") or "127.0.0.1"), int(str(settings.get("port") or _PORT))
        self._listening = listening
        self._text: bytes | None = None
        self._choosing = threading.Lock()
        self._held, self._let_go = threading.Event(), threading.Event()
        self._connections: list[_Connection] = []

    def hold(self, text: str) -> None:
        """Keep back the COMMIT of the next transaction in which the client sends this text."""
        self._held.clear()
        self._let_go.clear()
        self._text = text.encode()

    def wait_until_held(self) -> None:
        """Wait until a transaction is open, with all its statements sent but the COMMIT."""
        assert self._held.wait(_WITHIN), "no transaction with this text"

    def let_go(self) -> None:
        """Forward what was kept back."""
        self._text = None
        self._let_go.set()

    def serve(self) -> None:
        """Accept clients until `end`."""
        with suppress(OSError):  # it was shut down
            while True:
                client, _ = self._listening.accept()
                self._connections.append(_Connection(self, client, self._connect()))

    def end(self) -> None:
        """Close every connection."""
        self.let_go()
        self._listening.shutdown(socket.SHUT_RDWR)
        for connection in self._connections:
            connection.end()

    def before_commit(self, sent: bytes) -> None:
        """Wait here if the transaction in which this was sent is the chosen one."""
        with self._choosing:
            is_chosen = self._text is not None and self._text in sent
            if is_chosen:
                self._text = None
        if is_chosen:
            self._held.set()
            self._let_go.wait()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server


class _Connection:
    """One client's connection: a thread for each direction."""

    def __init__(self, midway: Midway, client: socket.socket, server: socket.socket) -> None:
        self._midway, self._client, self._server = midway, client, server
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._threads = [threading.Thread(target=target) for target in (self._requests, self._answers)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._hang_up()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def _hang_up(self) -> None:
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _answers(self) -> None:
        with suppress(OSError):
            while content := self._server.recv(65536):
                self._client.sendall(content)
        self._hang_up()

    def _requests(self) -> None:
        with suppress(OSError), self._client.makefile("rb") as source:
            self._server.sendall(_message(source, head=4))  # the start-up message has no kind
            commits, sent = set[bytes](), b""
            while message := _message(source, head=5):
                if _is_commit(message, commits):
                    self._midway.before_commit(sent)
                    sent = b""
                else:
                    sent += message
                self._server.sendall(message)
        self._hang_up()


def _message(source: BinaryIO, *, head: int) -> bytes:
    """The next message; empty at the end."""
    begun = source.read(head)
    return begun + source.read(int.from_bytes(begun[-4:], "big") - 4) if begun else b""


def _is_commit(message: bytes, commits: set[bytes]) -> bool:
    """Whether the server executes a COMMIT for this message; `commits` are the names of prepared ones."""
    kind, body = message[:1], message[5:]
    if kind == b"P":
        name, query, *_ = body.split(b"\0")
        (commits.add if query == b"COMMIT" else commits.discard)(name)
    if kind == b"B":
        _, name, *_ = body.split(b"\0")
        return name in commits
    return kind == b"Q" and body.startswith(b"COMMIT")


@contextmanager
def midway_to(dsn: str, address: str = "127.0.0.1") -> Iterator[Midway]:
    """Stand between clients, who come to this address, and the server."""
    with socket.create_server((address, 0)) as listening:
        midway = Midway(dsn, listening)
        serving = threading.Thread(target=midway.serve)
        serving.start()
        try:
            yield midway
        finally:
            midway.end()
            serving.join()

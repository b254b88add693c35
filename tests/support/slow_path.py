"""A path to PostgreSQL on which every answer arrives late, in order: a server or a network that is overloaded."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_PORT = "5432"
_LOOK_EVERY = 0.05


class SlowPath:
    """Made by `slow_path_to`.

    Attributes:
        dsn: the server's DSN by this path.
        seconds: by which an answer that leaves the server from now on is late.
    """

    def __init__(self, target: str, listening: socket.socket) -> None:
        host, port = listening.getsockname()
        self.dsn = make_conninfo(target, host=host, hostaddr=None, port=port, sslmode="disable", gssencmode="disable")
        self.seconds = 0.0
        settings = conninfo_to_dict(target)
        self._host, self._port = str(settings.get("host") or "127.0.0.1"), int(str(settings.get("port") or _PORT))
        self._listening = listening
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def serve(self) -> None:
        """Accept clients until `end`."""
        with suppress(OSError):  # it was shut down
            while True:
                client, _ = self._listening.accept()
                self._connect(client)

    def end(self) -> None:
        """Close every connection."""
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for each in self._sockets:
            _hang_up(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _connect(self, client: socket.socket) -> None:
        server = self._server()
        self._sockets += [client, server]
        late = queue.SimpleQueue[tuple[float, bytes]]()
        for work in (
            lambda: self._pass_on_at_once(client, server),
            lambda: self._take(server, late),
            lambda: self._pass_on_late(late, client),
        ):
            self._threads.append(threading.Thread(target=work, name="slow path"))
            self._threads[-1].start()

    def _server(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _pass_on_at_once(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while content := client.recv(65536):
                server.sendall(content)
        _hang_up(server)

    def _take(self, server: socket.socket, late: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        with suppress(OSError):
            while content := server.recv(65536):
                late.put((time.monotonic() + self.seconds, content))
        late.put((0, b""))

    def _pass_on_late(self, late: "queue.SimpleQueue[tuple[float, bytes]]", client: socket.socket) -> None:
        with suppress(OSError):
            while not self._over.is_set():
                due, content = late.get()
                while not self._over.wait(min(_LOOK_EVERY, max(0, due - time.monotonic()))):
                    if time.monotonic() >= due:
                        break
                if not content:
                    break
                client.sendall(content)
        _hang_up(client)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_path_to(dsn: str) -> Iterator[SlowPath]:
    """Stand between clients and the server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        path = SlowPath(dsn, listening)
        serving = threading.Thread(target=path.serve)
        serving.start()
        try:
            yield path
        finally:
            path.end()
            serving.join()

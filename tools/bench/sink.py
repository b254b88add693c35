"""The receiver of calls: a process that notes when a call's last byte has come, and answers 200."""

import asyncio
import http.client
import json
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

ON_OUR_PATH = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
"""The environment in which another process finds the modules that this one finds."""

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_HEAD_ENDS = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A call that has arrived, at nanoseconds of the monotonic clock."""

    at: int
    application_id: str


class Sink:
    """The sink from the benchmark's side; made by `sink()`."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def reset(self, delay: float = 0.0) -> None:
        """Forget all calls; from now on answer after so many seconds."""
        self._ask(f"/-/reset?delay={delay}", 10)

    def wait(self, applications: int, within: float) -> int:
        """Wait until so many applications have been sent; returns the moment of the last one's first call.

        Raises:
            TimeoutError: that took too long.
        """
        return int(self._ask(f"/-/wait?applications={applications}", within))

    def calls(self) -> list[Arrived]:
        """All calls since `reset`, in order."""
        return [Arrived(at, path.split("/")[3]) for at, path in json.loads(self._ask("/-/calls", 30))]

    def _ask(self, path: str, within: float) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=within)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def sink() -> Iterator[Sink]:
    """Run one; it ends with the `with`."""
    command = [sys.executable, "-m", "bench.sink"]
    with subprocess.Popen(command, env=ON_OUR_PATH, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Sink(int(process.stdout.readline()))
        finally:
            process.kill()


class _Calls:
    def __init__(self) -> None:
        self.delay = 0.0
        self.clear()

    def clear(self) -> None:
        self.arrived: list[tuple[int, str]] = []
        self._paths: set[str] = set()
        self._waiting: list[tuple[int, asyncio.Transport]] = []

    def add(self, path: str) -> None:
        now = time.monotonic_ns()
        self.arrived.append((now, path))
        if path not in self._paths:
            self._paths.add(path)
            for waiting in [each for each in self._waiting if len(self._paths) >= each[0]]:
                self._waiting.remove(waiting)
                waiting[1].write(_answer(str(now)))

    def wait(self, applications: int, transport: asyncio.Transport) -> None:
        if len(self._paths) >= applications:
            transport.write(_answer(str(self.arrived[-1][0] if self.arrived else 0)))
        else:
            self._waiting.append((applications, transport))


class _Connection(asyncio.Protocol):
    def __init__(self, calls: _Calls) -> None:
        self._calls = calls
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (head := self._read.find(_HEAD_ENDS)) >= 0:
            length = _LENGTH.search(self._read, 0, head)
            end = head + len(_HEAD_ENDS) + (int(length[1]) if length else 0)
            if len(self._read) < end:
                return
            path = self._read[: self._read.find(b"\r\n")].split(b" ")[1].decode()
            self._read = self._read[end:]
            if path.startswith("/-/"):
                self._asked(path)
            else:
                self._called(path)

    def _called(self, path: str) -> None:
        if self._calls.delay:
            asyncio.get_running_loop().call_later(self._calls.delay, self._transport.write, _OK)
        else:
            self._transport.write(_OK)
        self._calls.add(path)

    def _asked(self, path: str) -> None:
        url = urlsplit(path)
        parameters = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/-/reset":
                self._calls.clear()
                self._calls.delay = float(parameters["delay"])
                self._transport.write(_answer(""))
            case "/-/wait":
                self._calls.wait(int(parameters["applications"]), self._transport)
            case _:
                self._transport.write(_answer(json.dumps(self._calls.arrived)))


def _answer(text: str) -> bytes:
    body = text.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def _serve() -> None:
    calls = _Calls()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(calls), "127.0.0.1", 0, backlog=256)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve())

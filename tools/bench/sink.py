"""The receiver of calls: a process that notes when a call's last byte has come, and answers 200.

It is told what to do by lines on its standard input, and answers each by a line.
"""

import asyncio
import json
import os
import re
import select
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

ON_OUR_PATH = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
"""The environment in which another process finds the modules that this one finds."""

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_HEAD_ENDS = b"\r\n\r\n"


class Sink:
    """The sink from the benchmark's side; made by `sink()`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{self._ask('port')}"

    def reset(self, delay: float = 0.0) -> None:
        """Forget all calls; from now on answer after so many seconds."""
        self._ask(f"reset {delay}")

    def wait(self, applications: int, within: float) -> int:
        """Wait until so many applications have been sent; returns the moment of the last one's first call.

        Raises:
            TimeoutError: that took too long.
        """
        return int(self._ask(f"wait {applications}", within))

    def calls(self) -> list[tuple[str, int]]:
        """All calls since `reset`, in order: the application, and the nanoseconds of the monotonic clock."""
        return [(path.split("/")[3], at) for at, path in json.loads(self._ask("calls"))]

    def _ask(self, line: str, within: float = 30) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], within)[0]:
            raise TimeoutError(line)
        return self._process.stdout.readline().strip()


@contextmanager
def sink() -> Iterator[Sink]:
    """Run one; it ends with the `with`."""
    command, pipe = [sys.executable, "-m", "bench.sink"], subprocess.PIPE
    with subprocess.Popen(command, env=ON_OUR_PATH, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Sink(process)
        finally:
            process.kill()


class _Calls:
    def __init__(self) -> None:
        self.delay = 0.0
        self.came = asyncio.Event()
        self.clear()

    def clear(self) -> None:
        self.arrived: list[tuple[int, str]] = []
        self.first: dict[str, int] = {}
        self.wanted = 0

    def add(self, path: str) -> None:
        now = time.monotonic_ns()
        self.arrived.append((now, path))
        self.first.setdefault(path, now)
        if len(self.first) >= self.wanted:
            self.came.set()

    async def last_of(self, applications: int) -> int:
        """The moment at which so many have come."""
        self.came.clear()
        self.wanted = applications
        if len(self.first) < applications:
            await self.came.wait()
        return max(self.first.values(), default=0)


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
            if self._calls.delay:
                asyncio.get_running_loop().call_later(self._calls.delay, self._transport.write, _OK)
            else:
                self._transport.write(_OK)
            self._calls.add(path)


async def _serve() -> None:
    calls, loop, told = _Calls(), asyncio.get_running_loop(), asyncio.StreamReader()
    server = await loop.create_server(lambda: _Connection(calls), "127.0.0.1", 0, backlog=256)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    while line := (await told.readline()).decode().split():
        answer: object = ""
        match line:
            case ["port"]:
                answer = server.sockets[0].getsockname()[1]
            case ["reset", delay]:
                calls.clear()
                calls.delay = float(delay)
            case ["wait", applications]:
                answer = await calls.last_of(int(applications))
            case _:
                answer = json.dumps(calls.arrived)
        print(answer, flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve())

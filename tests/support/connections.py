"""A neighbour who opens connections to a port of this machine and says nothing, or half of something.

Run as `python -m support.connections PORT NUMBER KIND`, it opens that many at once, says `open`, and until its standard
input ends it opens those again that the other side has closed. It is a process, so that its limits are its own.
"""

import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TOKEN = "planted-admin-token-77c0"
"""The admin server's: without it no body is waited for."""

_FORM = (
    b"POST /fuse/release HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
)

WORDS = {
    "silent": b"",
    "half a header": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ",
    "half a body": _FORM + b"Content-Length: 10\r\n\r\nwatch",
    "half a chunk": _FORM + b"Transfer-Encoding: chunked\r\n\r\n20\r\nwatch",
}

_PACE = 0.1
"""Seconds between two rounds of opening again."""

_A_ROUND = 100
"""How many at most are opened again in a round."""


@contextmanager
def neighbour(port: int, number: int, kind: str) -> Iterator[None]:
    """Have so many connections opened, and opened again, meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-m", "support.connections", str(port), str(number), kind],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "open\n"
        yield
        assert process.poll() is None
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _main(port: int, number: int, words: bytes) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened: dict[int, socket.socket] = {}
    poll = select.poll()

    def more(number: int) -> None:
        for _ in range(number):
            connection = socket.socket()
            with suppress(OSError):
                connection.settimeout(5)
                connection.connect(("127.0.0.1", port))
                connection.sendall(words)
                connection.settimeout(0)
                opened[connection.fileno()] = connection
                poll.register(connection, select.POLLIN | select.POLLHUP | select.POLLERR)
                continue
            connection.close()

    more(number)
    print("open", flush=True)
    poll.register(0, select.POLLIN | select.POLLHUP)
    while True:
        ended = [descriptor for descriptor, _ in poll.poll(_PACE * 1000)]
        if 0 in ended:
            return
        for descriptor in ended:
            poll.unregister(descriptor)
            opened.pop(descriptor).close()
        more(min(number - len(opened), _A_ROUND))
        with suppress(TimeoutError):
            select.select([], [], [], _PACE)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), WORDS[sys.argv[3]])

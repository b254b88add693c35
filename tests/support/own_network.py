"""A network namespace of the test's own, whose loopback can be cut: packets are dropped, and nobody is told.

The calling thread lives in it meanwhile, and whatever it starts: processes, threads, sockets. What speaks by a unix
socket, PostgreSQL above all, is reached as before.
"""

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_HERE = Path("/proc/thread-self/ns/net")
_TABLE = "cdc_sync_test"


class Network:
    """Made by `own_network`."""

    def cut(self, port: int, only: Collection[int] = ()) -> None:
        """Drop what goes to or comes from a port, of all connections, or only of those from these ports."""
        ours = f" tcp {{}}port {{{{ {', '.join(map(str, only))} }}}}" if only else "{}"
        self.heal()
        _run(
            "nft",
            f"add table inet {_TABLE};"
            f"add chain inet {_TABLE} input {{ type filter hook input priority 0; }};"
            # On arrival: a drop on the way out would be told to the sender.
            f"add rule inet {_TABLE} input tcp dport {port}{ours.format('s' if only else '')} drop;"
            f"add rule inet {_TABLE} input tcp sport {port}{ours.format('d' if only else '')} drop;",
        )

    def heal(self) -> None:
        _run("nft", f"add table inet {_TABLE}; delete table inet {_TABLE};")

    def unsent(self, port: int) -> dict[int, int]:
        """Of each connection to a port of 127.0.0.1: how many bytes were not acknowledged, by its own port."""
        lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        queues = {_port(own): int(queue.split(":")[0], 16) for _, own, to, _, queue, *_ in fields if _port(to) == port}
        return {own: queued for own, queued in queues.items() if queued}


@contextmanager
def own_network() -> Iterator[Network]:
    """Live in a network namespace; skips the test where none can be made."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nft"))):
        pytest.skip("needs root, iproute2 and nftables, to make a network namespace and cut its loopback")
    name = f"cdc-sync-{secrets.token_hex(4)}"
    try:
        _run("ip", "netns", "add", name)
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"no network namespace can be made here: {refused.stderr.strip()}")
    before = os.open(_HERE, os.O_RDONLY)
    try:
        _enter(Path("/run/netns") / name)
        try:
            _run("ip", "link", "set", "lo", "up")
            yield Network()
        finally:
            _enter(before)
    finally:
        os.close(before)
        _run("ip", "netns", "delete", name)


def _port(address: str) -> int:
    return int(address.split(":")[1], 16)


def _enter(namespace: Path | int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(descriptor, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        if not isinstance(namespace, int):
            os.close(descriptor)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)

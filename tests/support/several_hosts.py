"""Hosts of their own for daemons: each has a network, a name and a boot; paths to the servers can be cut.

The servers' addresses are in the network of the calling thread (`own_network`). A daemon reaches the store's server at
`STORE` by TCP, HelloWork by its own loopback (the kernel translates), and the ATS's database by a unix socket.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from support import machine
from support.installation import Installation
from support.machine import DAEMONS, HELLOWORK, HELLOWORK_PORT, STORE, Host
from support.own_network import own_network

__all__ = ["DAEMONS", "HELLOWORK", "HELLOWORK_PORT", "STORE", "Hosts", "several_hosts"]

Direction = Literal["requests", "answers"]
BOTH: tuple[Direction, ...] = ("requests", "answers")


class Hosts:
    """Made by `several_hosts`."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts

    def place(self, installation: Installation, number: int) -> Installation:
        """Another installation of the same store, whose daemon runs on a host; `X_FROM` is `host-NUMBER`."""
        host = self._hosts[number - 1]
        other = installation.on(host.address, host.within)
        other.variables = {**installation.variables, "X_FROM": f"host-{number}"}
        return other

    @contextmanager
    def cut(self, number: int, servers: Sequence[str], directions: Sequence[Direction] = BOTH) -> Iterator[None]:
        """Drop the packets between a host and servers meanwhile, in these directions, without a word."""
        address = self._hosts[number - 1].address
        asyncio.run(machine.silence(directions, address, servers, begins=True))
        try:
            yield
        finally:
            asyncio.run(machine.silence(directions, address, servers, begins=False))

    def within(self, number: int, *, network_of: int) -> tuple[str, ...]:
        """What brings a process to a host, but into another one's network: as containers of one host have their own."""
        network = f"--net=/proc/{self._hosts[network_of - 1].keeper.pid}/ns/net"
        return tuple(network if part == "--net" else part for part in self._hosts[number - 1].within)

    def unsent(self, number: int) -> bool:
        """Whether a host's kernel has bytes for HelloWork that were not acknowledged, also of processes that ended."""
        lines = Path(f"/proc/{self._hosts[number - 1].keeper.pid}/net/tcp").read_text().splitlines()[1:]
        to_and_queue = [line.split()[2:5:2] for line in lines]
        return any(to.endswith(f":{HELLOWORK_PORT:04X}") and queue[:8] != "00000000" for to, queue in to_and_queue)

    def end(self) -> None:
        """Remove the hosts."""
        for host in self._hosts:
            host.end()


@contextmanager
def several_hosts(folder: Path) -> Iterator[Hosts]:
    """Three hosts; the calling thread is on the servers' side. Skips the test where none can be made."""
    if reason := machine.missing(clocks=False):
        pytest.skip(f"no hosts can be made: {reason}")
    with own_network():
        hosts = Hosts(machine.build(folder))
        try:
            yield hosts
        finally:
            hosts.end()

"""A machine for one run: namespaces, a network, and the daemons' hosts.

The kernel cleans up. The process that `enter` starts is the first one of its PID namespace: no process survives it, and
it does not survive its parent. Without processes the other namespaces end too.
"""

import asyncio
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

NETWORK = "10.77.0.0/24"
HELLOWORK = "10.77.0.41"
HELLOWORK_PORT = 8080
ATS = ("10.77.0.21", "10.77.0.22", "10.77.0.23")
STORE = ("10.77.0.31", "10.77.0.32")
DAEMONS = ("10.77.0.11", "10.77.0.12", "10.77.0.13")

_NAMESPACES = ("--net", "--pid", "--ipc", "--mount-proc", "--fork", "--kill-child")
_ENTER = ("setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES)
_PROGRAMS = {
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "nft": "nftables",
}
_READY_WITHIN = 10.0
_GONE_WITHIN = 10.0

# Pairs in the sets lose their packets to a server (requests) or from it (answers); its address is in this namespace.
_SILENCE = """
table inet torture {
    set requests { type ipv4_addr . ipv4_addr; }
    set answers { type ipv4_addr . ipv4_addr; }
    chain arriving {
        type filter hook input priority 0;
        ip saddr . ip daddr @requests drop;
    }
    chain leaving {
        type filter hook output priority 0;
        ip daddr . ip saddr @answers drop;
    }
}
"""

# The daemon calls plain http on loopback only: the kernel translates such an address to HelloWork's.
_TRANSLATION = f"""
table ip torture {{
    chain calls {{
        type nat hook output priority -100;
        ip daddr 127.0.0.1 tcp dport {HELLOWORK_PORT} dnat to {HELLOWORK};
    }}
    chain sources {{
        type nat hook postrouting priority 100;
        ip saddr 127.0.0.1 oifname "eth0" masquerade;
    }}
}}
"""


def faketime() -> Path | None:
    """The library for wrong clocks, if it is installed."""
    found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib/faketime").glob("libfaketime.so.1")]
    return found[0] if found else None


def missing(*, clocks: bool) -> str:
    """Why no machine can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            return f"there is no `{program}`: apt-get install {package}"
    if clocks and faketime() is None:
        return "there is no libfaketime: apt-get install faketime"
    # A container may forbid any part of it.
    script = f"ip link add br0 type bridge && nft {shlex.quote(_SILENCE)} && nft {shlex.quote(_TRANSLATION)}"
    tried = subprocess.run([*_ENTER, "sh", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    return f"namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else ""


def enter(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command on a machine of its own, not longer than this process; returns its exit code."""
    with subprocess.Popen([*_ENTER, *command], env=environment) as process:
        try:
            return process.wait()
        finally:
            first = psutil.Process(process.pid).children() if process.poll() is None else []
            process.kill()
            # The first process inside ends last.
            psutil.wait_procs(first, timeout=_GONE_WITHIN)


@dataclass(frozen=True, slots=True)
class Host:
    """A daemon's host; processes started `within` have its network."""

    address: str
    within: tuple[str, ...]


def build() -> list[Host]:
    """Make network and hosts, from within the machine."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "br0", "type", "bridge")
    for address in ("10.77.0.1", HELLOWORK, *ATS, *STORE):
        _run("ip", "address", "add", f"{address}/24", "dev", "br0")
    _run("ip", "link", "set", "br0", "up")
    _run("nft", _SILENCE)
    return [_host(number, address) for number, address in enumerate(DAEMONS)]


def _host(number: int, address: str) -> Host:
    # A network namespace lives as long as a process in it.
    keeper = subprocess.Popen(("unshare", "--net", "sleep", "infinity"))  # noqa: S607 - `missing` has found it
    namespace, ours = Path(f"/proc/{keeper.pid}/ns/net"), Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + _READY_WITHIN
    while namespace.readlink() == ours:
        if time.monotonic() > deadline:
            raise TimeoutError("unshare has made no network namespace")
        time.sleep(0.01)
    within = ("nsenter", f"--net={namespace}")
    _run("ip", "link", "add", f"veth{number}", "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid))
    _run("ip", "link", "set", f"veth{number}", "master", "br0", "up")
    _run(*within, "ip", "link", "set", "lo", "up")
    _run(*within, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    _run(*within, "ip", "link", "set", "eth0", "up")
    _run(*within, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
    _run(*within, "nft", _TRANSLATION)
    return Host(address, within)


async def silence(sets: Iterable[str], daemon: str, servers: Iterable[str], *, begins: bool) -> None:
    """Drop packets between a daemon and servers, or let them pass again."""
    pairs = ", ".join(f"{daemon} . {server}" for server in servers)
    verb = "add" if begins else "delete"
    rules = "; ".join(f"{verb} element inet torture {name} {{ {pairs} }}" for name in sets)
    await _do("nft", rules)


async def link(number: int, *, up: bool) -> None:
    """Unplug a daemon's host, or plug it in again."""
    await _do("ip", "link", "set", f"veth{number}", "up" if up else "down")


async def _do(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise RuntimeError(f"{' '.join(command)} has failed")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)

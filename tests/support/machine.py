"""A machine for one run: namespaces, a network, and the daemons' hosts, each with a name and a boot of its own.

The kernel cleans up. The process that `enter` starts is the first one of its PID namespace: no process survives it, and
it does not survive its parent. Without processes the other namespaces end too.
"""

import asyncio
import os
import select
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
    "mount": "util-linux",
    "hostname": "hostname",
    "ip": "iproute2",
    "nft": "nftables",
}
_BOOT = Path("/proc/sys/kernel/random/boot_id")
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


# A host has its own namespaces of network, name and mounts; they live as long as a process in them. Daemons tell hosts
# apart by names and boots.
_KEEPER = f"""
set -e
hostname "$1"
mount --bind "$2" {_BOOT}
ip link set lo up
echo ready
exec sleep infinity
"""


@dataclass(frozen=True, slots=True)
class Host:
    """A daemon's host; processes started `within` are on it, and so is its keeper, as long as it exists."""

    address: str
    within: tuple[str, ...]
    keeper: subprocess.Popen[bytes] = field(repr=False)

    def end(self) -> None:
        """Remove it; its processes must have ended."""
        self.keeper.kill()
        self.keeper.wait()


def build(folder: Path) -> list[Host]:
    """Make network and hosts, from within the machine; `folder` takes the hosts' files."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "br0", "type", "bridge")
    for address in ("10.77.0.1", HELLOWORK, *ATS, *STORE):
        _run("ip", "address", "add", f"{address}/24", "dev", "br0")
    _run("ip", "link", "set", "br0", "up")
    _run("nft", _SILENCE)
    return [_host(number, address, folder) for number, address in enumerate(DAEMONS)]


def name_of(number: int) -> str:
    """The name of a daemon's host."""
    return f"host-{number + 1}"


def _host(number: int, address: str, folder: Path) -> Host:
    boot = folder / f"boot-{number}"
    boot.write_text(f"{uuid.uuid4()}\n")
    keeper = _kept(("sh", "-c", _KEEPER, "sh", name_of(number), str(boot)))
    within = ("nsenter", f"--target={keeper.pid}", "--net", "--uts", "--mount", f"--wd={Path.cwd()}")
    _run("ip", "link", "add", f"veth{number}", "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid))
    _run("ip", "link", "set", f"veth{number}", "master", "br0", "up")
    _run(*within, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    _run(*within, "ip", "link", "set", "eth0", "up")
    _run(*within, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
    _run(*within, "nft", _TRANSLATION)
    return Host(address, within, keeper)


def _kept(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process in new namespaces, which ends with this one; it has made them when this returns."""
    enter = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "--mount")
    keeper = subprocess.Popen((*enter, *command), stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    with keeper.stdout as says:
        if not select.select([says], [], [], _READY_WITHIN)[0] or says.readline() != b"ready\n":
            keeper.kill()
            keeper.wait()
            raise RuntimeError("a host's namespaces cannot be made")
    return keeper


async def silence(sets: Iterable[str], daemon: str, servers: Iterable[str], *, begins: bool) -> None:
    """Drop packets between a daemon and servers, or let them pass again."""
    pairs = ", ".join(f"{daemon} . {server}" for server in servers)
    # Another silence of the same pairs may have ended before: what is deleted is added first.
    verbs = ("add",) if begins else ("add", "delete")
    rules = "; ".join(f"{verb} element inet torture {name} {{ {pairs} }}" for name in sets for verb in verbs)
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

"""A small Debian whose systemd boots in a container of this host, and shares its network.

Nothing of it outlives the process that started it: the container's processes die with it, by the kernel's hand, its
mounts are in a namespace of their own, and what it writes goes to memory over an untouched root file system. Only the
folder of a control group can be left behind by kill -9; the next run removes it.

systemd wants a tree of control groups of version 2 and nothing else, which a host may not have: the container gets one.
"""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from support.waiting import wait_until

PACKAGES = "systemd,systemd-sysv,dbus,procps,python3,ca-certificates"


def _suite() -> str:
    """The release that the package is for: this host's."""
    found = platform.freedesktop_os_release()
    return found["VERSION_CODENAME"] if found["ID"] == "debian" else "trixie"


SUITE = _suite()

_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "dpkg-deb": "dpkg",
}
_PATIENCE = 60.0
_HERE = "cdc-sync-test-"

_BOOT = """
echo $$ >"$1/cgroup.procs"
exec setpriv --pdeathsig KILL unshare --mount --propagation slave bash -c '
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec systemd-nspawn --quiet --directory="$1" --machine="$2" --boot --volatile=overlay --register=no --keep-unit \\
        --link-journal=no --resolv-conf=off --timezone=off --capability=CAP_BPF --console=pipe "${@:3}"
' boot "${@:2}"
"""


class MachineError(AssertionError):
    """The machine did not do what it was told."""


def what_is_missing() -> str | None:
    """What this host lacks to boot a machine, with the remedy; None if nothing."""
    if os.geteuid() != 0:
        return "booting a systemd needs root: run it with sudo"
    packages = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if packages:
        return f"missing: apt-get install --no-install-recommends {' '.join(sorted(packages))}"
    return None


def root_file_system(folder: Path) -> Path:
    """A root file system in `folder`, made unless it is there: it is never written to afterwards."""
    root = folder / f"{SUITE}-rootfs"
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"{SUITE}-rootfs.{os.getpid()}"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(new)]
        made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        if made.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise MachineError(f"mmdebstrap failed: {made.stderr[-2000:]}")
        new.rename(root)
    return root


class Machine:
    """A machine that has booted; made by `booted`."""

    def __init__(self, init: int) -> None:
        self._init = init

    def run(self, *command: str, check: bool = True, given: str | None = None, within: float = _PATIENCE) -> str:
        """Run a command in it; returns its output.

        Raises:
            MachineError: it failed, if that is checked.
        """
        code, output = self.try_to(*command, given=given, within=within)
        if check and code:
            raise MachineError(f"{' '.join(command)} ended with {code}:\n{output}")
        return output

    def try_to(self, *command: str, given: str | None = None, within: float = _PATIENCE) -> tuple[int, str]:
        """Run a command in it; returns the exit code and what it wrote."""
        ended = subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", *command],  # noqa: S607 - wherever the host has it
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            input=given or "",
            text=True,
            timeout=within,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )
        return ended.returncode, ended.stdout

    def write(self, path: str, text: str, mode: str = "0644") -> None:
        """Write a file, with the folders that it needs."""
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, given=text)

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.run("systemctl", "show", name, "--property", ",".join(properties))
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def wait_until(self, condition: str, *, of: str, is_: str, within: float = _PATIENCE) -> None:
        """Wait until a property of a unit has a value."""
        deadline = time.monotonic() + within
        while (found := self.unit(of, condition).get(condition)) != is_:
            if time.monotonic() > deadline:
                raise MachineError(f"{of}: {condition} is {found}, not {is_}; its journal:\n{self.journal(of)}")
            time.sleep(0.1)

    def journal(self, unit: str, *options: str) -> str:
        """The end of a unit's journal."""
        return self.run("journalctl", "--no-pager", "--unit", unit, "--lines", "60", *options, check=False)


@contextmanager
def booted(root: Path, shared: Mapping[Path, str] = MappingProxyType({})) -> Iterator[Machine]:
    """Boot a machine; it is gone with everything in it when the `with` is left.

    Args:
        root: its root file system, which is not written to.
        shared: folders of this host → where they appear in it, to be read.
    """
    groups = next(path for path in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if path.is_dir())
    for left in groups.glob(f"{_HERE}*"):
        if not Path("/proc", left.name.removeprefix(_HERE)).exists():
            _remove(left)
    group = groups / f"{_HERE}{os.getpid()}"
    group.mkdir()
    binds = [f"--bind-ro={host}:{there}" for host, there in shared.items()]
    process = subprocess.Popen(
        ["bash", "-euc", _BOOT, "boot", str(group), str(root), group.name, *binds],  # noqa: S607 - as above
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        machine = Machine(_init_of(process))
        wait_until(lambda: machine.try_to("test", "-S", "/run/dbus/system_bus_socket")[0] == 0, "the machine's bus")
        machine.try_to("systemctl", "is-system-running", "--wait")
        yield machine
    finally:
        _end(process)
        _remove(group)


def _init_of(process: "subprocess.Popen[str]") -> int:
    found: list[int] = []

    def look() -> bool:
        if process.poll() is not None:
            raise MachineError(f"it does not boot: {process.stdout.read() if process.stdout else ''}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        found[:] = [int(child) for child in children if _command(int(child)) == "systemd"]
        return bool(found)

    wait_until(look, "the machine's first process")
    return found[0]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _end(process: "subprocess.Popen[str]") -> None:
    """Switch it off; the quick way, since what it holds is in memory."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_PATIENCE)


def _remove(group: Path) -> None:
    """Remove a control group, those below it first, when its last process is gone."""
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _PATIENCE
    while group.exists() and time.monotonic() < deadline:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        time.sleep(0.05)

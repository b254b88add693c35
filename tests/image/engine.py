"""podman on a host without a systemd of its own, with everything that it keeps in one folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BASE = "docker.io/library/python:3.13-slim"
SUITE = "trixie"

_TOOLS = ("podman", "crun", "mmdebstrap")
_INCLUDE = "python3,python3-venv,python3-pip,ca-certificates"
_LONG = 300.0

_CONTAINERS = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=65536:65536"]
cgroups = "disabled"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

# podman looks for control groups of version 2 and nothing else, which a host may not have. What it mounts is in a
# namespace that this process holds, and gone with it.
_HOLD = """
exec setpriv --pdeathsig KILL unshare --mount --propagation slave bash -c '
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    echo ready
    exec sleep infinity
'
"""


def what_is_missing() -> str | None:
    """What this host lacks to build and run images, with the remedy; None if nothing."""
    if os.geteuid() != 0:
        return "building the image here needs root: run it with sudo"
    packages = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if packages:
        return f"missing: apt-get install --no-install-recommends {' '.join(packages)}"
    return None


class Engine:
    """podman with storage of its own; made by `engine`."""

    def __init__(self, folder: Path, holder: int) -> None:
        self._folder = folder
        self._holder = holder
        self._configuration = folder / "containers.conf"
        self._configuration.write_text(_CONTAINERS)

    def run(self, *arguments: str) -> str:
        """Run a podman command; returns its output, and fails with it."""
        code, output = self.try_to(*arguments)
        assert code == 0, f"podman {' '.join(arguments)} ended with {code}:\n{output[-4000:]}"
        return output

    def try_to(self, *arguments: str) -> tuple[int, str]:
        """Run a podman command; returns the exit code and what it wrote."""
        where = [f"--root={self._folder}/storage", f"--runroot={self._folder}/run"]
        ended = subprocess.run(
            ["nsenter", "--target", str(self._holder), "--mount", "podman", *where, *arguments],  # noqa: S607
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LONG,
            cwd=self._folder,
            env={**os.environ, "CONTAINERS_CONF": str(self._configuration)},
        )
        return ended.returncode, ended.stdout


@contextmanager
def engine() -> Iterator[Engine]:
    """A podman whose images and containers are gone in the end."""
    holder = subprocess.Popen(["bash", "-euc", _HOLD], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S607
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with tempfile.TemporaryDirectory(prefix="cdc-sync-podman-", ignore_cleanup_errors=True) as folder:
            own = Engine(Path(folder), holder.pid)
            try:
                yield own
            finally:
                own.try_to("rm", "--all", "--force", "--time=0")
    finally:
        holder.kill()
        holder.communicate()


def base_image(cache: Path) -> Path:
    """The stand-in for the base image, as a tar, made unless it is there."""
    made = cache / f"{SUITE}-python.tar"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        new = cache / f"{SUITE}-python.{os.getpid()}.tar"
        certificates = Path("/usr/local/share/ca-certificates")
        hooks = [f"copy-in {file} /usr/local/share/ca-certificates" for file in sorted(certificates.glob("*.crt"))]
        hooks += [
            'chroot "$1" update-ca-certificates',
            'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
            'ln -s /usr/bin/python3 "$1"/usr/local/bin/python3',
            'ln -s /usr/bin/python3 "$1"/usr/local/bin/python',
        ]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_INCLUDE}"]
        command += [f"--customize-hook={hook}" for hook in hooks]
        ended = subprocess.run([*command, SUITE, str(new)], check=False, capture_output=True, text=True, timeout=_LONG)
        assert ended.returncode == 0, ended.stderr[-2000:]
        new.rename(made)
    return made
